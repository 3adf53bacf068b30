//! What to do about a Lease as it was last read. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// Annotation on the Lease: `https://<address>:<port>` of its holder's TLS listener.
pub const ADDRESS: &str = "outrigger.dev/address";

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nobody holds it: write this (create, or replace at the resourceVersion that was read).
    Acquire(LeaseSpec),
    /// The candidate holds it: write this at the resourceVersion that was read.
    Renew(LeaseSpec),
    /// Another one holds it: look again after this time at the latest.
    Wait(Duration),
}

/// Decides for `identity`. `unchanged_for` is how long this process has seen `lease` at the same record, by its own
/// monotonic clock; `now` is only written, never compared; `duration` is what a lease of this candidate lasts.
pub fn evaluate(
    lease: Option<&Lease>,
    identity: &str,
    unchanged_for: Duration,
    now: Timestamp,
    duration: Duration,
) -> Decision {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let Some(holder) = holder(lease) else {
        return Decision::Acquire(acquired(spec, identity, now, duration));
    };
    if holder == identity {
        let acquire_time = spec.and_then(|spec| spec.acquire_time.clone());
        let lease_transitions = spec.and_then(|spec| spec.lease_transitions);
        return Decision::Renew(LeaseSpec { acquire_time, lease_transitions, ..held(identity, now, duration) });
    }
    // The holder counts on the duration that it wrote; a longer one than ours is honoured.
    let written = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    let lasts = duration.max(Duration::from_secs(written.unwrap_or_default()));
    match lasts.checked_sub(unchanged_for) {
        Some(left) if !left.is_zero() => Decision::Wait(left),
        _ => Decision::Acquire(acquired(spec, identity, now, duration)),
    }
}

/// Who holds the Lease, if anyone.
pub(super) fn holder(lease: Option<&Lease>) -> Option<&str> {
    lease?.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The record of a holder that has let go: the next candidate need not wait.
pub(super) fn released(spec: Option<&LeaseSpec>) -> LeaseSpec {
    LeaseSpec { holder_identity: Some(String::new()), ..spec.cloned().unwrap_or_default() }
}

fn acquired(old: Option<&LeaseSpec>, identity: &str, now: Timestamp, duration: Duration) -> LeaseSpec {
    let transitions = old.map_or(0, |old| old.lease_transitions.unwrap_or_default().saturating_add(1));
    LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..held(identity, now, duration)
    }
}

fn held(identity: &str, now: Timestamp, duration: Duration) -> LeaseSpec {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease_of(holder: &str, seconds: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(MicroTime(at(1))),
            renew_time: Some(MicroTime(at(2))),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    fn decide(lease: Option<&Lease>, unchanged_for: u64) -> Decision {
        evaluate(lease, "me", Duration::from_secs(unchanged_for), at(9), DURATION)
    }

    #[test]
    fn a_missing_or_empty_lease_is_acquired() {
        let Decision::Acquire(spec) = decide(None, 0) else { panic!() };
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
        assert_eq!(spec.lease_duration_seconds, Some(15));
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(at(9))), Some(MicroTime(at(9)))));
        assert_eq!(spec.lease_transitions, Some(0));
        assert!(matches!(decide(Some(&Lease::default()), 0), Decision::Acquire(_)));
    }

    #[test]
    fn a_released_lease_is_acquired_at_once() {
        let mut lease = lease_of("other", 15);
        lease.spec = Some(released(lease.spec.as_ref()));
        let Decision::Acquire(spec) = decide(Some(&lease), 0) else { panic!() };
        assert_eq!(spec.lease_transitions, Some(5));
    }

    #[test]
    fn the_holder_renews_and_keeps_when_it_acquired() {
        let Decision::Renew(spec) = decide(Some(&lease_of("me", 15)), 99) else { panic!() };
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(at(1))), Some(MicroTime(at(9)))));
        assert_eq!(spec.lease_transitions, Some(4));
    }

    #[test]
    fn another_holder_is_waited_for_as_long_as_its_record_lasts_since_it_was_seen() {
        assert_eq!(decide(Some(&lease_of("other", 15)), 0), Decision::Wait(DURATION));
        assert_eq!(decide(Some(&lease_of("other", 15)), 14), Decision::Wait(Duration::from_secs(1)));
        assert_eq!(decide(Some(&lease_of("other", 60)), 15), Decision::Wait(Duration::from_secs(45)));
        assert!(matches!(decide(Some(&lease_of("other", 15)), 15), Decision::Acquire(_)));
        assert!(matches!(decide(Some(&lease_of("other", -3)), 15), Decision::Acquire(_)));
    }

    #[test]
    fn a_shorter_duration_of_the_holder_does_not_shorten_the_wait() {
        assert_eq!(decide(Some(&lease_of("other", 1)), 5), Decision::Wait(Duration::from_secs(10)));
    }
}
