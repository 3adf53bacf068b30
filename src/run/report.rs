//! What a progress note or a report may change: pure (rules 8, 10 and 11).

use super::decide::phase;
use crate::api::{ActionRun, Phase};
use crate::protocol::Nonce;

/// What to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Store it, then acknowledge.
    Store,
    /// It is stored, or something final is: acknowledge, so that the runner exits.
    Stored,
}

/// Whether the sender holds the claim of the run that was just read, whose token was checked already.
///
/// # Errors
/// Why it does not, for people: final for the runner.
pub fn holds_claim(run: &ActionRun, run_uid: &str, attempt: u32, nonce: &Nonce) -> Result<(), String> {
    if run.metadata.uid.as_deref() != Some(run_uid) {
        return Err("the run was replaced by another of the same name".into());
    }
    let claimed = run.status.as_ref().and_then(|status| status.attempts.last());
    match claimed {
        Some(claimed) if claimed.number == attempt && claimed.nonce_hash.as_deref() == Some(nonce.hash().as_str()) => {
            Ok(())
        }
        _ => Err("this runner does not hold the run's claim".into()),
    }
}

/// What to do with the report of the runner that holds the claim. A late one replaces an unknown outcome; nothing
/// replaces another.
pub fn evaluate(run: &ActionRun) -> Acceptance {
    match phase(run) {
        Phase::Running | Phase::OutcomeUnknown => Acceptance::Store,
        Phase::Pending | Phase::Succeeded | Phase::Failed | Phase::Canceled => Acceptance::Stored,
    }
}

/// Whether the script is to be stopped: cancelled, being deleted, or given up.
pub fn must_stop(run: &ActionRun) -> bool {
    run.spec.cancel == Some(true) || run.metadata.deletion_timestamp.is_some() || phase(run) != Phase::Running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(phase: &str) -> ActionRun {
        serde_json::from_value(json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
            "metadata": {"name": "r", "namespace": "n", "uid": "uid"},
            "spec": {"extensionRef": {"name": "e"}, "action": "start"},
            "status": {"phase": phase, "attempts": [
                {"number": 1, "jobs": 1, "job": "j", "nonceHash": Nonce::from_bytes([1; 16]).hash()}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_the_claimed_nonce_of_the_same_run_and_attempt_is_heard() {
        let run = run("Running");
        let mine = Nonce::from_bytes([1; 16]);
        assert_eq!(holds_claim(&run, "uid", 1, &mine), Ok(()));
        assert!(holds_claim(&run, "other", 1, &mine).is_err());
        assert!(holds_claim(&run, "uid", 2, &mine).is_err());
        assert!(holds_claim(&run, "uid", 1, &Nonce::from_bytes([2; 16])).is_err());
    }

    #[test]
    fn a_late_report_replaces_an_unknown_outcome_and_no_other() {
        assert_eq!(evaluate(&run("Running")), Acceptance::Store);
        assert_eq!(evaluate(&run("OutcomeUnknown")), Acceptance::Store);
        for phase in ["Succeeded", "Failed", "Canceled"] {
            assert_eq!(evaluate(&run(phase)), Acceptance::Stored, "{phase}");
        }
    }

    #[test]
    fn a_runner_is_told_to_stop_when_the_run_is_cancelled_deleted_or_given_up() {
        assert!(!must_stop(&run("Running")));
        assert!(must_stop(&run("OutcomeUnknown")));
        let mut cancelled = run("Running");
        cancelled.spec.cancel = Some(true);
        assert!(must_stop(&cancelled));
    }
}
