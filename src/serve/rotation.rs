//! When a CA is followed by another, and when the old one goes. Pure: data in, a decision out.
//!
//! A Job pins the CA that was current when it was made, and its runner asks for the certificate of that very CA by name
//! ([`crate::protocol::server_name`]). So a new CA serves beside the old one, at once and for new Jobs only, until no
//! Job pins the old. Clients that ask for no CA by name (the API server, other replicas) get the old CA's certificate
//! for the first half of the [`OVERLAP`]: the bundle that they trust may not hold the new one yet. In the second half
//! every replica goes over to the new one, so that none serves the old one's when the bundle loses it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::issue::CA_LIFETIME;

/// A CA is followed by another when it is valid for less than this: a third of its life.
pub const ROTATE_BEFORE: Duration = Duration::from_secs(CA_LIFETIME.as_secs() / 3);
/// How long an old CA serves at least: every replica, and whoever trusts their bundle, knows the new one by then.
pub const OVERLAP: Duration = Duration::from_secs(3600);

/// Whether everyone who trusts the bundle knows a CA that was made at `made`.
pub fn is_known(made: SystemTime, now: SystemTime) -> bool {
    now.duration_since(made).is_ok_and(|age| age >= OVERLAP / 2)
}

/// The CAs that Jobs pin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// By the names that their runners ask for.
    pub names: BTreeSet<String>,
    /// A Job does not say which it pins.
    pub unknown: bool,
}

/// The CA that serves for old Jobs.
#[derive(Clone, Copy, Debug)]
pub struct Old<'a> {
    /// The name that runners of its Jobs ask for.
    pub name: &'a str,
    /// When it was followed by another.
    pub since: SystemTime,
    /// What Jobs pin, if that is known.
    pub pinned: Option<&'a Pinned>,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Now.
    pub now: SystemTime,
    /// When the current CA was made, if that is known.
    pub made: Option<SystemTime>,
    /// Somebody asked for a new CA.
    pub asked: bool,
    /// The CA before the current one, where it still serves.
    pub old: Option<Old<'a>>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Make a new CA; the current one becomes the old one.
    Rotate,
    /// The old CA has served its time.
    Drop,
}

/// Decides. There are never more than two CAs: who asks for a third waits until the first is gone.
pub fn step(seen: &Seen<'_>) -> Step {
    if let Some(old) = &seen.old {
        let is_known = seen.now.duration_since(old.since).is_ok_and(|age| age >= OVERLAP);
        let is_free = old.pinned.is_some_and(|pinned| !pinned.unknown && !pinned.names.contains(old.name));
        return if is_known && is_free { Step::Drop } else { Step::Keep };
    }
    let is_due = seen.made.is_some_and(|made| seen.now >= made + (CA_LIFETIME - ROTATE_BEFORE));
    if seen.asked || is_due { Step::Rotate } else { Step::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NONE: Seen<'static> = Seen { now: SystemTime::UNIX_EPOCH, made: None, asked: false, old: None };

    #[test]
    fn a_ca_is_followed_by_another_in_the_last_third_of_its_life_or_when_asked() {
        let due = at((CA_LIFETIME - ROTATE_BEFORE).as_secs());
        let made = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(step(&Seen { now: due - Duration::from_secs(1), made, ..NONE }), Step::Keep);
        assert_eq!(step(&Seen { now: due, made, ..NONE }), Step::Rotate);
        assert_eq!(step(&Seen { asked: true, made, ..NONE }), Step::Rotate);
        assert_eq!(step(&Seen { now: due, ..NONE }), Step::Keep, "nothing is known of its age");
    }

    #[test]
    fn an_old_ca_goes_after_the_overlap_when_no_job_pins_it() {
        let (old_name, new_name) = ("ca-old", "ca-new");
        let pins = |names: &[&str], unknown| Pinned { names: names.iter().map(|&name| name.into()).collect(), unknown };
        let seen = |age: u64, pinned: Option<&Pinned>| {
            let old = Old { name: old_name, since: at(0), pinned };
            step(&Seen { now: at(age), old: Some(old), ..NONE })
        };
        let overlap = OVERLAP.as_secs();
        assert_eq!(seen(overlap, Some(&pins(&[new_name], false))), Step::Drop);
        assert_eq!(seen(overlap, Some(&pins(&[], false))), Step::Drop);
        assert_eq!(seen(overlap - 1, Some(&pins(&[], false))), Step::Keep, "a leader may not know the new one yet");
        assert_eq!(seen(overlap * 99, Some(&pins(&[old_name, new_name], false))), Step::Keep);
        assert_eq!(seen(overlap, Some(&pins(&[], true))), Step::Keep, "a Job of an older version");
        assert_eq!(seen(overlap, None), Step::Keep, "the Jobs could not be read");
    }

    #[test]
    fn a_new_ca_is_known_to_all_well_before_the_old_one_goes() {
        let half = OVERLAP / 2;
        assert!(!is_known(at(7), at(7) + half - Duration::from_secs(1)));
        assert!(is_known(at(7), at(7) + half));
        assert!(!is_known(at(7), at(0)), "a clock that goes back");
    }

    #[test]
    fn a_clock_that_goes_back_keeps_the_old_ca() {
        let pinned = Pinned::default();
        let old = Old { name: "ca-old", since: at(10_000), pinned: Some(&pinned) };
        assert_eq!(step(&Seen { now: at(0), old: Some(old), ..NONE }), Step::Keep);
    }

    #[test]
    fn a_third_ca_waits_until_the_first_is_gone() {
        let pinned = Pinned { names: ["ca-old".to_owned()].into(), unknown: false };
        let old = Old { name: "ca-old", since: at(0), pinned: Some(&pinned) };
        let seen = Seen { now: at(10 * OVERLAP.as_secs()), asked: true, old: Some(old), ..NONE };
        assert_eq!(step(&seen), Step::Keep);
        let free = Pinned::default();
        assert_eq!(step(&Seen { old: Some(Old { pinned: Some(&free), ..old }), ..seen }), Step::Drop);
        assert_eq!(step(&Seen { old: None, ..seen }), Step::Rotate);
    }
}
