//! Tests of taking outputs in, and of sweeping them, against an API in memory and a volume in a directory.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::fixture::{Fixture, RUN, UID};
use super::*;
use crate::protocol::Nonce;

const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Retention = Retention { age: DAY, bytes: 1 << 30 };

struct World {
    fixture: Fixture,
    outputs: Outputs,
    dir: tempfile::TempDir,
}

/// A run that attempt 1 ended and attempt 2 has claimed.
fn world() -> World {
    let mut fixture = Fixture::new();
    fixture.api.change(RUN, |run| {
        let attempt = |number: u8| {
            let hash = Nonce::from_bytes([number; 16]).hash();
            json!({"number": number, "jobs": 1, "job": "j", "podUID": "p", "nonceHash": hash})
        };
        run["status"] = json!({"phase": "Running", "attempts": [attempt(1), attempt(2)]});
    });
    fixture.refresh();
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    World { fixture, outputs, dir }
}

impl World {
    async fn upload(&self, attempt: u32, nonce: u8, stdout: &str) -> u16 {
        let nonce = Nonce::from_bytes([nonce; 16]);
        let upload = OutputUpload { attempt, nonce, stdout: stdout.into(), stderr: b"err".to_vec() };
        let context = &self.fixture.context;
        let request = Request::post(format!("/v1/runs/{UID}/output"))
            .header("authorization", format!("Bearer {}", context.token(UID, attempt).to_hex()))
            .body(Body::from(serde_json::to_vec(&upload).unwrap()))
            .unwrap();
        let routes = routes(context.clone(), self.outputs.clone());
        routes.oneshot(request).await.unwrap().status().as_u16()
    }

    fn kept(&self) -> Vec<String> {
        let read = |kept: &KeptOutput| self.outputs.read(kept).unwrap();
        let shown = |kept: &KeptOutput| format!("{} {}", kept.attempt, String::from_utf8_lossy(&read(kept).0));
        self.outputs.list().unwrap().iter().map(shown).collect()
    }

    async fn sweep(&self, now: SystemTime) -> usize {
        sweep(&self.fixture.context, &self.outputs, RETENTION, now).await.unwrap()
    }

    fn status(&self) -> Value {
        self.fixture.status()
    }
}

#[tokio::test]
async fn what_each_runner_that_held_the_claim_hands_over_is_kept_without_a_write() {
    let world = world();
    assert_eq!(world.upload(1, 1, "first").await, 200);
    assert_eq!(world.upload(2, 2, "second").await, 200);
    assert_eq!(world.upload(2, 2, "second again").await, 200);
    assert_eq!(world.kept(), ["1 first", "2 second"]);
    assert_eq!(world.fixture.api.writes(), [""; 0]);
}

#[tokio::test]
async fn nobody_else_has_anything_kept() {
    let world = world();
    assert_eq!(world.upload(2, 1, "of another attempt").await, 409);
    assert_eq!(world.upload(3, 3, "of none").await, 409);
    world.fixture.api.change(RUN, |run| run["metadata"]["uid"] = "another".into());
    let mut world = world;
    world.fixture.refresh();
    assert_eq!(world.upload(1, 1, "of a run that is gone").await, 410);
    assert_eq!(world.kept(), [""; 0]);
}

