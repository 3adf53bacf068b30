//! How long to wait until the next look: after failures that may pass by themselves, and where all is well. Pure: the caller
//! draws the jitter.

use std::time::Duration;

use crate::api::reason::FailureClass;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// The pause after `failures` failures in a row (1 = the first): doubling from 1 s to 5 min, of which up to half is
/// taken off by `jitter` (0.0 to 1.0), so that a server that comes back is not met by everyone at once.
pub fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// The failures in a row after one more look that ended with `class` (`None`: with success), of which there were `before`
/// at the same generation. Only those count that may pass by themselves: what a change has mended begins anew.
pub fn failures(before: u32, class: Option<FailureClass>) -> u32 {
    match class {
        None | Some(FailureClass::Stalled) => 0,
        Some(FailureClass::Transient | FailureClass::Waiting(_)) => before.saturating_add(1),
    }
}

/// The pause until an extension with this `interval` is looked at again: up to a fifth less, by `jitter` (0.0 to 1.0), so
/// that extensions that were applied together do not ask their servers together for ever. Never more: what was changed from
/// outside is found within the interval.
pub fn spread(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.8 + jitter.clamp(0.0, 1.0) / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses: Vec<_> = [1, 2, 3, 9, 10, u32::MAX].map(|failures| pause(failures, 0.0).as_secs()).to_vec();
        assert_eq!(pauses, [1, 2, 4, 256, 300, 300]);
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        assert_eq!(pause(3, 1.0), Duration::from_secs(2));
        assert_eq!(pause(3, 7.0), Duration::from_secs(2));
    }

    #[test]
    fn looks_are_spread_over_the_last_fifth_of_the_interval_and_never_later() {
        let interval = Duration::from_secs(600);
        let pauses = [0.0, 0.5, 1.0, 7.0].map(|jitter| spread(interval, jitter).as_secs());
        assert_eq!(pauses, [480, 540, 600, 600]);
    }

    #[test]
    fn the_first_passing_failure_after_a_stall_is_tried_again_soon() {
        assert_eq!(failures(8, Some(FailureClass::Transient)), 9);
        assert_eq!(failures(8, Some(FailureClass::Stalled)), 0);
        assert_eq!(failures(8, None), 0);
    }
}
