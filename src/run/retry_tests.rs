//! Tests of retries: which outcomes are repeated, when, and what may come in between.

use serde_json::{Value, json};

use super::super::decide::{Observed, Plan, Start, Step, decide, start_deadline};
use super::super::fixture::UID;
use super::super::job::job_name;
use super::super::view::JobView;
use super::super::{status, verdict};
use super::*;
use crate::api::run::RunRevision;
use crate::api::{ActionRunStatus, RUN_FINALIZER};
use crate::protocol::{Ending, Nonce, Outcome, Stream};
use crate::validate::{Refusal, RoleType};

const CREATED: &str = "2026-11-23T10:00:00Z";

fn at(seconds: i64) -> Timestamp {
    CREATED.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn revision(tree: &str) -> RunRevision {
    RunRevision { tree_digest: tree.into(), manifest_digest: "m".into() }
}

fn ready(tree: &str) -> Start {
    Start::Ready { revision: revision(tree), timeout_seconds: 60, role_type: RoleType::User, grace_seconds: 10 }
}

/// A claimed run of which attempts may be repeated twice.
fn running(attempt: u32) -> ActionRun {
    let status: ActionRunStatus = serde_json::from_value(json!({
        "phase": "Pending", "revision": {"treeDigest": "t", "manifestDigest": "m"}, "timeoutSeconds": 60,
        "attempts": [{"number": attempt, "jobs": 1, "job": job_name(UID, attempt, 1)}],
    }))
    .unwrap();
    let mut run: ActionRun = serde_json::from_value(json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
        "metadata": {"name": "r", "namespace": "n", "uid": UID, "creationTimestamp": CREATED,
            "finalizers": [RUN_FINALIZER]},
        "spec": {"extensionRef": {"name": "e"}, "action": "start", "retries": 2}, "status": status,
    }))
    .unwrap();
    run.status = Some(status::claimed(&run, "p1", &Nonce::from_bytes([1; 16]), at(2)));
    run
}

fn verdict(run: &ActionRun, ending: Ending, exit_code: i32) -> Verdict {
    let outcome = Outcome {
        exit_code: Some(exit_code),
        stderr: Stream { text: "the disk is on fire".into(), dropped_bytes: 0 },
        duration_millis: 1,
        ..Outcome::of(ending)
    };
    verdict::verdict(run, None, None, &outcome)
}

fn failed() -> ActionRun {
    let mut run = running(1);
    let verdict = verdict(&run, Ending::Exited, 7);
    run.status = Some(status::retrying(&run, &verdict, follows(&run, &verdict).unwrap(), at(1000)));
    run
}

fn planned(run: &ActionRun, start: &Start, now: Timestamp) -> Plan {
    let job = JobView { name: job_name(UID, 1, 1), ..JobView::default() };
    decide(&Observed {
        run,
        start,
        jobs: &[job],
        pods: &[],
        queued: None,
        warning: None,
        stop_since: None,
        leading_since: None,
        now,
    })
}

fn value(plan: &Plan) -> Value {
    serde_json::to_value(plan.status.as_ref().unwrap()).unwrap()
}

#[test]
fn only_the_scripts_own_failure_is_repeated() {
    let cases = [
        (Ending::Exited, 7, Some(2)),
        (Ending::Timeout, 143, Some(2)),
        (Ending::Exited, 0, None),
        (Ending::Canceled, 143, None),
        (Ending::PodDeleted, 143, None),
        (Ending::NotStarted, 1, None),
    ];
    for (ending, code, expected) in cases {
        let run = running(1);
        assert_eq!(follows(&run, &verdict(&run, ending, code)), expected, "{ending:?}");
    }
    let run = running(1);
    // The script did what it was asked to.
    let lost = Verdict { reason: Reason::ResultLost, ..verdict(&run, Ending::Exited, 7) };
    assert_eq!(follows(&run, &lost), None);
}

#[test]
fn retries_are_counted_and_end_with_a_cancel_a_deletion_or_an_unknown_outcome() {
    let again = |change: &dyn Fn(&mut ActionRun)| {
        let mut run = running(1);
        change(&mut run);
        follows(&run, &verdict(&run, Ending::Exited, 7))
    };
    assert_eq!(again(&|run| *run = running(2)), Some(3));
    assert_eq!(again(&|run| *run = running(3)), None);
    assert_eq!(again(&|run| run.spec.retries = None), None);
    assert_eq!(again(&|run| run.spec.cancel = Some(true)), None);
    assert_eq!(again(&|run| run.status.as_mut().unwrap().phase = Some(Phase::OutcomeUnknown)), None);
    assert_eq!(again(&|run| run.metadata.deletion_timestamp = serde_json::from_value(json!(CREATED)).unwrap()), None);
}

