//! Tests of progress and reports against an API in memory: each makes an interleaving happen.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::fixture::{Fixture, PODS, RUN, TARGET, UID};
use super::tests::{claim_of, claimed, report_of, send};
use super::*;
use crate::protocol::Nonce;

#[tokio::test]
async fn a_report_is_acknowledged_after_it_is_stored_and_again_unchanged() {
    let fixture = claimed().await;
    assert_eq!(send(&fixture, "report", report_of(1, "{\"power_state\": \"PowerOn\"}")).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["power"]), (&json!("Succeeded"), &json!("PowerOn")));
    assert_eq!(status["exitCode"], 0);
    let target = fixture.api.get(TARGET).unwrap()["status"].clone();
    assert_eq!((&target["powerState"], &target["lastRun"]), (&json!("PowerOn"), &json!("team-a/backup")));
    assert_eq!(send(&fixture, "report", report_of(1, "{\"power_state\": \"PowerOff\"}")).await.0, 200);
    assert_eq!(fixture.status(), status);
}

#[tokio::test]
async fn a_report_that_conflicts_is_stored_on_what_changed() {
    let fixture = claimed().await;
    fixture.api.change_before(Method::PUT, "backup/status", RUN, |run| {
        run["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z");
        run["metadata"]["labels"] = json!({"a": "b"});
    });
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOff")).await.0, 200);
    let run = fixture.api.get(RUN).unwrap();
    assert_eq!(run["status"]["phase"], "Succeeded");
    assert_eq!(run["metadata"]["labels"]["a"], "b");
}

#[tokio::test]
async fn a_report_that_cannot_be_stored_is_not_acknowledged() {
    let fixture = claimed().await;
    fixture.api.before(|_, method, _| (*method == Method::PUT).then_some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOff")).await.0, 503);
    assert_eq!(fixture.status()["phase"], "Running");
}

#[tokio::test]
async fn a_run_that_is_gone_is_answered_gone() {
    let fixture = claimed().await;
    fixture.api.remove(RUN);
    assert_eq!(send(&fixture, "report", report_of(1, "")).await.0, 410);
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 410);
}

#[tokio::test]
async fn another_runners_report_is_refused() {
    let fixture = claimed().await;
    assert_eq!(send(&fixture, "report", report_of(2, "PowerOn")).await.0, 409);
    assert_eq!(fixture.status()["phase"], "Running");
}

#[tokio::test]
async fn a_late_report_replaces_an_unknown_outcome_once() {
    let fixture = claimed().await;
    fixture.api.change(RUN, |run| run["status"]["phase"] = json!("OutcomeUnknown"));
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200);
    assert_eq!(fixture.status()["power"], "PowerOn");
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOff")).await.0, 200);
    assert_eq!(fixture.status()["power"], "PowerOn");
}

fn ended_as(ending: &str, message: &str) -> Value {
    let mut report = report_of(1, "half of it");
    report["outcome"]["ending"] = json!(ending);
    report["outcome"]["message"] = json!(message);
    report
}

#[tokio::test]
async fn a_script_that_was_stopped_because_its_run_was_given_up_is_not_called_cancelled() {
    let fixture = claimed().await;
    fixture.api.change(RUN, |run| run["status"]["phase"] = json!("OutcomeUnknown"));
    let progress = json!({"attempt": 1, "nonce": Nonce::from_bytes([1; 16]), "stdoutTail": "", "stderrTail": ""});
    assert_eq!(send(&fixture, "progress", progress).await, (200, json!({"cancel": true})));
    let report = ended_as("Canceled", "stopped because the run was cancelled");
    assert_eq!(send(&fixture, "report", report.clone()).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("PodDeleted")), "{status}");
    let expected = "stopped because the run had been given up: its outcome was unknown, and its pod told to end";
    assert!(status["message"].as_str().unwrap().contains(expected), "{status}");
    // Deletion and cancel are what a runner may call so.
    for (path, value) in [("/spec/cancel", json!(true)), ("/metadata/deletionTimestamp", json!("2026-11-23T10:00:00Z"))]
    {
        let fixture = claimed().await;
        let (parent, key) = path.rsplit_once('/').unwrap();
        fixture.api.change(RUN, |run| run.pointer_mut(parent).unwrap()[key] = value);
        assert_eq!(send(&fixture, "report", report.clone()).await.0, 200);
        assert_eq!(fixture.status()["phase"], "Canceled", "{path}");
    }
}

