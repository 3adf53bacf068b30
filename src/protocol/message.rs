//! The termination message: the durable copy of an outcome, which outlives a leader that could not be reached.

use serde::{Deserialize, Serialize};

use super::auth::{Nonce, Token, new_mac};
use super::{Outcome, Stream};
use crate::digest::{hex, unhex};
use hmac::Mac as _;

/// What kubelet keeps of a termination message, in bytes.
pub const TERMINATION_MESSAGE_BYTES: usize = 4096;

/// What a runner leaves in its container's termination message: an outcome, or that nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum TerminationMessage {
    /// The script was never started; the attempt counts as unclaimed.
    NotStarted {
        /// Number of the attempt.
        attempt: u32,
        /// The process's nonce.
        nonce: Nonce,
        /// Why, for people.
        message: String,
    },
    /// The claimed attempt ended like this; streams may be cut.
    Ended {
        /// Number of the attempt.
        attempt: u32,
        /// The nonce that claimed.
        nonce: Nonce,
        /// The outcome, cut to fit.
        outcome: Outcome,
    },
}

/// Why a termination message is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not `<hex mac> <json>`.
    #[error("not a runner's message")]
    Malformed,
    /// Written by somebody who does not hold the token: the script can write the file, too.
    #[error("the message's authentication code does not verify")]
    Forged,
}

impl TerminationMessage {
    /// The text for the termination log: `<hex mac> <json>`, never longer than [`TERMINATION_MESSAGE_BYTES`].
    /// Streams are cut at their beginning, stdout last, until it fits. What is not redacted is left out.
    pub fn seal(&self, token: &Token) -> String {
        let mut message = self.clone();
        if let Self::Ended { outcome, .. } = &mut message {
            outcome.unmasked = None;
        }
        loop {
            let json = serde_json::to_string(&message).unwrap_or_default();
            let overhead = 64 + 1;
            if json.len() + overhead <= TERMINATION_MESSAGE_BYTES {
                return format!("{} {json}", mac(token, &json));
            }
            message.shrink(json.len() + overhead - TERMINATION_MESSAGE_BYTES);
        }
    }

    /// Reads and authenticates a termination log's text.
    pub fn open(text: &str, token: &Token) -> Result<Self, MessageError> {
        let (given, json) = text.split_once(' ').ok_or(MessageError::Malformed)?;
        let given = unhex(given).ok_or(MessageError::Malformed)?;
        let mut expected = new_mac(token.bytes());
        expected.update(json.as_bytes());
        expected.verify_slice(&given).map_err(|_| MessageError::Forged)?;
        serde_json::from_str(json).map_err(|_| MessageError::Malformed)
    }

    /// Drops at least one byte, and about `excess` bytes, of what can be dropped.
    fn shrink(&mut self, excess: usize) {
        match self {
            Self::NotStarted { message, .. } => cut_end(message, excess),
            Self::Ended { outcome, .. } => {
                if !outcome.stderr.text.is_empty() {
                    cut_beginning(&mut outcome.stderr, excess);
                } else if !outcome.stdout.text.is_empty() {
                    cut_beginning(&mut outcome.stdout, excess);
                } else if let Some(message) = &mut outcome.message {
                    cut_end(message, excess);
                }
            }
        }
    }
}

fn mac(token: &Token, json: &str) -> String {
    let mut mac = new_mac(token.bytes());
    mac.update(json.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// Escaping makes a byte up to six, so a sixth of the excess is dropped at a time: the result is near the limit.
fn cut_beginning(stream: &mut Stream, excess: usize) {
    let mut cut = (excess / 6).max(1).min(stream.text.len());
    while !stream.text.is_char_boundary(cut) {
        cut += 1;
    }
    stream.text.drain(..cut);
    stream.dropped_bytes += cut as u64;
}

fn cut_end(text: &mut String, excess: usize) {
    let mut keep = text.len().saturating_sub((excess / 6).max(1));
    while !text.is_char_boundary(keep) {
        keep -= 1;
    }
    text.truncate(keep);
}

#[cfg(test)]
mod tests {
    use super::super::Ending;
    use super::*;

    fn ended(stdout: &str, stderr: &str) -> TerminationMessage {
        let stream = |text: &str| Stream { text: text.to_owned(), dropped_bytes: 0 };
        TerminationMessage::Ended {
            attempt: 1,
            nonce: Nonce::from_bytes([7; 16]),
            outcome: Outcome {
                exit_code: Some(0),
                stdout: stream(stdout),
                stderr: stream(stderr),
                duration_millis: 5,
                ..Outcome::of(Ending::Exited)
            },
        }
    }

    #[test]
    fn a_message_is_read_back_with_the_same_token_only() {
        let token = Token::derive(b"key", "uid", 1);
        let message = ended("{\"status\":\"success\"}", "");
        let text = message.seal(&token);
        assert_eq!(TerminationMessage::open(&text, &token), Ok(message));
        assert_eq!(TerminationMessage::open(&text, &Token::derive(b"key", "uid", 2)), Err(MessageError::Forged));
    }

    #[test]
    fn what_a_script_writes_to_the_termination_log_is_not_believed() {
        let token = Token::derive(b"key", "uid", 1);
        let text = ended("", "").seal(&token);
        let forged = text.replace("\"exitCode\":0", "\"exitCode\":1");
        assert_eq!(TerminationMessage::open(&forged, &token), Err(MessageError::Forged));
        for text in ["", "done", "00 {}"] {
            assert!(TerminationMessage::open(text, &token).is_err());
        }
    }

    #[test]
    fn what_is_not_redacted_is_in_no_message() {
        let token = Token::derive(b"key", "uid", 1);
        let mut message = ended("********", "");
        let redacted = message.clone();
        if let TerminationMessage::Ended { outcome, .. } = &mut message {
            outcome.unmasked = Some(super::super::Unmasked("hunter2".to_owned()));
        }
        assert!(!format!("{message:?}").contains("hunter2"));
        assert_eq!(TerminationMessage::open(&message.seal(&token), &token), Ok(redacted));
    }

    #[test]
    fn a_long_message_keeps_the_end_of_stdout_and_says_what_was_dropped() {
        let token = Token::derive(b"key", "uid", 1);
        for filler in ["x", "\u{1}", "é", "\u{1F600}"] {
            let text = ended(&(filler.repeat(9000) + "END"), &filler.repeat(9000)).seal(&token);
            assert!(text.len() <= TERMINATION_MESSAGE_BYTES, "{}", text.len());
            let Ok(TerminationMessage::Ended { outcome, .. }) = TerminationMessage::open(&text, &token) else {
                panic!("{text}");
            };
            assert!(outcome.stdout.text.ends_with("END"));
            assert!(outcome.stdout.dropped_bytes > 0);
            assert_eq!(outcome.stderr.text, "");
        }
    }
}
