//! Who may start an attempt: pure. The one place that says yes (rule 4).

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::decide::{phase, start_deadline};
use crate::api::run::Attempt;
use crate::api::{ActionRun, Phase};
use crate::protocol::ClaimRequest;

/// How long the caller's rights count after they were asked for a decision.
const RIGHTS_AGE: SignedDuration = SignedDuration::from_secs(30);

/// What a claim may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has claimed: compare-and-swap it in, then answer.
    New,
    /// The same runner process claimed before, and the answer was lost: answer again.
    Again,
}

/// Whether `request` may start the run that was just read, whose token was checked already.
///
/// `job_of_pod` is the name of the Job that made the claiming pod: a pod of an earlier Job, decided for another revision
/// or by an old leader, must not start.
///
/// # Errors
/// Why the claimant is refused for ever, for people.
pub fn evaluate(
    run: &ActionRun,
    run_uid: &str,
    request: &ClaimRequest,
    job_of_pod: Option<&str>,
    now: Timestamp,
) -> Result<Claim, String> {
    if run.metadata.uid.as_deref() != Some(run_uid) {
        return Err("the run was replaced by another of the same name".into());
    }
    let Some(attempt) = run.status.as_ref().and_then(|status| status.attempts.last()) else {
        return Err("nobody decided to start this run".into());
    };
    if attempt.number != request.attempt {
        return Err(format!("attempt {} is over: this is attempt {}", request.attempt, attempt.number));
    }
    if attempt.ended_at.is_some() && phase(run) == Phase::Pending {
        return Err(format!("attempt {} is over: the run waits for the next one", attempt.number));
    }
    if let Some(hash) = &attempt.nonce_hash {
        return match phase(run) {
            // Nothing else may be said to a runner that holds the claim but has not heard so.
            Phase::Running if *hash == request.nonce.hash() && is_pod_of(attempt, request) => Ok(Claim::Again),
            Phase::Running => Err("another runner claimed this attempt".into()),
            _ => Err("the run has ended".into()),
        };
    }
    if phase(run) != Phase::Pending {
        return Err("the run has ended".into());
    }
    if run.spec.cancel == Some(true) {
        return Err("the run was cancelled".into());
    }
    if run.metadata.deletion_timestamp.is_some() {
        return Err("the run is being deleted".into());
    }
    if now >= start_deadline(run) {
        return Err("the run's start deadline has passed".into());
    }
    match job_of_pod {
        Some(job) if job == attempt.job => Ok(Claim::New),
        Some(job) => Err(format!("Job {job} was replaced by {}", attempt.job)),
        None => Err(format!("pod {} is not one of this run's", request.pod_uid)),
    }
}

/// Whether the newest attempt was decided so short a time ago that the rights which were asked then still count. A pod
/// usually claims a second or two after that; one that could not be scheduled may come days later.
pub fn is_fresh(run: &ActionRun, now: Timestamp) -> bool {
    let decided = run.status.as_ref().and_then(|status| status.attempts.last()?.decided_at.as_ref());
    decided.is_some_and(|decided| now.duration_since(decided.0).abs() <= RIGHTS_AGE)
}

fn is_pod_of(attempt: &Attempt, request: &ClaimRequest) -> bool {
    attempt.pod_uid.as_deref() == Some(request.pod_uid.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::Nonce;

    fn request(nonce: u8) -> ClaimRequest {
        ClaimRequest { attempt: 1, pod_uid: "pod".into(), nonce: Nonce::from_bytes([nonce; 16]) }
    }

    fn run(change: impl FnOnce(&mut serde_json::Value)) -> ActionRun {
        let mut run = json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
            "metadata": {"name": "r", "namespace": "n", "uid": "uid", "creationTimestamp": "2026-11-23T10:00:00Z"},
            "spec": {"extensionRef": {"name": "e"}, "action": "start"},
            "status": {"phase": "Pending", "attempts": [{"number": 1, "jobs": 1, "job": "j1"}]},
        });
        change(&mut run);
        serde_json::from_value(run).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn evaluated(run: &ActionRun) -> Result<Claim, String> {
        evaluate(run, "uid", &request(1), Some("j1"), at("2026-11-23T10:00:01Z"))
    }

    #[test]
    fn rights_count_for_half_a_minute_after_the_decision() {
        let decided = |at: &str| run(|run| run["status"]["attempts"][0]["decidedAt"] = json!(at));
        let run_at = decided("2026-11-23T10:00:00.000000Z");
        assert!(is_fresh(&run_at, at("2026-11-23T10:00:30Z")));
        assert!(!is_fresh(&run_at, at("2026-11-23T10:00:31Z")));
        assert!(!is_fresh(&run(|_| {}), at("2026-11-23T10:00:01Z")), "when it was decided is not known");
    }

    #[test]
    fn the_first_claim_of_a_pending_run_is_granted() {
        assert_eq!(evaluated(&run(|_| {})), Ok(Claim::New));
    }

    #[test]
    fn every_other_state_refuses_and_says_why() {
        type Change = Box<dyn FnOnce(&mut serde_json::Value)>;
        let cases: Vec<(Change, &str)> = vec![
            (Box::new(|run| run["metadata"]["uid"] = json!("other")), "replaced by another"),
            (Box::new(|run| run["status"] = json!({})), "nobody decided"),
            (Box::new(|run| run["status"]["attempts"][0]["number"] = json!(2)), "attempt 1 is over"),
            (Box::new(|run| run["spec"]["cancel"] = json!(true)), "cancelled"),
            (Box::new(|run| run["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z")), "being deleted"),
            (Box::new(|run| run["status"]["phase"] = json!("Failed")), "has ended"),
            (Box::new(|run| run["status"]["phase"] = json!("OutcomeUnknown")), "has ended"),
            (Box::new(|run| run["metadata"]["creationTimestamp"] = json!("2026-11-23T09:00:00Z")), "start deadline"),
            (Box::new(|run| run["status"]["attempts"][0]["job"] = json!("j2")), "Job j1 was replaced by j2"),
        ];
        for (change, expected) in cases {
            let error = evaluated(&run(change)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_lost_answer_is_given_again_and_nobody_else_gets_one() {
        let claimed = run(|run| {
            run["status"]["phase"] = json!("Running");
            run["status"]["attempts"][0]["nonceHash"] = json!(request(1).nonce.hash());
            run["status"]["attempts"][0]["podUID"] = json!("pod");
        });
        // Cancelled or late: the runner that holds the claim hears so by its progress, not by a refusal.
        assert_eq!(evaluate(&claimed, "uid", &request(1), None, at("2027-01-01T00:00:00Z")), Ok(Claim::Again));
        let restarted = evaluate(&claimed, "uid", &request(2), Some("j1"), at("2026-11-23T10:00:01Z"));
        assert_eq!(restarted.unwrap_err(), "another runner claimed this attempt");
    }

    #[test]
    fn a_pod_that_is_not_the_runs_is_refused() {
        let error = evaluate(&run(|_| {}), "uid", &request(1), None, at("2026-11-23T10:00:01Z")).unwrap_err();
        assert_eq!(error, "pod pod is not one of this run's");
    }
}
