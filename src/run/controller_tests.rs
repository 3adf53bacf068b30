//! Tests of the reconcile against an API in memory.

use serde_json::{Value, json};

use super::super::fixture::{Fixture, JOBS, PODS, RUN, UID, outcome, pod};
use super::super::job::job_name;
use super::super::routes::tests as routes_tests;
use super::*;
use crate::protocol::{Nonce, TerminationMessage};

async fn reconciled(fixture: &mut Fixture) -> Result<Action, ReconcileError> {
    fixture.refresh();
    stale(fixture).await
}

/// Reconciles with what the caches hold.
async fn stale(fixture: &Fixture) -> Result<Action, ReconcileError> {
    let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
    reconcile(run, fixture.context.clone()).await
}

fn job_path(number: u32) -> String {
    format!("{JOBS}/{}", job_name(UID, 1, number))
}

fn claimed(fixture: &Fixture) {
    fixture.api.change(RUN, |run| {
        run["status"]["phase"] = json!("Running");
        run["status"]["attempts"][0]["podUID"] = json!("p1");
        run["status"]["attempts"][0]["nonceHash"] = json!(Nonce::from_bytes([1; 16]).hash());
        run["status"]["attempts"][0]["claimedAt"] = json!("2126-11-23T10:00:01.000000Z");
    });
}

#[tokio::test]
async fn a_new_run_is_decided_in_status_and_then_gets_its_job() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["phase"], "Pending");
    assert_eq!(fixture.api.writes(), [format!("PUT {RUN}/status"), format!("POST {JOBS}")]);
    let job = fixture.api.get(&job_path(1)).unwrap();
    assert_eq!(job["metadata"]["labels"]["outrigger.dev/run-uid"], UID);
    // The run is seen changed before its Job is seen: nothing is created twice.
    reconciled(&mut fixture).await.unwrap();
    fixture.api.remove(&job_path(1));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.api.writes().len(), 2);
}

#[tokio::test]
async fn a_reconcile_of_a_stale_run_writes_nothing() {
    let mut fixture = Fixture::new();
    fixture.refresh();
    fixture.api.change(RUN, |run| run["spec"]["cancel"] = json!(true));
    let error = stale(&fixture).await.unwrap_err();
    assert!(matches!(&error, ReconcileError::Api(error) if is_conflict(error)), "{error}");
    assert!(fixture.api.get(&job_path(1)).is_none());
}

#[tokio::test]
async fn a_foreign_job_of_that_name_is_not_taken_for_ours() {
    let mut fixture = Fixture::new();
    fixture.api.put(&job_path(1), json!({"metadata": {"name": job_name(UID, 1, 1), "labels": {}}}));
    let error = reconciled(&mut fixture).await.unwrap_err().to_string();
    assert_eq!(error, format!("Job {:?} exists and is not this run's: delete it", job_name(UID, 1, 1)));
    assert_eq!(fixture.status()["message"], format!("waiting: its Job cannot be created: {error}"));
    // It is said once.
    let writes = fixture.api.writes().len();
    assert!(reconciled(&mut fixture).await.is_err());
    assert_eq!(fixture.api.writes().len(), writes);
}

#[tokio::test]
async fn a_tree_that_is_lost_before_the_job_is_created_is_told() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    let mut extension = super::super::fixture::extension();
    for spec in ["/spec", "/status/resolved"] {
        extension.pointer_mut(spec).unwrap()["entrypoint"]["path"] = json!("gone.sh");
    }
    extension["status"]["artifact"]["manifestDigest"] = json!(crate::digest::Digest::of("new").to_string());
    fixture.extend(extension);
    assert!(reconciled(&mut fixture).await.is_err());
    let message = fixture.status()["message"].as_str().unwrap().to_owned();
    let expected = "waiting: its Job cannot be created: the installed tree cannot be used: gone.sh is not in sha256:";
    assert!(message.starts_with(expected), "{message}");
}

