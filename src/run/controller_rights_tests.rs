//! Tests of the reconcile against an API in memory: the caller's rights, and Secrets of the run's namespace.

use serde_json::json;

use super::super::fixture::{Fixture, RUN};
use super::tests::{job_path, reconciled};
use super::*;

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
