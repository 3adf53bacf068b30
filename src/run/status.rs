//! What a run's status becomes: pure transitions, each with its conditions. What is written is always one of these.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

use super::contract::Verdict;
use crate::api::conditions::{COMPLETE, Conditions, READY, RECONCILING, STALLED, SUCCEEDED, truncated};
use crate::api::run::{ActionRunStatus, Attempt, Phase, RunRevision};
use crate::api::{ActionRun, Reason};
use crate::protocol::{Nonce, Outcome, Stream};

/// Longest message and tail in status, in bytes of serialised JSON (rule 18).
const TEXT_BYTES: usize = 4096;

/// Waiting, for a reason: before the decision, or for the claim.
pub fn waiting(run: &ActionRun, reason: Reason, message: &str, now: Timestamp) -> ActionRunStatus {
    next(run, Phase::Pending, reason, message, now)
}

/// Attempt `number` is to get its `jobs`th Job. An earlier claim whose runner said that it never started is taken back.
pub fn decided(run: &ActionRun, decision: &Decision, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, Phase::Pending, Reason::Pending, &decision.message, now);
    status.start_time = None;
    status.revision = Some(decision.revision.clone());
    status.timeout_seconds = i64::try_from(decision.timeout_seconds).ok();
    status.attempts.retain(|attempt| attempt.number != decision.attempt);
    status.attempts.push(Attempt {
        number: decision.attempt,
        jobs: decision.jobs,
        job: decision.job.clone(),
        decided_at: Some(MicroTime(now)),
        ..Attempt::default()
    });
    status
}

/// What [`decided`] records.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Number of the attempt.
    pub attempt: u32,
    /// Number of its Job.
    pub jobs: u32,
    /// Name of the Job.
    pub job: String,
    /// What the run is pinned to.
    pub revision: RunRevision,
    /// The effective timeout.
    pub timeout_seconds: u64,
    /// For people.
    pub message: String,
}

/// The claim: the write that says Running.
pub fn claimed(run: &ActionRun, pod_uid: &str, nonce: &Nonce, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, Phase::Running, Reason::Running, "the action runs", now);
    status.start_time = Some(Time(now));
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.pod_uid = Some(pod_uid.to_owned());
        attempt.nonce_hash = Some(nonce.hash());
        attempt.claimed_at = Some(MicroTime(now));
    }
    status
}

/// The script's streams so far.
pub fn progressed(run: &ActionRun, stdout: &str, stderr: &str) -> ActionRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.stdout_tail = tail(stdout);
    status.stderr_tail = tail(stderr);
    status
}

/// The end without a script's outcome: never started, lost, out of memory.
pub fn ended(run: &ActionRun, phase: Phase, reason: Reason, message: &str, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, phase, reason, message, now);
    status.completion_time = Some(Time(now));
    status.queue_position = None;
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.reason = Some(reason.to_string());
    }
    status
}

/// The end with a script's outcome.
pub fn concluded(run: &ActionRun, outcome: &Outcome, verdict: &Verdict, now: Timestamp) -> ActionRunStatus {
    let mut status = ended(run, verdict.phase, verdict.reason, &verdict.message, now);
    status.exit_code = outcome.exit_code;
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.exit_code = outcome.exit_code;
    }
    status.result = verdict.result.clone();
    status.power = verdict.power.clone();
    status.console = verdict.console.clone();
    let text = |Stream { text, .. }: &Stream| text.clone();
    // A secret result was printed: it must not stand in status by the back door.
    status.stdout_tail = if verdict.secret.is_some() { None } else { tail(&text(&outcome.stdout)) };
    status.stderr_tail = tail(&text(&outcome.stderr));
    status
}

fn next(run: &ActionRun, phase: Phase, reason: Reason, message: &str, now: Timestamp) -> ActionRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.phase = Some(phase);
    status.observed_generation = run.metadata.generation;
    status.reason = Some(reason.to_string());
    status.message = Some(truncated(message.to_owned(), TEXT_BYTES));
    conditions(&mut status.conditions, run.metadata.generation, phase, reason, message, now);
    status
}

/// kstatus: a run that waits or runs is Reconciling, one that succeeded is Ready, any other end is Stalled, because
/// nothing will happen any more.
fn conditions(
    conditions: &mut Vec<Condition>,
    generation: Option<i64>,
    phase: Phase,
    reason: Reason,
    message: &str,
    now: Timestamp,
) {
    let mut set = Conditions::of(conditions, generation, now);
    match phase {
        Phase::Pending | Phase::Running => set
            .is_false(READY, reason, message)
            .is_true(RECONCILING, reason, message)
            .remove(STALLED)
            .is_false(COMPLETE, reason, message)
            .is_unknown(SUCCEEDED, reason, message),
        Phase::Succeeded => set
            .is_true(READY, reason, message)
            .remove(RECONCILING)
            .remove(STALLED)
            .is_true(COMPLETE, reason, message)
            .is_true(SUCCEEDED, reason, message),
        Phase::Failed | Phase::Canceled | Phase::OutcomeUnknown => {
            set.is_false(READY, reason, message)
                .remove(RECONCILING)
                .is_true(STALLED, reason, message)
                .is_true(COMPLETE, reason, message);
            match phase {
                Phase::OutcomeUnknown => set.is_unknown(SUCCEEDED, reason, message),
                _ => set.is_false(SUCCEEDED, reason, message),
            }
        }
    };
}

/// The end of `text` that takes at most [`TEXT_BYTES`] as serialised JSON; nothing for no text.
fn tail(text: &str) -> Option<String> {
    let cost = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    let mut left = TEXT_BYTES;
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        match left.checked_sub(cost(c)) {
            Some(rest) => (left, start) = (rest, at),
            None => break,
        }
    }
    Some(text[start..].to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{find, is_true};

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    #[test]
    fn conditions_follow_kstatus_in_every_phase() {
        let run = ActionRun::default();
        let cases = [
            (Phase::Pending, "False", true, false, "False", "Unknown"),
            (Phase::Running, "False", true, false, "False", "Unknown"),
            (Phase::Succeeded, "True", false, false, "True", "True"),
            (Phase::Failed, "False", false, true, "True", "False"),
            (Phase::Canceled, "False", false, true, "True", "False"),
            (Phase::OutcomeUnknown, "False", false, true, "True", "Unknown"),
        ];
        for (phase, ready, reconciling, stalled, complete, succeeded) in cases {
            let status = next(&run, phase, Reason::Running, "m", now());
            let of = |type_| find(&status.conditions, type_).map(|condition| condition.status.as_str());
            assert_eq!(of(READY), Some(ready), "{phase:?}");
            assert_eq!(is_true(&status.conditions, RECONCILING), reconciling, "{phase:?}");
            assert_eq!(is_true(&status.conditions, STALLED), stalled, "{phase:?}");
            assert_eq!(of(COMPLETE), Some(complete), "{phase:?}");
            assert_eq!(of(SUCCEEDED), Some(succeeded), "{phase:?}");
        }
    }

    #[test]
    fn a_tail_is_bounded_as_serialised_json_and_keeps_the_end() {
        for filler in ["x", "\u{1}", "\"", "é", "\u{1F600}"] {
            let kept = tail(&(filler.repeat(9000) + "END")).unwrap();
            assert!(serde_json::to_string(&kept).unwrap().len() <= TEXT_BYTES + 2);
            assert!(kept.ends_with("END"));
        }
        assert_eq!(tail(""), None);
    }
}
