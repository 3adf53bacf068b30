//! When a failed attempt is followed by another: pure (rule 12).
//!
//! Only an authentic outcome of the script itself is repeated: it said, or its time ran out, that it did not do what it
//! was asked to. An unknown outcome, a container out of memory, a pod that was evicted or deleted and a cancelled run
//! never are: in none of them is it known that the script is done.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::decide::phase;
use crate::action::Verdict;
use crate::api::run::Attempt;
use crate::api::{ActionRun, Phase, Reason};
use crate::digest::Digest;

/// Seconds before the second attempt; they double for each further one.
const FIRST_PAUSE: i64 = 10;
/// Seconds that no pause exceeds.
const LONGEST_PAUSE: i64 = 300;

/// The number of the attempt that follows the one whose outcome is `verdict`; `None`: the run ends with it.
pub fn follows(run: &ActionRun, verdict: &Verdict) -> Option<u32> {
    let failed = run.status.as_ref()?.attempts.last()?.number;
    let is_the_scripts =
        matches!(verdict.reason, Reason::ActionFailed | Reason::ResultFailed | Reason::ResultInvalid | Reason::Timeout);
    let is_wanted = phase(run) == Phase::Running
        && run.spec.cancel != Some(true)
        && run.metadata.deletion_timestamp.is_none()
        && failed <= run.spec.retries.unwrap_or_default();
    (verdict.phase == Phase::Failed && is_the_scripts && is_wanted).then_some(failed + 1)
}

/// The attempt that failed last, while the run waits to repeat it.
pub fn paused(run: &ActionRun) -> Option<&Attempt> {
    let attempt = run.status.as_ref()?.attempts.last()?;
    (phase(run) == Phase::Pending && attempt.ended_at.is_some()).then_some(attempt)
}

/// Whether the next attempt, the first one included, is still to be decided.
pub fn is_between_attempts(run: &ActionRun) -> bool {
    paused(run).is_some() || run.status.as_ref().is_none_or(|status| status.attempts.is_empty())
}

/// When the attempt after `failed` starts; `None` if `failed` has not ended.
pub fn starts_at(run: &ActionRun, failed: &Attempt) -> Option<Timestamp> {
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let ended = failed.ended_at.as_ref()?.0;
    Some(ended.saturating_add(pause(uid, failed.number)).unwrap_or(Timestamp::MAX))
}

/// From when `startDeadlineSeconds` counts for the attempt that is to start: the run's creation, or the end of the pause
/// after the attempt before it.
pub fn waits_since(run: &ActionRun) -> Timestamp {
    let attempts = run.status.as_ref().map(|status| status.attempts.as_slice()).unwrap_or_default();
    let failed = attempts.iter().rev().find(|attempt| attempt.ended_at.is_some());
    let created = || run.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    failed.and_then(|failed| starts_at(run, failed)).unwrap_or_else(created)
}

/// The pause after a failed attempt: 10 s, doubling up to five minutes, less up to a fifth, which run and attempt decide,
/// so that runs that failed together do not come back together, and every leader waits for the same moment.
pub fn pause(run_uid: &str, failed: u32) -> SignedDuration {
    let doubled = FIRST_PAUSE << failed.saturating_sub(1).min(5);
    let millis = doubled.min(LONGEST_PAUSE) * 1000;
    let drawn = Digest::of(format!("{run_uid} {failed}")).hex();
    let share = drawn.get(..4).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    SignedDuration::from_millis(millis - millis * share / 0xFFFF / 5)
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
