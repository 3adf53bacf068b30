//! Tests of the reconcile against an API in memory: how a run ends, and what goes with it.

use serde_json::{Value, json};

use super::super::fixture::{Fixture, JOBS, PODS, RUN, UID, outcome, pod};
use super::super::sweep::sweep;
use super::tests::{claimed, job_path, reconciled, stale};
use super::*;
use crate::protocol::{Nonce, TerminationMessage, Token};

#[tokio::test]
async fn a_claimed_pod_that_the_cache_does_not_show_yet_is_looked_for_before_it_is_given_up() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    claimed(&fixture);
    fixture.refresh();
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    stale(&fixture).await.unwrap();
    assert_eq!(fixture.status()["phase"], "Running");
    fixture.api.remove(&format!("{PODS}/pod-p1"));
    stale(&fixture).await.unwrap();
    assert_eq!(fixture.status()["phase"], "OutcomeUnknown");
}

/// The claimed pod as it vanishes, with what its runner left.
fn vanished(fixture: &Fixture, message: &TerminationMessage, token: &Token) {
    let state = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": message.seal(token)}});
    let status = json!({"phase": "Failed", "containerStatuses": [
        {"name": "runner", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state}]});
    fixture.context.caches.gone.note(&serde_json::from_value(pod("p1", 1, status)).unwrap());
}

#[tokio::test]
async fn what_a_pod_said_that_vanished_before_anybody_looked_counts_if_it_held_the_claim() {
    let not_started = |nonce| TerminationMessage::NotStarted {
        attempt: 1,
        nonce: Nonce::from_bytes([nonce; 16]),
        message: "drained".into(),
    };
    let ended =
        TerminationMessage::Ended { attempt: 1, nonce: Nonce::from_bytes([1; 16]), outcome: outcome("PowerOn", 5) };
    for (message, is_its_token, phase) in [
        (not_started(1), true, "Pending"),
        (ended, true, "Succeeded"),
        (not_started(2), true, "OutcomeUnknown"),
        (not_started(1), false, "OutcomeUnknown"),
    ] {
        let mut fixture = Fixture::new();
        reconciled(&mut fixture).await.unwrap();
        claimed(&fixture);
        vanished(&fixture, &message, &fixture.context.token(UID, if is_its_token { 1 } else { 2 }));
        reconciled(&mut fixture).await.unwrap();
        let status = fixture.status();
        assert_eq!(status["phase"], phase, "{message:?}: {status}");
        if phase == "Pending" {
            assert_eq!(status["message"], "the runner did not start the script: drained");
            assert!(status["attempts"][0].get("nonceHash").is_none(), "{status}");
            let jobs = fixture.api.under(JOBS).len();
            reconciled(&mut fixture).await.unwrap();
            assert_eq!((fixture.status()["phase"].as_str(), fixture.api.under(JOBS).len()), (Some("Pending"), jobs));
        }
    }
}

#[tokio::test]
async fn a_secret_answer_that_a_lost_outcome_left_goes_when_its_run_ends() {
    let secret = format!("/api/v1/namespaces/team-a/secrets/{}", super::super::live::result_secret(UID));
    for (action, stays) in [("getconsole", false), ("status", true)] {
        let mut fixture = Fixture::new();
        reconciled(&mut fixture).await.unwrap();
        claimed(&fixture);
        fixture.api.change(RUN, |run| run["spec"]["action"] = json!(action));
        fixture.api.put(&secret, json!({"metadata": {"name": "s"}}));
        reconciled(&mut fixture).await.unwrap();
        assert_eq!(fixture.status()["phase"], "OutcomeUnknown");
        assert_eq!(fixture.api.get(&secret).is_some(), stays, "{action}");
    }
}

#[tokio::test]
async fn an_unreported_outcome_is_stored_from_the_termination_message_and_the_job_deleted() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    claimed(&fixture);
    let outcome = outcome("PowerOn", 5);
    let message = TerminationMessage::Ended { attempt: 1, nonce: Nonce::from_bytes([1; 16]), outcome };
    let text = message.seal(&fixture.context.token(UID, 1));
    let state: Value = json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": text}});
    let status = json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "runner", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state}]});
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, status));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["phase"], "Succeeded");
    assert_eq!(fixture.status()["power"], "PowerOn");
    reconciled(&mut fixture).await.unwrap();
    assert!(fixture.api.get(&job_path(1)).is_none());
    // Attempt, Job, target, outcome, Job deletion; with claim, two events and the finalizer a run has eight writes of
    // its own and one of its target.
    let writes = fixture.api.writes().into_iter().filter(|write| !write.contains("/events")).count();
    assert_eq!(writes, 5, "{:?}", fixture.api.writes());
}

#[tokio::test]
async fn a_deleted_run_is_cancelled_cleaned_up_and_let_go() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    fixture.api.change(RUN, |run| run["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z"));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["phase"], "Canceled");
    assert!(fixture.api.get(&job_path(1)).is_none());
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.api.get(RUN).unwrap()["metadata"]["finalizers"], json!([]));
}

