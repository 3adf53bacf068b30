//! When a source may be asked again whose server named a time. Pure: the caller reads the clock.
//!
//! Until then nothing but the source waits: the volume is looked at as often as ever.

use std::time::Instant;

use super::failure::Failure;
use super::status::Applied;
use crate::api::reason::FailureClass;

/// A server's wish not to be asked before a time.
#[derive(Debug, Clone)]
pub struct Postponed {
    until: Instant,
    failure: Failure,
    requested_at: Option<String>,
}

impl Postponed {
    /// What the end of a try says about the next one. `requested_at` is the request to reconcile that it answered.
    pub fn after(result: &Result<Applied, Failure>, requested_at: Option<&str>, now: Instant) -> Option<Self> {
        let failure = result.as_ref().err()?;
        let FailureClass::Waiting(after) = failure.class else { return None };
        let requested_at = requested_at.map(str::to_owned);
        Some(Self { until: now.checked_add(after)?, failure: failure.clone(), requested_at })
    }

    /// The failure that still stands; `None` if the source may be asked, because the time has come or somebody requests it.
    pub fn failure(&self, requested_at: Option<&str>, now: Instant) -> Option<Failure> {
        let left = self.until.saturating_duration_since(now);
        let stands = !left.is_zero() && self.requested_at.as_deref() == requested_at;
        stands.then(|| Failure { class: FailureClass::Waiting(left), ..self.failure.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::failure::Stage;
    use super::*;
    use crate::api::Reason;

    fn failed(class: FailureClass) -> Result<Applied, Failure> {
        Err(Failure { class, ..Failure::transient(Stage::Fetch, Reason::FetchFailed, "HTTP 429") })
    }

    #[test]
    fn a_failure_stands_until_the_time_that_the_server_named_or_somebody_requests_a_look() {
        let (now, seconds) = (Instant::now(), Duration::from_secs);
        let postponed = Postponed::after(&failed(FailureClass::Waiting(seconds(60))), Some("a"), now).unwrap();
        let stands = |requested_at, after| {
            postponed.failure(requested_at, now + seconds(after)).map(|failure| (failure.class, failure.message))
        };
        assert_eq!(stands(Some("a"), 10), Some((FailureClass::Waiting(seconds(50)), "HTTP 429".to_owned())));
        assert_eq!(stands(Some("a"), 60), None);
        assert_eq!((stands(Some("b"), 10), stands(None, 10)), (None, None));
    }

    #[test]
    fn whoever_names_no_time_is_asked_when_it_suits() {
        for result in [Ok(Applied::Suspended), failed(FailureClass::Transient), failed(FailureClass::Stalled)] {
            assert!(Postponed::after(&result, None, Instant::now()).is_none());
        }
    }
}
