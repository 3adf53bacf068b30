//! Tests of attempts that follow another, against an API in memory.

use serde_json::{Value, json};

use super::super::fixture::{Fixture, PODS, RUN, TARGET, UID, pod_of};
use super::super::job::job_name;
use super::tests::{cancel_before_the_next_write, claim_of, claimed, decided, post_as, report_of, send};
use crate::protocol::Nonce;

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
    cancel_before_the_next_write(&fixture);
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
