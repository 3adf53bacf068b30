//! What the threads of one run tell each other: stop, the script has ended, everything has ended.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::WaitStatus;

use crate::protocol::Ending;

/// Why a script is stopped before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The run was cancelled.
    Canceled,
    /// The runner itself was told to end.
    PodDeleted,
}

impl From<StopReason> for Ending {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Canceled => Self::Canceled,
            StopReason::PodDeleted => Self::PodDeleted,
        }
    }
}

/// Handle on one run, shared by the threads that take part in it.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// The first reason to stop that was given.
    pub stop: Option<StopReason>,
    /// How the script ended, and when.
    pub ended: Option<(WaitStatus, Instant)>,
    /// No process that the script started is left.
    pub all_gone: bool,
    /// Streams drained to their end.
    pub drained: u8,
    /// The outcome is known.
    pub concluded: bool,
}

impl Control {
    /// A run that nobody asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop the script, or not to start it. The first reason counts.
    pub fn stop(&self, reason: StopReason) {
        self.update(|state| state.stop = state.stop.or(Some(reason)));
    }

    /// The reason to stop, if there is one.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.lock().stop
    }

    /// Waits until `deadline`, or until somebody asks to stop; says whether somebody did.
    pub fn stopped_before(&self, deadline: Instant) -> bool {
        self.wait(Some(deadline), |state| state.stop.is_some()).stop.is_some()
    }

    /// Waits until `deadline` (for ever without one), or until `ready`.
    pub(super) fn wait(&self, deadline: Option<Instant>, ready: impl Fn(&State) -> bool) -> State {
        let mut state = self.lock();
        while !ready(&state) {
            let Some(deadline) = deadline else {
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *state
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_first_reason_to_stop_counts() {
        let control = Control::new();
        assert_eq!(control.stop_reason(), None);
        control.stop(StopReason::Canceled);
        control.stop(StopReason::PodDeleted);
        assert_eq!(control.stop_reason(), Some(StopReason::Canceled));
    }

    #[test]
    fn a_waiter_wakes_at_a_stop_and_at_its_deadline() {
        let control = Control::new();
        assert!(!control.stopped_before(Instant::now() + Duration::from_millis(5)));
        let other = control.clone();
        let waiter = std::thread::spawn(move || other.stopped_before(Instant::now() + Duration::from_secs(60)));
        control.stop(StopReason::PodDeleted);
        assert!(waiter.join().unwrap());
    }
}