#[tokio::test]
async fn a_network_policy_that_is_refused_is_told() {
    let mut fixture = Fixture::new();
    let mut extension = super::super::fixture::extension();
    extension["spec"]["runtime"] = json!({"networkPolicy": {"egress": []}});
    fixture.extend(extension);
    let refused = axum::http::StatusCode::FORBIDDEN;
    fixture.api.before(move |_, _, path| path.contains("/networkpolicies/").then_some(refused));
    assert!(reconciled(&mut fixture).await.is_err());
    let message = fixture.status()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("waiting: its Job cannot be created: "), "{message}");
    assert!(fixture.api.get(&job_path(1)).is_none());
}

/// A volume that never answers, until the sender is dropped.
struct Hangs(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl crate::run::Trees for Hangs {
    fn entrypoint_digest(&self, _: &crate::digest::Digest, _: &str) -> Result<crate::digest::Digest, String> {
        let _ = self.0.lock().unwrap().recv();
        Err("it answers too late".into())
    }

    fn subpath(&self, _: &crate::digest::Digest) -> String {
        String::new()
    }
}

#[tokio::test]
async fn a_run_whose_volume_hangs_waits_and_can_be_cancelled() {
    let mut fixture = Fixture::new();
    let (let_go, go) = std::sync::mpsc::channel();
    Arc::get_mut(&mut fixture.context).unwrap().trees = Arc::new(Hangs(go.into()));
    let action = reconciled(&mut fixture).await.unwrap();
    // No watch tells that it answers again.
    assert!(action != Action::await_change() && action != Action::requeue(Duration::from_secs(300)), "{action:?}");
    let status = fixture.status();
    let message = "the store's volume does not answer within 5 s: \"redfish.sh\" cannot be read";
    assert_eq!((&status["reason"], &status["message"]), (&json!("EntrypointMissing"), &json!(message)));
    assert!(status.get("attempts").is_none());
    fixture.api.change(RUN, |run| run["spec"]["cancel"] = json!(true));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["phase"], "Canceled");
    drop(let_go);
}

#[tokio::test]
async fn a_run_of_an_extension_that_is_missing_says_so_and_waits() {
    let mut fixture = Fixture::new();
    fixture.api.change(RUN, |run| run["spec"]["extensionRef"]["name"] = json!("other"));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["message"], "extension \"other\" does not exist");
    assert_eq!(fixture.status()["phase"], "Pending");
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.api.writes().len(), 1);
}

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

