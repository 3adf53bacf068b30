//! Tests of the reconcile against an API in memory: how a run gets its Job, and what it writes.

use serde_json::{Value, json};

use super::super::fixture::{Fixture, JOBS, PODS, RUN, UID, outcome, pod};
use super::super::job::job_name;
use super::super::routes::tests as routes_tests;
use super::*;
use crate::protocol::{Nonce, env};

pub(super) async fn reconciled(fixture: &mut Fixture) -> Result<Action, ReconcileError> {
    fixture.refresh();
    stale(fixture).await
}

/// Reconciles with what the caches hold.
pub(super) async fn stale(fixture: &Fixture) -> Result<Action, ReconcileError> {
    let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
    reconcile(run, fixture.context.clone()).await
}

pub(super) fn job_path(number: u32) -> String {
    format!("{JOBS}/{}", job_name(UID, 1, number))
}

pub(super) fn claimed(fixture: &Fixture) {
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
async fn the_pinned_tree_is_mounted_where_the_extension_wants_it_and_the_runner_looks_there() {
    let mut fixture = Fixture::new();
    let mut extension = super::super::fixture::extension();
    for spec in ["/spec", "/status/resolved"] {
        extension.pointer_mut(spec).unwrap()["entrypoint"]["targetDir"] = json!("/opt/x");
    }
    fixture.extend(extension);
    reconciled(&mut fixture).await.unwrap();
    let job = fixture.api.get(&job_path(1)).unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let tree = crate::digest::Digest::of("tree");
    let subpath = format!("extensions/.store/sha256-{}", tree.hex());
    let mounts = container["volumeMounts"].as_array().unwrap();
    let of_tree: Vec<&Value> = mounts.iter().filter(|mount| mount["subPath"] == subpath.as_str()).collect();
    assert_eq!(of_tree, [&json!({"name": "store", "mountPath": "/opt/x", "subPath": subpath, "readOnly": true})]);
    let variable = |name: &str| container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name);
    assert_eq!(variable(env::TREE).unwrap()["value"], "/opt/x");
    assert_eq!(variable(env::TREE_DIGEST).unwrap()["value"], tree.to_string());
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
