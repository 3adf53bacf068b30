//! Tests of claims against an API in memory: each makes an interleaving happen.

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::fixture::{Fixture, PODS, RUN, SECRETS, UID, outcome, pod};
use super::super::request::Policy;
use super::*;
use crate::digest::Digest;
use crate::protocol::Nonce;

pub(in crate::run) async fn post_as(fixture: &Fixture, token: &str, what: &str, body: Value) -> (u16, Value) {
    let request = Request::post(format!("/v1/runs/{UID}/{what}"))
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = routes(fixture.context.clone()).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 22).await.unwrap();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

pub(in crate::run) async fn send(fixture: &Fixture, what: &str, body: Value) -> (u16, Value) {
    post_as(fixture, &fixture.context.token(UID, 1).to_hex(), what, body).await
}

pub(in crate::run) fn claim_of(pod: &str, nonce: u8) -> Value {
    json!({"attempt": 1, "podUid": pod, "nonce": Nonce::from_bytes([nonce; 16])})
}

pub(in crate::run) fn report_of(nonce: u8, stdout: &str) -> Value {
    let outcome = outcome(stdout, 5);
    serde_json::to_value(Report { attempt: 1, nonce: Nonce::from_bytes([nonce; 16]), outcome, output: None }).unwrap()
}

/// A run that was decided, and its pod.
pub(super) fn decided() -> Fixture {
    let mut fixture = Fixture::new();
    let revision =
        json!({"treeDigest": Digest::of("tree").to_string(), "manifestDigest": Digest::of("manifest").to_string()});
    fixture.api.change(RUN, |run| {
        run["status"] = json!({
            "phase": "Pending", "revision": revision, "timeoutSeconds": 60,
            "attempts": [{"number": 1, "jobs": 1, "job": super::super::job::job_name(UID, 1, 1)}],
        });
    });
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    fixture.refresh();
    fixture
}

pub(in crate::run) async fn claimed() -> Fixture {
    let fixture = decided();
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 200);
    fixture
}