#[tokio::test]
async fn a_secret_answer_that_a_lost_outcome_left_goes_when_its_run_ends() {
    let secret = format!("/api/v1/namespaces/team-a/secrets/{}", super::super::live::result_secret(UID));
    for (action, seconds, stays) in [
        ("getconsole", Some(3600), false),
        // The operator may not delete Secrets.
        ("getconsole", None, true),
        ("status", Some(3600), true),
    ] {
        let mut fixture = Fixture::new();
        Arc::get_mut(&mut fixture.context).unwrap().settings.secret_result_seconds = seconds;
        reconciled(&mut fixture).await.unwrap();
        claimed(&fixture);
        fixture.api.change(RUN, |run| run["spec"]["action"] = json!(action));
        fixture.api.put(&secret, json!({"metadata": {"name": "s"}}));
        reconciled(&mut fixture).await.unwrap();
        assert_eq!(fixture.status()["phase"], "OutcomeUnknown");
        assert_eq!(fixture.api.get(&secret).is_some(), stays, "{action} {seconds:?}");
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
    assert_eq!(super::super::sweep::sweep(&fixture.context).await.unwrap(), 0);
    // Even while its script runs.
    claimed(&fixture);
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    fixture.refresh();
    assert_eq!(super::super::sweep::sweep(&fixture.context).await.unwrap(), 0);
    fixture.api.remove(RUN);
    fixture.refresh();
    assert_eq!(super::super::sweep::sweep(&fixture.context).await.unwrap(), 1);
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
    assert!(super::super::sweep::sweep(&fixture.context).await.is_err());
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
    assert_eq!(super::super::sweep::sweep(&fixture.context).await.unwrap(), 0, "its Job is no orphan");
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

#[test]
fn a_reconcile_that_fails_again_and_again_is_repeated_ever_less_often() {
    let pauses = |is_conflict| [1, 2, 3, 20].map(|failures| pause(is_conflict, failures).as_millis());
    assert_eq!(pauses(true), [30, 60, 120, 60_000]);
    assert_eq!(pauses(false), [200, 400, 800, 60_000]);
}

#[tokio::test]
async fn conflicts_in_a_row_are_counted() {
    let mut fixture = Fixture::new();
    fixture.refresh();
    fixture.api.change(RUN, |run| run["spec"]["cancel"] = json!(true));
    let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
    for _ in 0..3 {
        let error = stale(&fixture).await.unwrap_err();
        on_error(run.clone(), &error, fixture.context.clone());
    }
    assert_eq!(fixture.context.failed(&ObjectRef::from_obj(run.as_ref())), 4);
}

#[tokio::test]
async fn a_job_that_is_there_already_is_the_decided_one_if_its_labels_say_so() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    let job = fixture.api.get(&job_path(1)).unwrap();
    // A new leader, whose cache of Jobs is still empty.
    fixture.api.remove(&job_path(1));
    fixture.refresh();
    fixture.api.put(&job_path(1), job);
    fixture.context.forget_created(&job_name(UID, 1, 1));
    stale(&fixture).await.unwrap();
    let log = fixture.api.log();
    assert_eq!(log.iter().filter(|request| **request == format!("POST {JOBS}")).count(), 2, "it was tried");
    assert_eq!(fixture.api.under(JOBS).len(), 1);
    assert_eq!(fixture.status()["attempts"][0]["jobs"], 1);
    assert_eq!(fixture.status()["message"], "waiting for the pod of the action");
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

/// Writes so far, the target's apart.
fn own_writes(fixture: &Fixture) -> Vec<String> {
    fixture.api.writes().into_iter().filter(|write| !write.contains("/extensiontargets/")).collect()
}

#[tokio::test]
async fn a_runs_whole_life_is_eight_writes() {
    let mut fixture = Fixture::new();
    reconciled(&mut fixture).await.unwrap();
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    reconciled(&mut fixture).await.unwrap();
    let token = fixture.context.token(UID, 1).to_hex();
    let nonce = Nonce::from_bytes([1; 16]);
    let claim = json!({"attempt": 1, "podUid": "p1", "nonce": nonce.clone()});
    assert_eq!(routes_tests::post_as(&fixture, &token, "claim", claim).await.0, 200);
    reconciled(&mut fixture).await.unwrap();
    let outcome = serde_json::to_value(outcome("PowerOn", 5)).unwrap();
    let report = json!({"attempt": 1, "nonce": nonce, "outcome": outcome});
    assert_eq!(routes_tests::post_as(&fixture, &token, "report", report).await.0, 200);
    reconciled(&mut fixture).await.unwrap();
    fixture.api.remove(&format!("{PODS}/pod-p1"));
    reconciled(&mut fixture).await.unwrap();
    fixture.api.change(RUN, |run| run["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z"));
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.api.get(RUN).unwrap()["metadata"]["finalizers"], json!([]));
    // Events are published in the background.
    let is_event = |write: &String| write.contains("/events");
    while own_writes(&fixture).iter().filter(|write| is_event(write)).count() < 2 {
        tokio::task::yield_now().await;
    }
    let mut writes = own_writes(&fixture);
    assert_eq!(writes.len(), 8, "{writes:#?}");
    writes.retain(|write| !is_event(write));
    let status = format!("PUT {RUN}/status");
    let (job, finalizer) = (format!("DELETE {}", job_path(1)), format!("PATCH {RUN}"));
    assert_eq!(writes, [status.clone(), format!("POST {JOBS}"), status.clone(), status, job, finalizer]);
}

const USES: [&str; 2] = ["use orchestratorextensions redfish", "use extensiontargets node7"];

#[tokio::test]
async fn rights_are_asked_again_when_a_run_starts_and_the_role_is_recorded() {
    let mut fixture = Fixture::admitted();
    fixture.api.allow(&[USES[0], USES[1], "use roletypes User", "use roletypes ResourceAdmin"]);
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["roletype"], "ResourceAdmin");
    assert!(fixture.api.get(&job_path(1)).is_some());
    let reviews = fixture.api.reviews();
    assert_eq!(reviews.len(), 6);
    assert!(reviews.iter().all(|review| review["user"] == "alice" && review["groups"] == json!(["team-a"])));
    // The decision stands: nothing is asked for a run whose Job waits for its pod.
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.api.reviews().len(), 6);
}

