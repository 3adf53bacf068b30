//! What a run's status becomes: pure transitions, each with its conditions. What is written is always one of these.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

use super::queue::Place;
use super::retry;
use crate::action::{Verdict, tail};
use crate::api::conditions::{COMPLETE, Conditions, READY, RECONCILING, STALLED, SUCCEEDED, truncated};
use crate::api::extension::SecretReference;
use crate::api::run::{ActionRunStatus, Attempt, Console, RunRevision};
use crate::api::{ActionRun, Phase, Reason};
use crate::protocol::{Nonce, TAIL_BYTES};
use crate::validate::RoleType;

/// Longest message in status, in bytes.
const TEXT_BYTES: usize = 4096;

/// Waiting, for a reason: before the decision, or for the claim.
pub fn waiting(run: &ActionRun, reason: Reason, message: &str, now: Timestamp) -> ActionRunStatus {
    next(run, Phase::Pending, reason, message, now)
}

/// Waiting for its turn.
pub fn queued(run: &ActionRun, place: &Place, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, Phase::Pending, Reason::Queued, &place.to_string(), now);
    status.queue_position = i32::try_from(place.position).ok();
    status
}

/// Attempt `number` is to get its `jobs`th Job. An earlier claim whose runner said that it never started is taken back.
pub fn decided(run: &ActionRun, decision: &Decision, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, Phase::Pending, Reason::Pending, &decision.message, now);
    status.start_time = None;
    status.revision = Some(decision.revision.clone());
    status.timeout_seconds = i64::try_from(decision.timeout_seconds).ok();
    status.role_type = Some(decision.role_type.to_string());
    status.attempts.retain(|attempt| attempt.number != decision.attempt);
    status.attempts.push(Attempt {
        number: decision.attempt,
        jobs: decision.jobs,
        replaced_jobs: decision.replaced_jobs,
        grace_seconds: Some(decision.grace_seconds),
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
    /// How many of its earlier Jobs a new revision replaced.
    pub replaced_jobs: u32,
    /// Name of the Job.
    pub job: String,
    /// What the run is pinned to.
    pub revision: RunRevision,
    /// The effective timeout.
    pub timeout_seconds: u64,
    /// The caller's role type.
    pub role_type: RoleType,
    /// Seconds between TERM and KILL.
    pub grace_seconds: u32,
    /// For people.
    pub message: String,
}

/// The claim: the write that says Running.
pub fn claimed(run: &ActionRun, pod_uid: &str, nonce: &Nonce, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, Phase::Running, Reason::Running, "the action runs", now);
    status.start_time = Some(Time(now));
    // Those of an attempt that failed before.
    (status.stdout_tail, status.stderr_tail) = (None, None);
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.pod_uid = Some(pod_uid.to_owned());
        attempt.nonce_hash = Some(nonce.hash());
        attempt.claimed_at = Some(MicroTime(now));
    }
    status
}

/// The claim is taken back: the runner that held it says why the script never started.
pub fn given_back(run: &ActionRun, why: &str, now: Timestamp) -> ActionRunStatus {
    let message = format!("the runner did not start the script: {why}");
    let mut status = waiting(run, Reason::Pending, &message, now);
    status.start_time = None;
    if let Some(attempt) = status.attempts.last_mut() {
        (attempt.pod_uid, attempt.nonce_hash, attempt.claimed_at) = (None, None, None);
    }
    status
}

/// The script's streams so far.
pub fn progressed(run: &ActionRun, stdout: &str, stderr: &str) -> ActionRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.stdout_tail = kept(stdout);
    status.stderr_tail = kept(stderr);
    status
}

/// The end without a script's outcome: never started, lost, out of memory.
pub fn ended(run: &ActionRun, phase: Phase, reason: Reason, message: &str, now: Timestamp) -> ActionRunStatus {
    let mut status = next(run, phase, reason, message, now);
    status.completion_time = Some(Time(now));
    // An attempt that failed before keeps how it ended.
    if let Some(attempt) = status.attempts.last_mut().filter(|attempt| attempt.ended_at.is_none()) {
        attempt.reason = Some(reason.to_string());
        attempt.ended_at = Some(MicroTime(now));
    }
    status
}

/// An attempt failed, and the run repeats it after a pause as attempt `number`.
pub fn retrying(run: &ActionRun, verdict: &Verdict, number: u32, now: Timestamp) -> ActionRunStatus {
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let failed = number.saturating_sub(1);
    let most = u64::from(run.spec.retries.unwrap_or_default()) + 1;
    let next_at = now.saturating_add(retry::pause(uid, failed)).unwrap_or(Timestamp::MAX);
    let message =
        format!("attempt {failed} of {most} failed, attempt {number} starts at {next_at:.0}: {}", verdict.message);
    let mut status = next(run, Phase::Pending, Reason::Retrying, &message, now);
    (status.stdout_tail, status.stderr_tail) = (verdict.stdout_tail.clone(), verdict.stderr_tail.clone());
    over(&mut status, verdict, now);
    status
}

/// The newest attempt is over, with this outcome.
fn over(status: &mut ActionRunStatus, verdict: &Verdict, now: Timestamp) {
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.exit_code = verdict.exit_code;
        attempt.reason = Some(verdict.reason.to_string());
        attempt.ended_at = Some(MicroTime(now));
    }
    // An outcome that was found without a report says nothing of what was printed, and what an earlier one said is no more.
    let newest = status.attempts.last().map(|attempt| attempt.number);
    status.output.take_if(|output| Some(output.attempt) != newest);
}

/// The end with a script's outcome; `secret` is the name of the Secret that holds what status must not.
pub fn concluded(run: &ActionRun, verdict: &Verdict, secret: Option<&str>, now: Timestamp) -> ActionRunStatus {
    let mut status = ended(run, verdict.phase, verdict.reason, &verdict.message, now);
    status.exit_code = verdict.exit_code;
    over(&mut status, verdict, now);
    status.result = verdict.result.clone();
    status.power = verdict.power.map(|power| power.as_str().to_owned());
    status.console = verdict.console.as_ref().map(|console| Console { protocol: console.protocol.clone() });
    status.result_ref = secret.map(|name| SecretReference { name: name.to_owned() });
    status.stdout_tail = verdict.stdout_tail.clone();
    status.stderr_tail = verdict.stderr_tail.clone();
    status
}

/// The same, said of the run as it is now: what changed since then makes no difference.
pub fn observed(run: &ActionRun) -> ActionRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.observed_generation = run.metadata.generation;
    status.conditions.iter_mut().for_each(|condition| condition.observed_generation = run.metadata.generation);
    status
}

/// The Secret of the result is gone.
pub fn without_secret(run: &ActionRun) -> ActionRunStatus {
    ActionRunStatus { result_ref: None, ..run.status.clone().unwrap_or_default() }
}

/// A tail, unless it is empty.
fn kept(text: &str) -> Option<String> {
    Some(tail(text, TAIL_BYTES)).filter(|text| !text.is_empty())
}

fn next(run: &ActionRun, phase: Phase, reason: Reason, message: &str, now: Timestamp) -> ActionRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.phase = Some(phase);
    status.queue_position = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{find, is_true};

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    #[test]
    fn conditions_follow_kstatus_in_every_phase() {
        let run = ActionRun::new("r", Default::default());
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
}
