//! Many tries of which none keeps another: counts them, keeps the first error, and leaves alone for longer and longer what
//! fails again and again. Pure.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// The pause after a first failure; doubled by each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// That some of many tries failed.
#[derive(Debug, thiserror::Error)]
#[error("{count} failed, first {what:?}: {first}")]
pub struct Failures<E: Display> {
    /// The first error.
    pub first: E,
    what: String,
    count: usize,
}

/// What came of many tries.
#[derive(Debug)]
pub(super) struct Tries<E: Display> {
    done: usize,
    failures: Option<Failures<E>>,
}

impl<E: Display> Default for Tries<E> {
    fn default() -> Self {
        Self { done: 0, failures: None }
    }
}

impl<E: Display> Tries<E> {
    /// Notes what came of one: `Ok(false)` if there was nothing to do. Returns whether it failed.
    pub(super) fn note(&mut self, what: impl Display, result: Result<bool, E>) -> bool {
        let has_failed = result.is_err();
        match (result, &mut self.failures) {
            (Ok(is_done), _) => self.done += usize::from(is_done),
            (Err(_), Some(failures)) => failures.count += 1,
            (Err(first), none) => *none = Some(Failures { first, what: what.to_string(), count: 1 }),
        }
        has_failed
    }

    /// Whether there were so many that others are to have the rest of the time. Failures use up their own share, so that they
    /// leave the successes theirs.
    pub(super) fn are_enough(&self, most: usize) -> bool {
        self.done >= most || self.failed() >= most
    }

    fn failed(&self) -> usize {
        self.failures.as_ref().map_or(0, |failures| failures.count)
    }

    /// How many had something to do and did it.
    ///
    /// # Errors
    /// [`Failures`].
    pub(super) fn end(self) -> Result<usize, Failures<E>> {
        self.failures.map_or(Ok(self.done), Err)
    }
}

/// What failed and is left alone for a while, by UID.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<String, (u32, Instant)>);

impl Pauses {
    /// Whether it is not to be tried yet.
    pub(super) fn holds(&self, uid: &str, now: Instant) -> bool {
        self.0.get(uid).is_some_and(|(_, until)| now < *until)
    }

    /// Notes how a try ended at `now`.
    pub(super) fn note(&mut self, uid: &str, has_failed: bool, now: Instant) {
        if !has_failed {
            self.0.remove(uid);
            return;
        }
        let (failures, until) = self.0.entry(uid.to_owned()).or_insert((0, now));
        *until = now + FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(*failures)).min(LONGEST_PAUSE);
        *failures += 1;
    }

    /// Forgets all but those that `is_there` says are.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|uid, _| is_there(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_error_is_told() {
        let mut tries = Tries::default();
        for (what, result) in
            [("a", Ok(true)), ("b", Err("no")), ("c", Ok(false)), ("d", Err("never")), ("e", Ok(true))]
        {
            tries.note(what, result);
        }
        assert_eq!(tries.end().unwrap_err().to_string(), "2 failed, first \"b\": no");
        let mut tries = Tries::<&str>::default();
        tries.note("a", Ok(true));
        tries.note("b", Ok(false));
        assert_eq!(tries.end().unwrap(), 1);
    }

    #[test]
    fn failures_leave_successes_their_share() {
        let mut tries = Tries::default();
        tries.note("a", Err("no"));
        tries.note("b", Ok(true));
        tries.note("c", Ok(false));
        assert!(!tries.are_enough(2));
        tries.note("d", Err("no"));
        assert!(tries.are_enough(2));
    }

    #[test]
    fn what_fails_again_is_left_alone_for_longer_up_to_a_bound_until_it_succeeds() {
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!pauses.holds("a", now));
        pauses.note("a", true, now);
        assert!(pauses.holds("a", after(9)) && !pauses.holds("a", after(10)) && !pauses.holds("b", now));
        pauses.note("a", true, after(10));
        assert!(pauses.holds("a", after(29)) && !pauses.holds("a", after(30)));
        for _ in 0..100 {
            pauses.note("a", true, now);
        }
        assert!(pauses.holds("a", after(599)) && !pauses.holds("a", after(600)));
        pauses.note("a", false, now);
        assert!(!pauses.holds("a", now));
        pauses.note("a", true, now);
        pauses.retain(|uid| uid != "a");
        assert!(!pauses.holds("a", now));
    }
}
