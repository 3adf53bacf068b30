//! What a progress note or a report may change: pure (rules 8, 10 and 11).

use std::borrow::Cow;

use super::decide::phase;
use crate::api::{ActionRun, Phase};
use crate::protocol::{Ending, Nonce, Outcome};

/// What to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Store it, then acknowledge.
    Store,
    /// It is stored, or something final is: acknowledge, so that the runner exits.
    Stored,
}

/// Whether the sender holds the claim of this attempt, the newest or an earlier one, of the run that was just read, whose
/// token was checked already.
///
/// # Errors
/// Why it does not, for people: final for the runner.
pub fn holds_claim(run: &ActionRun, run_uid: &str, attempt: u32, nonce: &Nonce) -> Result<(), String> {
    if run.metadata.uid.as_deref() != Some(run_uid) {
        return Err("the run was replaced by another of the same name".into());
    }
    let mut attempts = run.status.iter().flat_map(|status| &status.attempts);
    match attempts.find(|claimed| claimed.number == attempt) {
        Some(claimed) if claimed.nonce_hash.as_deref() == Some(nonce.hash().as_str()) => Ok(()),
        _ => Err("this runner does not hold the run's claim".into()),
    }
}

/// What to do with a report of the runner that holds the claim of the newest attempt. A late one replaces an unknown
/// outcome; nothing replaces another.
pub fn evaluate(run: &ActionRun) -> Acceptance {
    match phase(run) {
        Phase::Running | Phase::OutcomeUnknown => Acceptance::Store,
        Phase::Pending | Phase::Succeeded | Phase::Failed | Phase::Canceled => Acceptance::Stored,
    }
}

/// The same for the runner of any attempt. An earlier attempt's outcome is stored: without it there would be no later one.
pub fn evaluate_of(run: &ActionRun, attempt: u32) -> Acceptance {
    if is_newest(run, attempt) { evaluate(run) } else { Acceptance::Stored }
}

/// Whether the script of `attempt` is to be stopped: cancelled, being deleted, given up, or over.
pub fn must_stop(run: &ActionRun, attempt: u32) -> bool {
    is_unwanted(run) || !is_current(run, attempt)
}

/// Whether somebody cancelled or deleted the run. Neither can be taken back.
fn is_unwanted(run: &ActionRun) -> bool {
    run.spec.cancel == Some(true) || run.metadata.deletion_timestamp.is_some()
}

/// The outcome as it is to be stored. A runner hears "stop" also of a run that was given up, whose Job is deleted, and calls
/// that cancelled; but `Canceled` is only what somebody cancelled (rule 8).
pub fn as_it_was<'a>(run: &ActionRun, outcome: &'a Outcome) -> Cow<'a, Outcome> {
    if outcome.ending != Ending::Canceled || is_unwanted(run) {
        return Cow::Borrowed(outcome);
    }
    let message = "stopped because the run had been given up: its outcome was unknown, and its pod told to end";
    Cow::Owned(Outcome { ending: Ending::PodDeleted, message: Some(message.into()), ..outcome.clone() })
}

/// Whether `attempt` is the one that runs now.
pub fn is_current(run: &ActionRun, attempt: u32) -> bool {
    phase(run) == Phase::Running && is_newest(run, attempt)
}

fn is_newest(run: &ActionRun, attempt: u32) -> bool {
    run.status.as_ref().and_then(|status| status.attempts.last()).is_some_and(|newest| newest.number == attempt)
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
        for phase in ["Pending", "Succeeded", "Failed", "Canceled"] {
            assert_eq!(evaluate(&run(phase)), Acceptance::Stored, "{phase}");
        }
    }

    #[test]
    fn a_runner_is_told_to_stop_when_the_run_is_cancelled_deleted_or_given_up() {
        assert!(!must_stop(&run("Running"), 1));
        assert!(must_stop(&run("OutcomeUnknown"), 1));
        let mut cancelled = run("Running");
        cancelled.spec.cancel = Some(true);
        assert!(must_stop(&cancelled, 1));
    }

    #[test]
    fn a_report_of_an_attempt_that_was_repeated_is_acknowledged_and_changes_nothing() {
        let mut run = run("Running");
        let status = run.status.as_mut().unwrap();
        let mut second = status.attempts[0].clone();
        (second.number, second.nonce_hash) = (2, Some(Nonce::from_bytes([2; 16]).hash()));
        status.attempts.push(second);
        assert_eq!(holds_claim(&run, "uid", 1, &Nonce::from_bytes([1; 16])), Ok(()));
        assert_eq!(evaluate_of(&run, 1), Acceptance::Stored);
        assert!(must_stop(&run, 1) && !must_stop(&run, 2));
        assert_eq!(evaluate_of(&run, 2), Acceptance::Store);
        assert!(holds_claim(&run, "uid", 2, &Nonce::from_bytes([1; 16])).is_err());
    }
}
