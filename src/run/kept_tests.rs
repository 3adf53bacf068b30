//! Tests of what the caches keep, and that a part of a run is never taken for the whole.

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::controller::reconcile;
use super::super::fixture::{self, Fixture, PODS, RUN, UID};
use super::*;
use crate::protocol::{Nonce, TerminationMessage};

/// A run as large as one can be: 96 KiB of parameters, 64 KiB of result, tails, and what kubectl and the API add.
fn large(phase: &str) -> Value {
    let mut run = fixture::run();
    let parameters: serde_json::Map<_, _> = (0..12).map(|n| (format!("p{n}"), json!("x".repeat(8000)))).collect();
    run["spec"]["parameters"] = parameters.into();
    run["metadata"]["generateName"] = json!("backup-");
    run["metadata"]["creationTimestamp"] = json!("2026-11-23T10:00:00Z");
    run["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": run["spec"].to_string()});
    run["metadata"]["managedFields"] =
        json!([{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:p": "x".repeat(4000)}}}]);
    run["spec"]["ttlSecondsAfterFinished"] = json!(60);
    run["status"] = json!({
        "phase": phase, "completionTime": "2026-11-23T10:01:00Z", "message": "m".repeat(4000), "timeoutSeconds": 60,
        "revision": {"treeDigest": format!("sha256:{}", "a".repeat(64)), "manifestDigest": format!("sha256:{}", "b".repeat(64))},
        "attempts": [{"number": 1, "jobs": 1, "job": "arun-6f1c-1-1", "podUID": "p1", "decidedAt": "2026-11-23T10:00:00.000000Z",
            "nonceHash": Nonce::from_bytes([1; 16]).hash(), "claimedAt": "2026-11-23T10:00:01.000000Z"}],
        "result": {"text": "r".repeat(65_000)}, "stdoutTail": "o".repeat(4096), "stderrTail": "e".repeat(4096),
    });
    run
}

fn cut(object: Value) -> ActionRun {
    let mut guard = serde_json::from_value(object).unwrap();
    run(&mut guard);
    guard.0.unwrap()
}

#[test]
fn ten_thousand_of_the_largest_finished_runs_take_a_tenth_of_the_operators_memory() {
    let whole = large("Succeeded").to_string().len();
    let cut = cut(large("Succeeded"));
    let text = serde_json::to_string(&cut).unwrap().len();
    // Strings of JSON are strings in memory; around them is the structure itself.
    let bytes = text + size_of::<ActionRun>();
    println!("a finished run: {whole} bytes of JSON, of which {text} are kept, {bytes} in memory");
    assert!(whole > 250_000 && bytes * 10_000 < 51 << 20, "{whole} {bytes}");
    assert!(is_cut(&cut));
}

#[test]
fn what_decisions_rest_on_is_kept() {
    let whole: ActionRun = serde_json::from_value(large("Failed")).unwrap();
    let cut = cut(large("Failed"));
    assert_eq!(cut.metadata.uid, whole.metadata.uid);
    assert_eq!(cut.metadata.resource_version, whole.metadata.resource_version);
    assert_eq!(cut.metadata.generate_name, whole.metadata.generate_name);
    assert_eq!(cut.metadata.finalizers, whole.metadata.finalizers);
    assert_eq!(cut.metadata.creation_timestamp, whole.metadata.creation_timestamp);
    assert_eq!(cut.spec.extension_ref, whole.spec.extension_ref);
    assert_eq!(cut.spec.ttl_seconds_after_finished, Some(60));
    let (cut, whole) = (cut.status.unwrap(), whole.status.unwrap());
    assert_eq!((cut.phase, cut.completion_time), (whole.phase, whole.completion_time));
    assert_eq!((cut.attempts, cut.revision), (whole.attempts, whole.revision));
}

#[test]
fn a_run_that_has_not_ended_loses_its_managed_fields_alone() {
    let mut whole: ActionRun = serde_json::from_value(large("Running")).unwrap();
    whole.metadata.managed_fields = None;
    let kept = cut(large("Running"));
    assert!(kept == whole);
    assert!(!is_cut(&kept));
}

#[tokio::test]
async fn a_part_of_a_run_is_never_written() {
    let fixture = Fixture::new();
    let cut = cut(large("Succeeded"));
    let error = fixture.context.write(&cut, cut.status.clone().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("only a part of the run is cached"), "{error}");
    assert_eq!(fixture.api.writes(), [""; 0]);
}

fn ended_pod(context: &Context) -> Value {
    let outcome = fixture::outcome("PowerOn", 5);
    let message = TerminationMessage::Ended { attempt: 1, nonce: Nonce::from_bytes([1; 16]), outcome };
    let state = json!({"terminated": {"exitCode": 0, "message": message.seal(&context.token(UID, 1))}});
    let status = json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "runner", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state}]});
    fixture::pod("p1", 1, status)
}

async fn reconciled(fixture: &mut Fixture) {
    fixture.refresh();
    let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
    assert!(is_cut(run.0.as_ref().unwrap()));
    reconcile(run, fixture.context.clone()).await.unwrap();
}

#[tokio::test]
async fn a_late_outcome_replaces_an_unknown_one_in_the_whole_run() {
    let mut fixture = Fixture::new();
    fixture.api.put(RUN, large("OutcomeUnknown"));
    fixture.api.put(&format!("{PODS}/pod-p1"), ended_pod(&fixture.context));
    reconciled(&mut fixture).await;
    let run = fixture.api.get(RUN).unwrap();
    assert_eq!((&run["status"]["phase"], &run["status"]["power"]), (&json!("Succeeded"), &json!("PowerOn")));
    assert_eq!(run["status"]["timeoutSeconds"], 60);
    assert_eq!(run["spec"], large("OutcomeUnknown")["spec"]);
}

#[tokio::test]
async fn the_end_of_a_finished_run_leaves_everything_else_as_it_is() {
    let mut fixture = Fixture::new();
    let mut run = large("Succeeded");
    run["metadata"]["finalizers"] = json!(["somebody.example.com/else", "outrigger.dev/job"]);
    run["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:02:00Z");
    fixture.api.put(RUN, run.clone());
    reconciled(&mut fixture).await;
    let left = fixture.api.get(RUN).unwrap();
    assert_eq!(left["metadata"]["finalizers"], json!(["somebody.example.com/else"]));
    assert_eq!((&left["spec"], &left["status"]), (&run["spec"], &run["status"]));
    assert_eq!(left["metadata"]["annotations"], run["metadata"]["annotations"]);
}

#[tokio::test]
async fn a_run_that_was_cancelled_while_its_end_was_written_is_not_in_progress_for_ever() {
    let mut fixture = Fixture::new();
    let mut run = large("Succeeded");
    run["spec"]["cancel"] = json!(true);
    run["metadata"]["generation"] = json!(2);
    run["status"]["observedGeneration"] = json!(1);
    run["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "m",
        "observedGeneration": 1, "lastTransitionTime": "2026-11-23T10:01:00Z"}]);
    fixture.api.put(RUN, run.clone());
    reconciled(&mut fixture).await;
    run["status"]["observedGeneration"] = json!(2);
    run["status"]["conditions"][0]["observedGeneration"] = json!(2);
    let stored = fixture.api.get(RUN).unwrap();
    assert_eq!((&stored["status"], &stored["spec"]), (&run["status"], &run["spec"]));
    assert_eq!(fixture.api.writes(), [format!("PUT {RUN}/status")]);
    reconciled(&mut fixture).await;
    assert_eq!(fixture.api.writes().len(), 1);
}