#[test]
fn pauses_double_up_to_five_minutes_and_differ_by_run_and_attempt_alone() {
    for (failed, longest) in [(1, 10_000), (2, 20_000), (3, 40_000), (5, 160_000), (6, 300_000), (9, 300_000)] {
        for uid in ["a", "b", "c"] {
            let pause = pause(uid, failed).as_millis();
            assert!((longest * 4 / 5..=longest).contains(&pause), "{failed}: {pause}");
        }
    }
    assert_eq!(pause(UID, 1), pause(UID, 1));
    assert_ne!(pause("a", 1), pause("b", 1));
}

#[test]
fn a_failed_attempt_is_recorded_and_the_run_says_when_the_next_one_starts() {
    let run = failed();
    let status = serde_json::to_value(&run.status).unwrap();
    let next = starts_at(&run, paused(&run).unwrap()).unwrap();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Pending"), &json!("Retrying")));
    assert_eq!(
        status["message"],
        format!(
            "attempt 1 of 3 failed, attempt 2 starts at {next:.0}: Failed to complete start: the disk is on fire (exit code 7)"
        )
    );
    let attempt = &status["attempts"][0];
    assert_eq!((&attempt["exitCode"], &attempt["reason"]), (&json!(7), &json!("ActionFailed")));
    assert_eq!((&status["exitCode"], &status["completionTime"]), (&Value::Null, &Value::Null));
    assert_eq!(status["stderrTail"], "the disk is on fire");
    let conditions = status["conditions"].as_array().unwrap();
    let of = |type_: &str| conditions.iter().find(|condition| condition["type"] == type_).map(|c| &c["status"]);
    assert_eq!((of("Complete"), of("Reconciling")), (Some(&json!("False")), Some(&json!("True"))));
}

#[test]
fn the_pause_deletes_the_old_job_and_the_next_attempt_pins_what_is_installed_then() {
    let run = failed();
    let next = starts_at(&run, paused(&run).unwrap()).unwrap();
    let waiting = planned(&run, &ready("t2"), next - SignedDuration::from_secs(1));
    assert_eq!(
        (&waiting.status, waiting.steps.as_slice()),
        (&None, &[Step::DeleteJob { name: job_name(UID, 1, 1) }][..])
    );
    assert!(waiting.again.unwrap() < std::time::Duration::from_millis(1100));
    let plan = planned(&run, &ready("t2"), next);
    let name = job_name(UID, 2, 1);
    assert_eq!(plan.steps[1], Step::CreateJob { name: name.clone(), attempt: 2 });
    assert!(plan.decides_to_start(), "rights are asked again");
    let status = value(&plan);
    assert_eq!(status["revision"]["treeDigest"], "t2");
    assert_eq!(status["attempts"][0]["reason"], "ActionFailed");
    assert_eq!((&status["attempts"][1]["number"], &status["attempts"][1]["job"]), (&json!(2), &json!(name)));
}

#[test]
fn a_later_attempt_has_a_start_deadline_of_its_own() {
    let mut run = failed();
    let next = starts_at(&run, paused(&run).unwrap()).unwrap();
    assert_eq!(start_deadline(&run), next + SignedDuration::from_secs(300));
    run.status = planned(&run, &ready("t"), next).status;
    assert_eq!(start_deadline(&run), next + SignedDuration::from_secs(300));
    let late = planned(&run, &ready("t"), next + SignedDuration::from_secs(300));
    let status = value(&late);
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("StartDeadlineExceeded")));
    assert_eq!(status["message"], "attempt 2 of the action did not start within 300 s");
}

#[test]
fn cancel_and_deletion_end_the_pause_and_keep_what_is_known_of_the_attempt() {
    let mut cancelled = failed();
    cancelled.spec.cancel = Some(true);
    let mut deleted = failed();
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!(CREATED)).unwrap();
    for (run, expected) in [(cancelled, "cancelled"), (deleted, "deleted")] {
        let plan = planned(&run, &ready("t"), at(1001));
        let status = value(&plan);
        assert_eq!(status["phase"], "Canceled");
        assert_eq!(status["message"], format!("{expected} before attempt 2 of the action started"));
        assert_eq!(status["attempts"][0]["reason"], "ActionFailed");
        assert_eq!(plan.steps, [Step::DeleteJob { name: job_name(UID, 1, 1) }]);
    }
}

#[test]
fn a_right_that_is_gone_ends_the_run_before_the_next_attempt() {
    let never = Start::Never(Refusal::new(Reason::NotAllowed, "user \"alice\" may not"));
    let status = value(&planned(&failed(), &never, at(1100)));
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NotAllowed")));
    assert_eq!(status["message"], "attempt 2 of the action cannot start: user \"alice\" may not");
    assert_eq!(status["attempts"][0]["reason"], "ActionFailed");
}

#[test]
fn a_new_claim_forgets_what_the_failed_attempt_printed() {
    let mut run = failed();
    run.status = planned(&run, &ready("t"), at(1100)).status;
    let status = status::claimed(&run, "p2", &Nonce::from_bytes([2; 16]), at(1101));
    assert_eq!((status.stderr_tail, status.attempts.len()), (None, 2));
}