#[tokio::test]
async fn jobs_of_runs_that_are_gone_are_swept_and_others_are_kept() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    fixture.refresh();
    assert_eq!(sweep(&fixture.context).await.unwrap(), 0);
    // Even while its script runs.
    claimed(&fixture);
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    fixture.refresh();
    assert_eq!(sweep(&fixture.context).await.unwrap(), 0);
    fixture.api.remove(RUN);
    fixture.refresh();
    assert_eq!(sweep(&fixture.context).await.unwrap(), 1);
    assert!(fixture.api.get(&job_path(1)).is_none());
}

#[tokio::test]
async fn an_orphaned_job_that_cannot_be_deleted_keeps_no_other() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    let mut other = fixture.api.get(&job_path(1)).unwrap();
    other["metadata"]["name"] = json!("zz-other");
    other["metadata"]["labels"]["outrigger.dev/run-uid"] = json!("6f1c0000-0000-0000-0000-000000000002");
    fixture.api.put(&format!("{JOBS}/zz-other"), other);
    fixture.api.remove(RUN);
    fixture.refresh();
    let refused = axum::http::StatusCode::FORBIDDEN;
    let stuck = job_path(1);
    fixture.api.before(move |_, method, path| (method == "DELETE" && path == stuck).then_some(refused));
    assert!(sweep(&fixture.context).await.is_err());
    assert!(fixture.api.get(&job_path(1)).is_some());
    assert!(fixture.api.get(&format!("{JOBS}/zz-other")).is_none());
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_left_alone_until_it_is_deleted_and_then_let_go() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    fixture.api.change(RUN, |run| run["spec"]["action"] = json!({"of": "another version"}));
    let writes = fixture.api.writes().len();
    assert_eq!(reconciled(&mut fixture).await.unwrap(), Action::await_change());
    assert_eq!(sweep(&fixture.context).await.unwrap(), 0, "its Job is no orphan");
    assert_eq!(fixture.api.writes().len(), writes);
    fixture.api.change(RUN, |run| {
        run["metadata"]["deletionTimestamp"] = json!(Timestamp::now().to_string());
        run["metadata"]["finalizers"] = json!(["outrigger.dev/job", "example.com/other"]);
    });
    assert_ne!(reconciled(&mut fixture).await.unwrap(), Action::await_change());
    assert!(fixture.api.get(&job_path(1)).is_none());
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(
        fixture.api.get(RUN).unwrap()["metadata"]["finalizers"].as_array().unwrap().len(),
        2,
        "the pod ends first"
    );
    fixture.api.remove(&format!("{PODS}/pod-p1"));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.api.get(RUN).unwrap()["metadata"]["finalizers"], json!(["example.com/other"]));
}

#[tokio::test]
async fn what_does_not_heed_its_cancel_is_deleted_after_its_patience_and_no_other_pod_of_that_name() {
    let pod_path = format!("{PODS}/pod-p1");
    for (is_same, deleted) in [(true, true), (false, false)] {
        let mut fixture = Fixture::new();
        reconciled(&mut fixture).await.unwrap();
        claimed(&fixture);
        fixture.api.put(&pod_path, pod("p1", 1, json!({"phase": "Running"})));
        // Patience is counted from the deletion: 10 s of grace and 30 s.
        let ago = |seconds| (Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_secs(seconds)).to_string();
        fixture.api.change(RUN, |run| run["metadata"]["deletionTimestamp"] = json!(ago(30)));
        reconciled(&mut fixture).await.unwrap();
        assert!(fixture.api.get(&job_path(1)).is_some() && fixture.api.get(&pod_path).is_some());
        fixture.api.change(RUN, |run| run["metadata"]["deletionTimestamp"] = json!(ago(41)));
        fixture.refresh();
        if !is_same {
            fixture.api.change(&pod_path, |pod| pod["metadata"]["uid"] = json!("p2"));
        }
        // A precondition that fails is a conflict.
        assert_eq!(stale(&fixture).await.is_ok(), is_same);
        assert!(fixture.api.get(&job_path(1)).is_none());
        assert_eq!(fixture.api.get(&pod_path).is_none(), deleted);
        assert_eq!(fixture.status()["phase"], "Running");
    }
}

#[tokio::test]
async fn deleting_an_extension_fails_what_is_decided_and_what_pauses_and_waits_for_what_runs() {
    for (state, phase) in [("decided", "Failed"), ("paused", "Failed"), ("claimed", "Running")] {
        let mut fixture = Fixture::new();
        reconciled(&mut fixture).await.unwrap();
        if state == "claimed" {
            claimed(&fixture);
            fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
        }
        if state == "paused" {
            fixture.api.change(RUN, |run| {
                run["spec"]["retries"] = json!(1);
                run["status"]["attempts"][0]["nonceHash"] = json!("n");
                run["status"]["attempts"][0]["reason"] = json!("ActionFailed");
                run["status"]["attempts"][0]["endedAt"] = json!(format!("{:.6}", Timestamp::now()));
            });
        }
        let mut extension = super::super::fixture::extension();
        extension["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z");
        fixture.extend(extension);
        reconciled(&mut fixture).await.unwrap();
        assert_eq!(fixture.status()["phase"], phase, "{state}: {}", fixture.status());
        assert_eq!(fixture.api.get(&job_path(1)).is_some(), phase == "Running", "{state}");
        if phase == "Failed" {
            let message = fixture.status()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("\"redfish\" is being deleted"), "{state}: {message}");
        }
    }
}
