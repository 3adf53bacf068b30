//! Takes secret results away some time after their run has ended: passwords of consoles and machines are not to lie about
//! for as long as somebody keeps the run.

use k8s_openapi::jiff::Timestamp;
use kube::Error;

use super::collect::{each, place};
use super::context::Context;
use super::tries::Failures;
use super::{retention, status};
use crate::api::ActionRun;

/// Deletes the Secrets that are kept no longer, and says so in their runs. Returns how many. One that cannot be deleted
/// keeps no other, and is tried again after a pause. The caches must be filled.
///
/// # Access
/// `delete` on Secrets of all namespaces. The operator deletes none but those that it made, whose names hold their run's
/// UID.
///
/// # Errors
/// That the API refused or failed some.
pub async fn expire(context: &Context) -> Result<usize, Failures<Error>> {
    let Some(seconds) = context.settings.secret_result_seconds else { return Ok(0) };
    let guards = context.caches.runs.state();
    let runs = guards.iter().filter_map(|guard| guard.0.as_ref().ok());
    let expired = retention::secrets_expired(runs, seconds, Timestamp::now());
    each(context, expired, |memory| &mut memory.unexpired, |run| take_away(context, run)).await
}

/// Deletes the Secret that a run's answer was put into before the write that would have named it, which never came: the run
/// ended without that outcome, and nobody would look for it. One that cannot be deleted goes with its run.
pub(super) async fn take_away_unnamed(context: &Context, run: &ActionRun) {
    let attempts = run.status.iter().flat_map(|status| &status.attempts);
    let was_claimed = attempts.into_iter().any(|attempt| attempt.nonce_hash.is_some());
    if !was_claimed || !retention::is_answer_secret(&run.spec.action) {
        return;
    }
    if let Err(error) = context.delete_secret(run).await {
        tracing::warn!(run = place(run), %error, "a secret result that no run names may be left");
    }
}

/// First the Secret, then the word about it: a crash in between repeats both.
async fn take_away(context: &Context, run: &ActionRun) -> Result<(), Error> {
    context.delete_secret(run).await?;
    match context.whole(run).await? {
        Some(run) => context.write(&run, status::without_secret(&run)).await.map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::collect::BATCH;
    use super::super::fixture::{Fixture, RUN, UID};
    use super::super::live::result_secret;
    use super::*;

    const SECRETS: &str = "/api/v1/namespaces/team-a/secrets";

    fn ended(action: &str, ended: Timestamp) -> Fixture {
        let mut fixture = Fixture::new();
        std::sync::Arc::get_mut(&mut fixture.context).unwrap().settings.secret_result_seconds = Some(3600);
        let name = result_secret(UID);
        fixture.api.change(RUN, |run| {
            run["spec"]["action"] = json!(action);
            run["status"] = json!({"phase": "Succeeded", "message": "done", "completionTime": ended.to_string(),
                "console": {"protocol": "vnc"}, "resultRef": {"name": name}});
        });
        fixture.api.put(&format!("{SECRETS}/{name}"), json!({"metadata": {"name": name}}));
        fixture.api.put(&format!("{SECRETS}/other"), json!({"metadata": {"name": "other"}}));
        fixture.refresh();
        fixture
    }

    fn ago(seconds: i64) -> Timestamp {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        now - k8s_openapi::jiff::SignedDuration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_secret_result_goes_an_hour_after_its_run_has_ended_and_the_run_stays() {
        let mut fixture = ended("getconsole", ago(3500));
        assert_eq!(expire(&fixture.context).await.unwrap(), 0);
        fixture = ended("getconsole", ago(3601));
        assert_eq!(expire(&fixture.context).await.unwrap(), 1);
        let left: Vec<_> = fixture.api.under(SECRETS).into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, [format!("{SECRETS}/other")]);
        let status = fixture.status();
        assert!(status.get("resultRef").is_none(), "{status}");
        assert_eq!((&status["phase"], &status["console"]["protocol"]), (&json!("Succeeded"), &json!("vnc")));
        fixture.refresh();
        let requests = fixture.api.log().len();
        assert_eq!(expire(&fixture.context).await.unwrap(), 0);
        assert_eq!(fixture.api.log().len(), requests, "it is done");
    }

    #[tokio::test]
    async fn a_result_that_is_only_large_stays_with_its_run() {
        let fixture = ended("status", ago(100_000));
        assert_eq!(expire(&fixture.context).await.unwrap(), 0);
        assert_eq!(fixture.api.under(SECRETS).len(), 2);
    }

    #[tokio::test]
    async fn a_run_that_names_another_secret_does_not_have_that_deleted() {
        let mut fixture = ended("getconsole", ago(3601));
        fixture.api.change(RUN, |run| run["status"]["resultRef"]["name"] = json!("other"));
        fixture.refresh();
        expire(&fixture.context).await.unwrap();
        assert!(fixture.api.get(&format!("{SECRETS}/other")).is_some());
    }

    #[tokio::test]
    async fn secrets_that_cannot_be_deleted_keep_no_other_and_are_left_alone_for_a_while() {
        let mut fixture = ended("prepare", ago(3601));
        // All ended before the other's, which can be deleted.
        for number in 0..BATCH {
            let mut stuck = fixture.api.get(RUN).unwrap();
            let (name, uid) = (format!("stuck-{number}"), format!("0stuck-{number}"));
            stuck["metadata"]["name"] = json!(name);
            stuck["metadata"]["uid"] = json!(uid);
            fixture.api.put(&RUN.replace("/backup", &format!("/{name}")), stuck);
        }
        fixture.refresh();
        let refused = axum::http::StatusCode::FORBIDDEN;
        fixture.api.before(move |_, method, path| (method == "DELETE" && path.contains("stuck")).then_some(refused));
        let deletions = || fixture.api.writes().iter().filter(|write| write.starts_with("DELETE")).count();
        assert!(expire(&fixture.context).await.is_err());
        // Whatever the order was, the second look comes to the one.
        let _ = expire(&fixture.context).await;
        assert!(fixture.status().get("resultRef").is_none());
        let before = deletions();
        expire(&fixture.context).await.unwrap();
        assert_eq!(deletions(), before, "nothing is tried again at once");
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_deleted_is_still_named() {
        let fixture = ended("prepare", ago(3601));
        let refused = axum::http::StatusCode::FORBIDDEN;
        fixture.api.before(move |_, method, _| (method == "DELETE").then_some(refused));
        assert!(expire(&fixture.context).await.is_err());
        assert!(fixture.status()["resultRef"].is_object());
    }
}