#[tokio::test]
async fn a_script_that_ends_at_kubelets_eviction_keeps_kubelets_words() {
    let mut fixture = claimed().await;
    fixture.refresh();
    let report = ended_as("PodDeleted", "stopped because its pod was told to end");
    // Nobody deleted the pod, so kubelet ends it, and says why once the container is gone.
    let (code, refusal) = send(&fixture, "report", report.clone()).await;
    assert_eq!((code, &refusal["message"]), (503, &json!("kubelet ends the pod, and has not said why yet")));
    assert_eq!(fixture.status()["phase"], "Running");
    let words = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"256Mi\".";
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": words});
    fixture.api.change(&format!("{PODS}/pod-p1"), |pod| pod["status"] = evicted);
    fixture.refresh();
    assert_eq!(send(&fixture, "report", report).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")), "{status}");
    assert_eq!(status["message"], format!("while the action ran, the pod failed, Evicted: {words}"));
}

/// Lets what was left behind go on, until the run has ended; not for ever, so that one that never ends is a failure.
async fn ended(fixture: &Fixture) -> Value {
    for _ in 0..2000 {
        if fixture.status()["phase"] != "Running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.status()
}

#[tokio::test]
async fn a_report_that_is_held_back_is_stored_though_neither_runner_nor_kubelet_is_heard_again() {
    let mut fixture = claimed().await;
    fixture.refresh();
    let report = ended_as("PodDeleted", "stopped because its pod was told to end");
    // Its node shuts down.
    assert_eq!(send(&fixture, "report", report.clone()).await.0, 503);
    assert_eq!(send(&fixture, "report", report.clone()).await.0, 503);
    fixture.context.lose_patience(UID);
    let status = ended(&fixture).await;
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("PodDeleted")), "{status}");
    assert_eq!(send(&fixture, "report", report).await.0, 200);
    assert_eq!(fixture.status(), status);
}

#[tokio::test]
async fn a_report_that_is_held_back_says_what_kubelet_says_though_its_runner_is_not_heard_again() {
    let mut fixture = claimed().await;
    fixture.refresh();
    let report = ended_as("PodDeleted", "stopped because its pod was told to end");
    assert_eq!(send(&fixture, "report", report).await.0, 503);
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    fixture.api.change(&format!("{PODS}/pod-p1"), |pod| pod["status"] = evicted);
    fixture.refresh();
    assert_eq!(ended(&fixture).await["reason"], "Evicted");
}

#[tokio::test]
async fn a_script_that_ends_because_its_pod_was_deleted_is_believed_at_once() {
    let mut fixture = claimed().await;
    fixture.api.change(&format!("{PODS}/pod-p1"), |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2126-11-23T10:00:00Z");
    });
    fixture.refresh();
    let report = ended_as("PodDeleted", "stopped because its pod was told to end");
    assert_eq!(send(&fixture, "report", report).await.0, 200);
    assert_eq!(fixture.status()["reason"], "PodDeleted");
}

#[tokio::test]
async fn progress_writes_tails_at_a_bounded_rate_and_carries_cancel() {
    let fixture = claimed().await;
    let progress =
        |text: &str| json!({"attempt": 1, "nonce": Nonce::from_bytes([1; 16]), "stdoutTail": text, "stderrTail": ""});
    assert_eq!(send(&fixture, "progress", progress("one")).await, (200, json!({"cancel": false})));
    assert_eq!(send(&fixture, "progress", progress("two")).await.0, 200);
    assert_eq!(fixture.status()["stdoutTail"], "one");
    fixture.api.change(RUN, |run| run["spec"]["cancel"] = json!(true));
    assert_eq!(send(&fixture, "progress", progress("three")).await, (200, json!({"cancel": true})));
}

#[tokio::test]
async fn the_largest_report_is_taken() {
    use crate::runner::stream::{KEEP_STDERR_BYTES, KEEP_STDOUT_BYTES};
    let fixture = claimed().await;
    // Control bytes are what JSON makes the most of.
    let mut report = report_of(1, &"\0".repeat(KEEP_STDOUT_BYTES));
    report["outcome"]["stderr"]["text"] = json!("\0".repeat(KEEP_STDERR_BYTES));
    assert_eq!(send(&fixture, "report", report).await.0, 200);
    assert_eq!(fixture.status()["phase"], "Succeeded");
}

#[tokio::test]
async fn a_leader_that_does_not_know_the_extensions_yet_takes_no_report() {
    let mut fixture = claimed().await;
    let context = Arc::get_mut(&mut fixture.context).unwrap();
    let extensions = std::mem::replace(&mut context.caches.extensions, kube::runtime::reflector::store().0);
    for (what, body) in [("report", report_of(1, "PowerOn")), ("claim", claim_of("p1", 1))] {
        assert_eq!(send(&fixture, what, body).await.0, 503, "{what}");
    }
    assert_eq!(fixture.status()["phase"], "Running");
    assert_eq!(fixture.api.get(TARGET).unwrap()["status"], Value::Null);
    Arc::get_mut(&mut fixture.context).unwrap().caches.extensions = extensions;
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200);
    assert_eq!(fixture.api.get(TARGET).unwrap()["status"]["powerState"], "PowerOn");
}
