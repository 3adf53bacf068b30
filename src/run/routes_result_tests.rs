//! Tests of what a report leaves, against an API in memory: results, their Secrets, and what a target learns.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::fixture::{Fixture, RUN, TARGET, UID};
use super::tests::{claim_of, claimed, decided, report_of, send};
use super::*;

async fn claimed_as(action: &str) -> Fixture {
    let fixture = decided();
    fixture.api.change(RUN, |run| run["spec"]["action"] = json!(action));
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 200);
    fixture
}

const PREPARED: &str = r#"{"details": {"a b": "x"}, "vncPassword": "hunter2", "a b": 1}"#;
const TENANTS_SECRETS: &str = "/api/v1/namespaces/team-a/secrets";

#[tokio::test]
async fn a_result_that_the_api_refuses_does_not_keep_the_run_from_ending() {
    // A quota, or a namespace that is being deleted; a detail that the target's schema does not allow; a status that no
    // schema foresaw.
    for (refused, note) in [
        (TENANTS_SECRETS, "the result is lost, the API refused the Secret for it: Invalid"),
        ("node7/status", "its target could not be updated: Invalid"),
        ("backup/status", "result and output are lost, the API refused them: Invalid"),
    ] {
        let fixture = claimed_as("prepare").await;
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let mut first = true;
        fixture.api.before(move |_, method, path| {
            let is_refused = *method != Method::GET && path.ends_with(refused) && std::mem::take(&mut first);
            is_refused.then_some(StatusCode::UNPROCESSABLE_ENTITY)
        });
        assert_eq!(send(&fixture, "report", report_of(1, PREPARED)).await.0, 200, "{refused}");
        let status = fixture.status();
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Succeeded"), &json!("ApiError")), "{refused}");
        assert!(status["message"].as_str().unwrap().contains(note), "{status}");
        assert_eq!(status["resultRef"].is_null(), refused == TENANTS_SECRETS);
        assert!(!status.to_string().contains("hunter2"));
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("the API refused") && log.contains("Invalid"), "{log}");
        assert!(!log.contains("quotation") && !log.contains("hunter2"), "{log}");
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_secret_result_whose_keys_are_no_names_of_entries_is_kept_as_a_whole() {
    let fixture = claimed_as("prepare").await;
    assert_eq!(send(&fixture, "report", report_of(1, PREPARED)).await.0, 200);
    let secret = fixture.api.get(&format!("{TENANTS_SECRETS}/arun-{UID}-result")).unwrap();
    let kept: Value = serde_json::from_str(secret["stringData"]["result"].as_str().unwrap()).unwrap();
    assert_eq!(kept, serde_json::from_str::<Value>(PREPARED).unwrap());
}

#[tokio::test]
async fn a_secret_that_somebody_made_under_the_name_of_a_result_gives_way() {
    let secret = format!("{TENANTS_SECRETS}/arun-{UID}-result");
    let others = json!({"metadata": {"name": "s"}, "stringData": {"host": "elsewhere"}});
    for may_delete in [true, false] {
        let fixture = claimed_as("prepare").await;
        fixture.api.put(&secret, others.clone());
        fixture.api.before(move |_, method, path| {
            let is_kept = !may_delete && *method == Method::DELETE && path.contains(TENANTS_SECRETS);
            is_kept.then_some(StatusCode::FORBIDDEN)
        });
        assert_eq!(send(&fixture, "report", report_of(1, PREPARED)).await.0, 200);
        let (status, found) = (fixture.status(), fixture.api.get(&secret).unwrap());
        assert_eq!((&status["phase"], status["resultRef"].is_object()), (&json!("Succeeded"), may_delete), "{status}");
        assert_eq!(found["stringData"] == others["stringData"], !may_delete, "{found}");
    }
}

#[tokio::test]
async fn a_secret_whose_name_is_never_free_loses_the_result_and_not_the_run() {
    let fixture = claimed_as("prepare").await;
    fixture.api.put(&format!("{TENANTS_SECRETS}/arun-{UID}-result"), json!({"metadata": {"name": "s"}}));
    // It waits for somebody's finalizer.
    fixture.api.before(|_, method, path| {
        (*method == Method::POST && path.ends_with(TENANTS_SECRETS)).then_some(StatusCode::CONFLICT)
    });
    assert_eq!(send(&fixture, "report", report_of(1, PREPARED)).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Succeeded"), &json!("ApiError")), "{status}");
    assert!(status["message"].as_str().unwrap().contains("the API refused the Secret"), "{status}");
}

#[tokio::test]
async fn a_target_that_changes_under_a_report_keeps_the_later_finding() {
    let fixture = claimed().await;
    fixture.api.change_before(Method::PATCH, "node7/status", TARGET, |target| {
        target["status"] = json!({"powerState": "PowerOff", "powerStateTime": "2126-11-23T10:00:00.000000Z"});
    });
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200);
    assert_eq!(fixture.status()["power"], "PowerOn");
    let target = fixture.api.get(TARGET).unwrap();
    assert_eq!(
        (&target["status"]["powerState"], &target["status"]["lastRun"]),
        (&json!("PowerOff"), &json!("team-a/backup"))
    );
}

#[tokio::test]
async fn what_a_run_with_a_target_in_place_finds_stays_with_the_run() {
    let fixture = decided();
    fixture.api.change(RUN, |run| {
        run["spec"].as_object_mut().unwrap().remove("targetRef");
        run["spec"]["target"] = json!({"name": "node9", "host": {"url": "https://lab"}});
    });
    let (code, grant) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!(code, 200, "{grant}");
    let payload: Value = serde_json::from_str(grant["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["externaldetails"]["host"], json!({"url": "https://lab"}));
    assert_eq!(payload["virtualmachinename"], "node9");
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200);
    assert_eq!(fixture.status()["power"], "PowerOn");
    assert_eq!(fixture.api.get(TARGET).unwrap()["status"], Value::Null);
}

/// A run of a custom action that is claimed, and the extension's next version: disabled, renamed, with other words.
async fn claimed_backup() -> (Fixture, Value) {
    let mut fixture = decided();
    fixture.api.change(RUN, |run| run["spec"]["action"] = json!("Backup"));
    fixture.refresh();
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 200);
    let mut next = super::super::fixture::extension();
    next["spec"]["strictResult"] = json!(true);
    next["status"]["artifact"]["manifestDigest"] = json!(crate::digest::Digest::of("next").to_string());
    let resolved = &mut next["status"]["resolved"];
    resolved["name"] = json!("Renamed");
    resolved["customActions"] = json!([{"name": "Backup", "successmessage": "done otherwise"}]);
    (fixture, next)
}

#[tokio::test]
async fn an_outcome_is_read_against_the_manifest_that_the_run_was_claimed_with() {
    let (mut fixture, next) = claimed_backup().await;
    fixture.extend(next);
    // What is strict now was not at the claim.
    assert_eq!(send(&fixture, "report", report_of(1, r#"{"status": "error"}"#)).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["message"]), (&json!("Succeeded"), &json!("node7 is safe with redfish")));
}

#[tokio::test]
async fn an_outcome_whose_manifest_is_lost_is_read_against_the_one_that_is_installed() {
    let (mut fixture, next) = claimed_backup().await;
    fixture.extend(next);
    fixture.api.change(RUN, |run| {
        run["status"]["revision"]["manifestDigest"] = json!(crate::digest::Digest::of("lost").to_string());
    });
    assert_eq!(send(&fixture, "report", report_of(1, "{}")).await.0, 200);
    assert_eq!(fixture.status()["message"], "done otherwise");
}

#[tokio::test]
async fn a_target_that_is_gone_at_the_report_is_called_by_the_name_that_the_run_gave() {
    let (mut fixture, _) = claimed_backup().await;
    fixture.api.remove(TARGET);
    fixture.refresh();
    assert_eq!(send(&fixture, "report", report_of(1, "{}")).await.0, 200);
    assert_eq!(fixture.status()["message"], "node7 is safe with redfish");
}