#[tokio::test]
async fn a_run_that_is_being_deleted_keeps_nothing() {
    let mut world = world();
    world.fixture.api.change(RUN, |run| run["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    world.fixture.refresh();
    assert_eq!(world.upload(1, 1, "late").await, 410);
    assert_eq!(world.kept(), [""; 0]);
}

#[tokio::test]
async fn an_output_that_cannot_be_kept_is_said_and_the_run_stays_what_it_is() {
    let world = world();
    let output = json!({"attempt": 2, "stdoutBytes": 6, "stderrBytes": 3, "truncated": false});
    world.fixture.api.change(RUN, |run| {
        run["status"]["phase"] = "Succeeded".into();
        run["status"]["output"] = output;
    });
    std::fs::remove_dir_all(world.dir.path().join("runs")).unwrap();
    assert_eq!(world.upload(2, 2, "second").await, 409);
    assert_eq!(world.status()["phase"], "Succeeded");
    assert_eq!(world.status()["output"], Value::Null);
    let event = async {
        loop {
            let writes = world.fixture.api.writes();
            if writes.iter().any(|write| write.starts_with("POST") && write.ends_with("/events")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), event).await.unwrap();
}

#[tokio::test]
async fn a_conflict_does_not_leave_the_run_saying_what_is_not_true() {
    let world = world();
    let output = json!({"attempt": 2, "stdoutBytes": 6, "stderrBytes": 3, "truncated": false});
    world.fixture.api.change(RUN, |run| run["status"]["output"] = output);
    let mut conflicts = 3;
    world.fixture.api.before(move |_, method, path| {
        let is_it = *method == axum::http::Method::PUT && path.ends_with("/backup/status") && conflicts > 0;
        conflicts -= i32::from(is_it);
        is_it.then_some(axum::http::StatusCode::CONFLICT)
    });
    std::fs::remove_dir_all(world.dir.path().join("runs")).unwrap();
    assert_eq!(world.upload(2, 2, "second").await, 409);
    assert_eq!(world.status()["output"], Value::Null);
}

#[tokio::test]
async fn an_outcome_without_report_takes_an_earlier_attempts_numbers_away() {
    let world = world();
    let output = json!({"attempt": 1, "stdoutBytes": 6, "stderrBytes": 3, "truncated": false});
    world.fixture.api.change(RUN, |run| run["status"]["output"] = output);
    let outcome = json!({
        "ending": "Exited", "exitCode": 0, "durationMillis": 1,
        "stdout": {"text": "", "droppedBytes": 0}, "stderr": {"text": "", "droppedBytes": 0},
    });
    let context = &world.fixture.context;
    let run = context.read(UID).await.unwrap().unwrap();
    context.conclude(&run, &serde_json::from_value(outcome).unwrap()).await.unwrap();
    assert_eq!((&world.status()["phase"], &world.status()["output"]), (&"Succeeded".into(), &Value::Null));
}

#[test]
fn the_next_sweep_comes_early_once_more_is_kept_than_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    let (least, minute) = (Duration::from_secs(5), Duration::from_secs(60));
    let due = |elapsed, bytes| is_due(elapsed, least, &outputs, Retention { age: DAY, bytes });
    assert!(!due(2 * least, 0) && due(minute, 0), "nothing is kept");
    outputs.keep(&OutputKey::new("team-a", "backup", UID).unwrap(), 1, b"out", b"err").unwrap();
    assert!(!due(2 * least, 1 << 20) && due(minute, 1 << 20));
    assert!(!due(least / 2, 1000) && due(least, 1000));
}

#[tokio::test]
async fn outputs_go_with_their_run_and_when_they_are_too_old() {
    let mut world = world();
    world.upload(1, 1, "first").await;
    let now = SystemTime::now();
    assert_eq!(world.sweep(now).await, 0);
    assert_eq!(world.sweep(now + 2 * DAY).await, 1);
    world.upload(1, 1, "first").await;
    world.fixture.api.remove(RUN);
    assert_eq!(world.sweep(now).await, 0, "the cache still shows the run");
    world.fixture.refresh();
    assert_eq!(world.sweep(now).await, 1);
    assert_eq!(world.kept(), [""; 0]);
}

#[tokio::test]
async fn the_outputs_of_a_run_that_only_the_cache_misses_stay() {
    let mut world = world();
    world.upload(1, 1, "first").await;
    let run = world.fixture.api.get(RUN).unwrap();
    world.fixture.api.remove(RUN);
    world.fixture.refresh();
    world.fixture.api.put(RUN, run);
    assert_eq!(world.sweep(SystemTime::now()).await, 0);
}

#[tokio::test]
async fn the_write_that_stores_the_outcome_says_how_much_was_printed() {
    let world = world();
    let outcome = json!({
        "ending": "Exited", "exitCode": 0, "durationMillis": 1,
        "stdout": {"text": "PowerOn", "droppedBytes": 0}, "stderr": {"text": "", "droppedBytes": 0},
    });
    let output = json!({"stdoutBytes": 5_000_000_000_u64, "stderrBytes": 0, "truncated": true});
    let report = json!({"attempt": 2, "nonce": Nonce::from_bytes([2; 16]), "outcome": outcome, "output": output});
    let context = &world.fixture.context;
    let request = Request::post(format!("/v1/runs/{UID}/report"))
        .header("authorization", format!("Bearer {}", context.token(UID, 2).to_hex()))
        .body(Body::from(report.to_string()))
        .unwrap();
    assert_eq!(super::super::routes(context.clone()).oneshot(request).await.unwrap().status(), 200);
    assert_eq!(world.status()["phase"], "Succeeded");
    let said = json!({"attempt": 2, "stdoutBytes": 5_000_000_000_u64, "stderrBytes": 0, "truncated": true});
    assert_eq!(world.status()["output"], said);
    let status_writes = world.fixture.api.writes().into_iter().filter(|write| write.ends_with("/backup/status"));
    assert_eq!(status_writes.count(), 1);
}