#[tokio::test]
async fn rights_are_asked_again_before_an_attempt_is_repeated() {
    let mut fixture = Fixture::admitted();
    fixture.api.change(RUN, |run| {
        run["spec"]["retries"] = json!(1);
        *run = super::super::fixture::stamped(run.clone());
    });
    fixture.api.allow(&[USES[0], USES[1], "use roletypes User"]);
    reconciled(&mut fixture).await.unwrap();
    fixture.api.change(RUN, |run| {
        run["status"]["attempts"][0]["nonceHash"] = json!("n");
        run["status"]["attempts"][0]["reason"] = json!("ActionFailed");
        run["status"]["attempts"][0]["endedAt"] = json!("2026-01-01T10:00:00.000000Z");
        run["spec"]["startDeadlineSeconds"] = json!(604_800_000);
        *run = super::super::fixture::stamped(run.clone());
    });
    fixture.api.allow(&[USES[0]]);
    reconciled(&mut fixture).await.unwrap();
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NotAllowed")));
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("attempt 2 of the action cannot start: user \"alice\" may not"), "{message}");
    assert_eq!(status["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(status["attempts"][0]["reason"], "ActionFailed");
}

#[tokio::test]
async fn a_run_whose_caller_lost_a_right_never_starts() {
    let mut fixture = Fixture::admitted();
    fixture.api.allow(&["use extensiontargets node7", "use roletypes Admin"]);
    reconciled(&mut fixture).await.unwrap();
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NotAllowed")));
    assert!(status["message"].as_str().unwrap().starts_with("user \"alice\" may not use OrchestratorExtension"));
    assert!(status.get("attempts").is_none());
    assert!(fixture.api.get(&job_path(1)).is_none());
}

#[tokio::test]
async fn a_run_whose_rights_cannot_be_asked_for_is_not_decided() {
    let mut fixture = Fixture::admitted();
    fixture.api.allow(&USES);
    let failed = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    fixture.api.before(move |_, _, path| path.ends_with("subjectaccessreviews").then_some(failed));
    assert!(reconciled(&mut fixture).await.is_err());
    assert_eq!(fixture.api.writes(), [""; 0]);
}

#[tokio::test]
async fn a_run_that_waits_asks_for_no_rights_yet() {
    let mut fixture = Fixture::admitted();
    fixture.api.change(RUN, |run| {
        run["spec"]["extensionRef"]["name"] = json!("other");
        *run = super::super::fixture::stamped(run.clone());
    });
    reconciled(&mut fixture).await.unwrap();
    assert_eq!(fixture.status()["reason"], "ExtensionNotFound");
    assert_eq!(fixture.api.reviews(), [json!(null); 0]);
}

#[tokio::test]
async fn a_run_waits_for_a_secret_of_its_namespace_and_looks_again() {
    const SECRET: &str = "/api/v1/namespaces/team-a/secrets/db";
    let mut fixture = Fixture::admitted();
    fixture.allow_unknown_parameters();
    fixture.api.change(RUN, |run| {
        run["spec"]["action"] = json!("Custom");
        run["spec"]["parametersFrom"] = json!([{"name": "pin", "secretKeyRef": {"name": "db", "key": "pin"}}]);
        *run = super::super::fixture::stamped(run.clone());
    });
    fixture.api.allow(&[USES[0], USES[1], "use roletypes Admin", "get secrets db"]);
    let action = reconciled(&mut fixture).await.unwrap();
    assert!(action != Action::await_change() && action != Action::requeue(Duration::from_secs(300)), "{action:?}");
    assert_eq!(fixture.status()["reason"], "SecretNotUsable");
    assert!(fixture.api.get(&job_path(1)).is_none());
    fixture.api.put(SECRET, json!({"metadata": {"name": "db"}, "data": {"pin": "MTIzNA=="}}));
    reconciled(&mut fixture).await.unwrap();
    assert!(fixture.api.get(&job_path(1)).is_some());
    assert_eq!(fixture.status()["roletype"], "Admin");
}
