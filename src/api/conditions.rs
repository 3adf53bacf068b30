//! Conditions: setting one keeps its transition time while its status stays.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::reason::Reason;

/// kstatus: the object is as it was asked to be.
pub const READY: &str = "Ready";
/// kstatus: work is under way. Present only while it is (abnormal-true).
pub const RECONCILING: &str = "Reconciling";
/// kstatus: nothing will happen before the object is changed. Present only while it is so (abnormal-true).
pub const STALLED: &str = "Stalled";
/// The source's bytes were fetched.
pub const SOURCE_FETCHED: &str = "SourceFetched";
/// What was pinned about the bytes holds, and who must have signed them has.
pub const SOURCE_VERIFIED: &str = "SourceVerified";
/// The extension's contract level is served.
pub const COMPATIBLE: &str = "Compatible";
/// A verified pair of tree and manifest is on the volume.
pub const INSTALLED: &str = "Installed";
/// A run has ended, in any way.
pub const COMPLETE: &str = "Complete";
/// A run has succeeded.
pub const SUCCEEDED: &str = "Succeeded";

/// Longest message of a condition, in bytes; the API allows 32 KiB, people read less.
const MESSAGE_BYTES: usize = 4096;

/// Sets conditions of one object at one generation and time.
pub struct Conditions<'a> {
    conditions: &'a mut Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl<'a> Conditions<'a> {
    /// Changes `conditions` for an object of `generation`, at `now`.
    pub fn of(conditions: &'a mut Vec<Condition>, generation: Option<i64>, now: Timestamp) -> Self {
        Self { conditions, generation, now }
    }

    /// Sets a condition to True.
    pub fn is_true(&mut self, type_: &str, reason: Reason, message: impl Into<String>) -> &mut Self {
        self.set(type_, "True", reason, message)
    }

    /// Sets a condition to False.
    pub fn is_false(&mut self, type_: &str, reason: Reason, message: impl Into<String>) -> &mut Self {
        self.set(type_, "False", reason, message)
    }

    /// Sets a condition to Unknown.
    pub fn is_unknown(&mut self, type_: &str, reason: Reason, message: impl Into<String>) -> &mut Self {
        self.set(type_, "Unknown", reason, message)
    }

    /// Removes a condition (the absent form of an abnormal-true one).
    pub fn remove(&mut self, type_: &str) -> &mut Self {
        self.conditions.retain(|condition| condition.type_ != type_);
        self
    }

    fn set(&mut self, type_: &str, status: &str, reason: Reason, message: impl Into<String>) -> &mut Self {
        let message = truncated(message.into(), MESSAGE_BYTES);
        let old = self.conditions.iter_mut().find(|condition| condition.type_ == type_);
        let last_transition_time = match &old {
            Some(old) if old.status == status => old.last_transition_time.clone(),
            _ => Time(self.now),
        };
        let new = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            observed_generation: self.generation,
            last_transition_time,
        };
        match old {
            Some(old) => *old = new,
            None => self.conditions.push(new),
        }
        self
    }
}

/// Whether a condition is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// `text`, cut to at most `bytes` bytes at a character boundary, with an ellipsis where it was cut.
pub fn truncated(mut text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    let mut keep = bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(keep) {
        keep -= 1;
    }
    text.truncate(keep);
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = vec![];
        Conditions::of(&mut conditions, Some(1), at(1)).is_false(READY, Reason::FetchFailed, "a");
        Conditions::of(&mut conditions, Some(2), at(2)).is_false(READY, Reason::TimedOut, "b");
        assert_eq!(conditions[0].last_transition_time, Time(at(1)));
        assert_eq!(conditions[0].observed_generation, Some(2));
        Conditions::of(&mut conditions, Some(2), at(3)).is_true(READY, Reason::Succeeded, "c");
        assert_eq!(conditions[0].last_transition_time, Time(at(3)));
        assert!(is_true(&conditions, READY));
        Conditions::of(&mut conditions, Some(2), at(3)).remove(READY);
        assert!(conditions.is_empty());
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(truncated("éééé".into(), 6), "é…");
        assert_eq!(truncated("abc".into(), 3), "abc");
    }
}
