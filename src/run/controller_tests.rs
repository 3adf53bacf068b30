//! Tests of the reconcile against an API in memory.

use serde_json::{Value, json};

use super::super::fixture::{Fixture, JOBS, PODS, RUN, UID, outcome, pod};
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
    format!("{JOBS}/{}", job::job_name(UID, 1, number))
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
    fixture.api.put(&job_path(1), json!({"metadata": {"name": job::job_name(UID, 1, 1), "labels": {}}}));
    let error = reconciled(&mut fixture).await.unwrap_err().to_string();
    assert_eq!(error, format!("Job {:?} exists and is not this run's: delete it", job::job_name(UID, 1, 1)));
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