#[tokio::test]
async fn a_claim_says_running_and_hands_out_payload_and_secrets() {
    let mut fixture = decided();
    let mut extension = super::super::fixture::extension();
    for spec in ["/spec", "/status/resolved"] {
        extension.pointer_mut(spec).unwrap()["details"] = json!({"region": "north", "token": "from-the-manifest"});
    }
    extension["spec"]["detailsFrom"] = json!([{"secretRef": {"name": "api"}}, {"secretRef": {"name": "api-2"}}]);
    fixture.extend(extension);
    let secret = |name: &str, data: Value| {
        fixture.api.put(&format!("{SECRETS}/{name}"), json!({"metadata": {"name": name}, "data": data}))
    };
    secret("api", json!({"token": "c3dvcmRmaXNo", "user": "b3BlcmF0b3I="}));
    secret("api-2", json!({"user": "c3VwZXJ1c2Vy"}));
    let (code, grant) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!(code, 200, "{grant}");
    let payload: Value = serde_json::from_str(grant["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["externaldetails"]["host"], json!({"url": "https://bmc", "password": "hunter2"}));
    let extension = json!({"region": "north", "token": "swordfish", "user": "superuser"});
    assert_eq!(payload["externaldetails"]["extension"], extension, "entries of Secrets win, and of them the last");
    assert_eq!(grant["redact"], json!(["hunter2", "superuser", "swordfish"]));
    assert_eq!(grant["action"], "status");
    let status = fixture.status();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["attempts"][0]["podUID"], "p1");
    assert_eq!(status["attempts"][0]["nonceHash"], Nonce::from_bytes([1; 16]).hash());
    assert!(!status.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_wrong_token_asks_the_api_nothing() {
    let fixture = decided();
    fixture.api.before(|_, _, path| panic!("asked for {path}"));
    let other = fixture.context.token(UID, 2).to_hex();
    for token in ["", "00", other.as_str()] {
        assert_eq!(post_as(&fixture, token, "claim", claim_of("p1", 1)).await.0, 401);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_read_or_is_too_large_is_refused_for_ever() {
    let fixture = decided();
    for (body, expected) in [(json!({"attempt": "x"}), "invalid type"), (json!("x".repeat(9 << 20)), "length limit")] {
        let (code, refusal) = send(&fixture, "claim", body).await;
        assert_eq!(code, 409, "{refusal}");
        let message = refusal["message"].as_str().unwrap();
        assert!(message.starts_with("the request cannot be read: ") && message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn of_two_claimants_that_read_the_same_run_one_wins_and_the_other_is_refused_for_ever() {
    let fixture = decided();
    fixture.api.put(&format!("{PODS}/pod-p2"), pod("p2", 1, json!({"phase": "Running"})));
    let winner = Nonce::from_bytes([2; 16]).hash();
    // Between the loser's read and its write, the winner's write arrives.
    fixture.api.change_before(Method::PUT, "/status", RUN, move |run| {
        run["status"]["phase"] = json!("Running");
        run["status"]["attempts"][0]["podUID"] = json!("p2");
        run["status"]["attempts"][0]["nonceHash"] = json!(winner);
    });
    let (code, refusal) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((code, refusal["message"].as_str()), (409, Some("another runner claimed this attempt")));
    assert_eq!(fixture.status()["attempts"][0]["podUID"], "p2");
    // A container that kubelet restarted in the winner's pod draws another nonce.
    assert_eq!(send(&fixture, "claim", claim_of("p2", 3)).await.0, 409);
}

/// Somebody cancels the run after it was read, just before its status is written.
pub fn cancel_before_the_next_write(fixture: &Fixture) {
    fixture.api.change_before(Method::PUT, "/status", RUN, |run| run["spec"]["cancel"] = json!(true));
}

#[tokio::test]
async fn a_cancel_between_read_and_write_beats_the_claim() {
    let fixture = decided();
    cancel_before_the_next_write(&fixture);
    let (code, refusal) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((code, refusal["message"].as_str()), (409, Some("the run was cancelled")));
    assert_eq!(fixture.status()["phase"], "Pending");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_word_for_word_and_written_once() {
    let fixture = decided();
    let first = send(&fixture, "claim", claim_of("p1", 1)).await;
    // Even though the run was cancelled and its Secret is gone meanwhile: the runner holds the claim.
    fixture.api.change(RUN, |run| run["spec"]["cancel"] = json!(true));
    fixture.api.remove(&format!("{SECRETS}/bmc"));
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await, first);
    let writes = fixture.api.writes();
    assert_eq!(writes.iter().filter(|write| write.ends_with("backup/status")).count(), 1, "{writes:?}");
}

#[tokio::test]
async fn a_write_that_was_stored_but_not_answered_is_found_by_the_same_nonce() {
    let fixture = decided();
    let nonce_hash = Nonce::from_bytes([1; 16]).hash();
    fixture.api.before(move |api, method, path| {
        (*method == Method::PUT && path.ends_with("/status")).then(|| {
            api.change(RUN, |run| {
                run["status"]["phase"] = json!("Running");
                run["status"]["attempts"][0]["podUID"] = json!("p1");
                run["status"]["attempts"][0]["nonceHash"] = json!(nonce_hash);
            });
            StatusCode::GATEWAY_TIMEOUT
        })
    });
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 503);
    fixture.api.before(|_, _, _| None);
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 200);
}

#[tokio::test]
async fn a_missing_secret_is_named_in_the_run_and_waited_for() {
    let fixture = decided();
    fixture.api.remove(&format!("{SECRETS}/bmc"));
    let expected = "waiting: Secret \"bmc\" does not exist in namespace \"outrigger-system\"";
    let (code, refusal) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((code, refusal["message"].as_str()), (503, Some(expected)));
    assert_eq!(fixture.status()["message"], expected);
    assert_eq!(fixture.status()["phase"], "Pending");
    fixture.api.put(&format!("{SECRETS}/bmc"), json!({"metadata": {"name": "bmc"}, "data": {}}));
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 200);
}

#[tokio::test]
async fn a_pod_of_a_replaced_job_and_an_unknown_pod_are_refused() {
    let fixture = decided();
    fixture.api.put(&format!("{PODS}/pod-p2"), pod("p2", 2, json!({"phase": "Running"})));
    for pod in ["p2", "p9"] {
        assert_eq!(send(&fixture, "claim", claim_of(pod, 1)).await.0, 409, "{pod}");
    }
    assert_eq!(fixture.status()["phase"], "Pending");
}

#[tokio::test]
async fn a_run_without_a_stamp_is_refused_where_admission_counts() {
    let mut fixture = decided();
    let context = Arc::get_mut(&mut fixture.context).unwrap();
    context.settings.insecure_without_admission = false;
    let (code, refusal) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!(code, 409);
    assert!(refusal["message"].as_str().unwrap().starts_with("spec.caller is missing"), "{refusal}");
}

#[tokio::test]
async fn the_script_gets_the_timeout_by_which_the_leader_gives_it_up() {
    let fixture = decided();
    assert_ne!(Policy::default().limits.default_timeout_seconds, 60);
    let (_, grant) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((&grant["timeoutSeconds"], &fixture.status()["timeoutSeconds"]), (&json!(60), &json!(60)));
}

#[tokio::test]
async fn nothing_is_remembered_of_a_run_that_was_removed_by_force() {
    let mut fixture = claimed().await;
    assert!(context_remembers(&fixture));
    super::super::sweep::sweep(&fixture.context).await.unwrap();
    assert!(context_remembers(&fixture), "it still runs");
    fixture.api.remove(RUN);
    fixture.refresh();
    super::super::sweep::sweep(&fixture.context).await.unwrap();
    assert!(!context_remembers(&fixture));
}

fn context_remembers(fixture: &Fixture) -> bool {
    fixture.context.memory().grants.contains_key(UID)
}

const USES: [&str; 2] = ["use orchestratorextensions redfish", "use extensiontargets node7"];

/// A run of alice that was decided so many seconds ago with the role type DomainAdmin, and its pod.
fn decided_for_alice(seconds_ago: i64) -> Fixture {
    let mut fixture = Fixture::admitted();
    let decided = decided().status();
    let at = Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_secs(seconds_ago);
    fixture.api.change(RUN, |run| {
        run["status"] = decided;
        run["status"]["roletype"] = json!("DomainAdmin");
        run["status"]["attempts"][0]["decidedAt"] = json!(format!("{at:.6}"));
    });
    fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
    fixture.refresh();
    fixture
}

fn caller(grant: &Value) -> Value {
    let payload: Value = serde_json::from_str(grant["payload"].as_str().unwrap()).unwrap();
    json!([payload["caller"]["name"], payload["caller"]["roletype"]])
}

#[tokio::test]
async fn a_claim_soon_after_the_decision_asks_for_no_rights_and_names_the_recorded_role() {
    let fixture = decided_for_alice(5);
    let (code, grant) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((code, caller(&grant)), (200, json!(["alice", "DomainAdmin"])), "{grant}");
    assert_eq!(fixture.api.reviews(), [json!(null); 0]);
}

#[tokio::test]
async fn a_claim_long_after_the_decision_asks_again_and_names_the_role_that_is_held_now() {
    let fixture = decided_for_alice(120);
    fixture.api.allow(&[USES[0], USES[1], "use roletypes User"]);
    let (code, grant) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((code, caller(&grant)), (200, json!(["alice", "User"])), "{grant}");
    assert_eq!(fixture.status()["roletype"], "User");
    let asked = fixture.api.reviews().len();
    assert_eq!(asked, 6);
    // Who holds the claim is answered again, whatever became of the rights.
    fixture.api.allow(&[]);
    fixture.context.memory().grants.clear();
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await, (200, grant));
    assert_eq!(fixture.api.reviews().len(), asked);
}

#[tokio::test]
async fn a_right_that_is_gone_at_the_claim_fails_the_run_with_admissions_words() {
    let fixture = decided_for_alice(120);
    fixture.api.allow(&[USES[1], "use roletypes Admin"]);
    fixture.api.before(|_, _, path| {
        assert!(!path.contains("/secrets/"), "a Secret is read for somebody who lacks a right: {path}");
        None
    });
    let (code, refusal) = send(&fixture, "claim", claim_of("p1", 1)).await;
    let message = refusal["message"].as_str().unwrap();
    assert!(code == 409 && message.starts_with("user \"alice\" may not use OrchestratorExtension"), "{refusal}");
    let status = fixture.status();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NotAllowed")));
    assert_eq!(status["message"], message);
    assert!(status["attempts"][0].get("nonceHash").is_none(), "{status}");
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.1["message"], "the run has ended");
}

#[tokio::test]
async fn rights_that_cannot_be_asked_for_at_the_claim_are_waited_for() {
    let fixture = decided_for_alice(120);
    fixture.api.allow(&[USES[0], USES[1]]);
    fixture
        .api
        .before(|_, _, path| path.ends_with("subjectaccessreviews").then_some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(send(&fixture, "claim", claim_of("p1", 1)).await.0, 503);
    assert_eq!(fixture.status()["phase"], "Pending");
}

#[tokio::test]
async fn a_cancel_between_a_refusal_and_its_write_is_seen() {
    let fixture = decided_for_alice(120);
    cancel_before_the_next_write(&fixture);
    let (code, refusal) = send(&fixture, "claim", claim_of("p1", 1)).await;
    assert_eq!((code, refusal["message"].as_str()), (409, Some("the run was cancelled")));
}

#[tokio::test]
async fn a_secret_of_the_tenant_is_handed_out_and_redacted_and_never_without_admission() {
    const SECRET: &str = "/api/v1/namespaces/team-a/secrets/db";
    for (mut fixture, expected) in [(Fixture::admitted(), 200), (Fixture::new(), 409)] {
        let stamp = fixture.api.get(RUN).unwrap()["spec"]["caller"].is_object();
        fixture.allow_unknown_parameters();
        let decided = decided().status();
        fixture.api.allow(&[USES[0], USES[1], "use roletypes Admin", "get secrets db"]);
        fixture.api.change(RUN, |run| {
            run["status"] = decided;
            run["spec"]["action"] = json!("Custom");
            run["spec"]["parametersFrom"] = json!([{"name": "pin", "secretKeyRef": {"name": "db", "key": "pin"}}]);
            if stamp {
                *run = super::super::fixture::stamped(run.clone());
            }
        });
        fixture.api.put(SECRET, json!({"metadata": {"name": "db"}, "data": {"pin": "c3dvcmRmaXNo"}}));
        fixture.api.put(&format!("{PODS}/pod-p1"), pod("p1", 1, json!({"phase": "Running"})));
        fixture.refresh();
        let (code, grant) = send(&fixture, "claim", claim_of("p1", 1)).await;
        assert_eq!(code, expected, "{grant}");
        if stamp {
            let payload: Value = serde_json::from_str(grant["payload"].as_str().unwrap()).unwrap();
            assert_eq!(payload["parameters"], json!({"pin": "swordfish"}));
            assert_eq!(grant["redact"], json!(["hunter2", "swordfish"]));
        } else {
            assert!(!grant.to_string().contains("swordfish"), "{grant}");
        }
    }
}
