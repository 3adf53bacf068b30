//! A runner says that it ends without having started the script: the claim that it holds is taken back (rule 5), as its
//! termination message would have it. That is lost where the pod vanishes before anybody has read it.

use std::sync::Arc;

use axum::extract::State;
use k8s_openapi::jiff::Timestamp;

use super::context::Context;
use super::live::is_conflict;
use super::routes::{Asked, No, OfAttempt, TRIES, pause};
use super::{report, status};
use crate::protocol::Unstarted;
use crate::telemetry::RequestResult;

impl OfAttempt for Unstarted {
    fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Counted as the report that it is in place of.
pub(super) async fn route(State(context): State<Arc<Context>>, asked: Result<Asked<Unstarted>, No>) -> Result<(), No> {
    let answer = match asked {
        Ok(Asked { uid, request }) => take_back(&context, &uid, &request).await,
        Err(no) => Err(no),
    };
    context.metrics.reported(answer.as_ref().map_or_else(No::result, |()| RequestResult::Accepted));
    answer
}

/// Takes the claim back, unless the run has ended meanwhile. What follows of it is the controller's to decide, once it sees
/// the run unclaimed.
async fn take_back(context: &Context, uid: &str, said: &Unstarted) -> Result<(), No> {
    for tries in 0..TRIES {
        pause(tries).await;
        let run = context.read(uid).await?.ok_or(No::Gone)?;
        report::holds_claim(&run, uid, said.attempt, &said.nonce).map_err(No::Refused)?;
        if !report::is_current(&run, said.attempt) {
            return Ok(());
        }
        match context.write(&run, status::given_back(&run, &said.message, Timestamp::now())).await {
            Ok(_) => return Ok(()),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(No::Later("the run changes too often".into()))
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use serde_json::{Value, json};

    use super::super::controller::reconcile;
    use super::super::fixture::{Fixture, JOBS, PODS, RUN, pod};
    use super::super::routes::tests::{cancel_before_the_next_write, claim_of, claimed, post_as, report_of, send};
    use crate::protocol::Nonce;

    fn unstarted(nonce: u8) -> Value {
        json!({"attempt": 1, "nonce": Nonce::from_bytes([nonce; 16]), "message": "drained"})
    }

    async fn reconciled(fixture: &mut Fixture) {
        fixture.refresh();
        let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
        reconcile(run, fixture.context.clone()).await.unwrap();
    }

    #[tokio::test]
    async fn a_claim_is_taken_back_before_its_pod_vanishes_with_the_message() {
        let mut fixture = claimed().await;
        assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 200);
        let status = fixture.status();
        assert_eq!(status["phase"], "Pending");
        assert_eq!(status["message"], "the runner did not start the script: drained");
        for field in ["podUID", "nonceHash", "claimedAt"] {
            assert!(status["attempts"][0].get(field).is_none(), "{status}");
        }
        assert!(status.get("startTime").is_none(), "{status}");
        fixture.api.remove(&format!("{PODS}/pod-p1"));
        reconciled(&mut fixture).await;
        assert_eq!(fixture.status()["phase"], "Pending");
        assert_eq!(fixture.api.under(JOBS).len(), 1, "the attempt is started again");
    }

    #[tokio::test]
    async fn only_the_runner_that_holds_the_claim_is_heard_and_not_when_another_has_it_since() {
        let fixture = claimed().await;
        assert_eq!(send(&fixture, "unstarted", unstarted(2)).await.0, 409);
        let other = fixture.context.token(super::super::fixture::UID, 2).to_hex();
        assert_eq!(post_as(&fixture, &other, "unstarted", unstarted(1)).await.0, 401);
        assert_eq!(fixture.status()["phase"], "Running");
        assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 200);
        fixture.api.put(&format!("{PODS}/pod-p2"), pod("p2", 1, json!({"phase": "Running"})));
        assert_eq!(send(&fixture, "claim", claim_of("p2", 2)).await.0, 200);
        // It was on its way for long.
        assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 409);
        let status = fixture.status();
        assert_eq!((&status["phase"], &status["attempts"][0]["podUID"]), (&json!("Running"), &json!("p2")));
    }

    #[tokio::test]
    async fn an_outcome_stays_what_it_is() {
        let fixture = claimed().await;
        assert_eq!(send(&fixture, "report", report_of(1, "PowerOn")).await.0, 200);
        for phase in ["Succeeded", "OutcomeUnknown"] {
            fixture.api.change(RUN, |run| run["status"]["phase"] = json!(phase));
            let status = fixture.status();
            assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 200);
            assert_eq!(fixture.status(), status);
        }
    }

    #[tokio::test]
    async fn a_run_that_is_cancelled_at_that_moment_ends_as_one_that_never_started() {
        let mut fixture = claimed().await;
        cancel_before_the_next_write(&fixture);
        assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 200);
        reconciled(&mut fixture).await;
        let status = fixture.status();
        assert_eq!(status["phase"], "Canceled");
        assert_eq!(status["message"], "cancelled before the action started");
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_to_be_said_again() {
        let fixture = claimed().await;
        fixture.api.before(|_, method, _| (*method == Method::PUT).then_some(StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 503);
        assert_eq!(fixture.status()["phase"], "Running");
        fixture.api.before(|_, _, _| None);
        fixture.api.remove(RUN);
        assert_eq!(send(&fixture, "unstarted", unstarted(1)).await.0, 410);
    }
}
