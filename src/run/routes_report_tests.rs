//! Tests of progress and reports against an API in memory: each makes an interleaving happen.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::fixture::{Fixture, PODS, RUN, TARGET, UID, pod_of};
use super::super::job::job_name;
use super::tests::{claim_of, claimed, decided, post_as, report_of, send};
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
    let mut first = true;
    fixture.api.before(move |api, method, path| {
        if *method == Method::PUT && path.ends_with("backup/status") && std::mem::take(&mut first) {
            api.change(RUN, |run| {
                run["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z");
                run["metadata"]["labels"] = json!({"a": "b"});
            });
        }
        None
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

/// The same, as the runner of an attempt.
async fn send_of(fixture: &Fixture, attempt: u32, what: &str, mut body: Value) -> (u16, Value) {
    body["attempt"] = json!(attempt);
    post_as(fixture, &fixture.context.token(UID, attempt).to_hex(), what, body).await
}

fn failed_report(nonce: u8) -> Value {
    let mut report = report_of(nonce, "no luck");
    report["outcome"]["exitCode"] = json!(7);
    report
}

/// A run whose first attempt failed, and which is repeated.
async fn failed_once() -> Fixture {
    let fixture = claimed().await;
    fixture.api.change(RUN, |run| run["spec"]["retries"] = json!(1));
    assert_eq!(send(&fixture, "report", failed_report(1)).await.0, 200);
    fixture
}

/// The same, with its second attempt decided.
async fn repeated() -> Fixture {
    let mut fixture = failed_once().await;
    fixture.api.change(RUN, |run| {
        let second = json!({"number": 2, "jobs": 1, "job": job_name(UID, 2, 1)});
        run["status"]["attempts"].as_array_mut().unwrap().push(second);
    });
    fixture.api.put(&format!("{PODS}/pod-p2"), pod_of("p2", 2, 1, json!({"phase": "Running"})));
    fixture.refresh();
    fixture
}

#[tokio::test]
async fn a_failure_that_is_repeated_is_one_write_and_says_nothing_of_target_or_result() {
    let fixture = claimed().await;
    fixture.api.change(RUN, |run| run["spec"]["retries"] = json!(1));
    let writes = fixture.api.writes().len();
    assert_eq!(send(&fixture, "report", failed_report(1)).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Pending"), &json!("Retrying")));
    let written: Vec<_> = fixture.api.writes().split_off(writes);
    let written: Vec<_> = written.iter().filter(|write| !write.contains("/events")).collect();
    assert_eq!(written, [&format!("PUT {RUN}/status")]);
    assert_eq!(fixture.api.get(TARGET).unwrap()["status"], Value::Null);
    // The acknowledgement was lost: the same report changes nothing.
    assert_eq!(send(&fixture, "report", failed_report(1)).await.0, 200);
    assert_eq!(fixture.status(), status);
}

#[tokio::test]
async fn nobody_claims_in_the_pause() {
    let fixture = failed_once().await;
    for (pod, nonce) in [("p1", 1), ("p1", 2)] {
        let (code, refusal) = send(&fixture, "claim", claim_of(pod, nonce)).await;
        let expected = "attempt 1 is over: the run waits for the next one";
        assert_eq!((code, refusal["message"].as_str()), (409, Some(expected)));
    }
    // The token of an attempt that nobody decided yet is of no use either.
    let (code, refusal) = send_of(&fixture, 2, "claim", claim_of("p1", 2)).await;
    assert_eq!((code, refusal["message"].as_str()), (409, Some("attempt 2 is over: this is attempt 1")));
    assert_eq!(fixture.status()["phase"], "Pending");
}

#[tokio::test]
async fn runners_of_an_earlier_attempt_neither_claim_nor_change_the_next_one() {
    let fixture = repeated().await;
    // With its own token it names its own attempt, with its own token the next one's is out of reach.
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 409);
    let mut other = claim_of("p1", 1);
    other["attempt"] = json!(2);
    assert_eq!(post_as(&fixture, &fixture.context.token(UID, 1).to_hex(), "claim", other).await.0, 401);
    // Not even with the next one's token does a pod of the old Job claim.
    assert_eq!(send_of(&fixture, 2, "claim", claim_of("p1", 3)).await.0, 409);
    let decided = fixture.status();
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200, "stored before: acknowledged");
    assert_eq!(fixture.status(), decided);

    assert_eq!(send_of(&fixture, 2, "claim", claim_of("p2", 2)).await.0, 200);
    let running = fixture.status();
    assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200);
    let progress = json!({"attempt": 1, "nonce": Nonce::from_bytes([1; 16]), "stdoutTail": "late", "stderrTail": ""});
    assert_eq!(send(&fixture, "progress", progress).await, (200, json!({"cancel": true})));
    assert_eq!(fixture.status(), running);

    assert_eq!(send_of(&fixture, 2, "report", report_of(2, "PowerOff")).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["power"]), (&json!("Succeeded"), &json!("PowerOff")));
    assert_eq!(status["attempts"][0]["exitCode"], 7);
    assert_eq!(
        (&status["attempts"][1]["exitCode"], &status["attempts"][1]["reason"]),
        (&json!(0), &json!("Succeeded"))
    );
}

#[tokio::test]
async fn the_script_is_told_a_key_that_stays_and_an_attempt_that_counts() {
    let first = decided();
    let (_, grant) = send(&first, "claim", claim_of("p1", 1)).await;
    let second = repeated().await;
    let (_, again) = send_of(&second, 2, "claim", claim_of("p2", 2)).await;
    for (grant, attempt) in [(grant, "1"), (again, "2")] {
        assert_eq!(grant["env"]["OUTRIGGER_IDEMPOTENCY_KEY"], UID);
        assert_eq!(grant["env"]["OUTRIGGER_ATTEMPT"], attempt);
    }
}

#[tokio::test]
async fn the_last_attempt_that_fails_ends_the_run() {
    let fixture = repeated().await;
    assert_eq!(send_of(&fixture, 2, "claim", claim_of("p2", 2)).await.0, 200);
    assert_eq!(send_of(&fixture, 2, "report", failed_report(2)).await.0, 200);
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["exitCode"]), (&json!("Failed"), &json!(7)));
}

#[tokio::test]
async fn a_cancel_that_comes_with_the_failure_leaves_no_retry() {
    let fixture = claimed().await;
    fixture.api.change(RUN, |run| run["spec"]["retries"] = json!(1));
    let mut first = true;
    fixture.api.before(move |api, method, path| {
        if *method == Method::PUT && path.ends_with("backup/status") && std::mem::take(&mut first) {
            api.change(RUN, |run| run["spec"]["cancel"] = json!(true));
        }
        None
    });
    assert_eq!(send(&fixture, "report", failed_report(1)).await.0, 200);
    assert_eq!(fixture.status()["phase"], "Failed");
}

#[tokio::test]
async fn an_unknown_outcome_that_turns_out_a_failure_is_not_repeated() {
    let fixture = claimed().await;
    fixture.api.change(RUN, |run| {
        run["spec"]["retries"] = json!(1);
        run["status"]["phase"] = json!("OutcomeUnknown");
    });
    assert_eq!(send(&fixture, "report", failed_report(1)).await.0, 200);
    assert_eq!(fixture.status()["phase"], "Failed");
}

#[tokio::test]
async fn a_target_that_changes_under_a_report_keeps_the_later_finding() {
    let fixture = claimed().await;
    let mut first = true;
    fixture.api.before(move |api, method, path| {
        if *method == Method::PATCH && path.ends_with("node7/status") && std::mem::take(&mut first) {
            api.change(TARGET, |target| {
                target["status"] = json!({"powerState": "PowerOff", "powerStateTime": "2126-11-23T10:00:00.000000Z"});
            });
        }
        None
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
