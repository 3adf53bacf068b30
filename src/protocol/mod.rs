//! What runner and leader say to each other, and how it is authenticated. Pure: no client, clock, disk or network.
//!
//! The runner speaks HTTP/1.1 over TLS to the operator, whatever address it dials. It pins a CA and asks for the
//! certificate of that CA by name ([`server_name`]): while one CA follows another, the operator has two.
//! Every request has `Authorization: Bearer <token>` ([`Token`]).
//!
//! | request                        | body              | answers                                                        |
//! |--------------------------------|-------------------|----------------------------------------------------------------|
//! | `POST /v1/runs/<uid>/claim`    | [`ClaimRequest`]  | 200 [`ClaimGrant`]; 409 [`Refusal`]; 410 gone; 503 try again   |
//! | `POST /v1/runs/<uid>/progress` | [`Progress`]      | 200 [`ProgressAnswer`]; 409 [`Refusal`]; 410; 503              |
//! | `POST /v1/runs/<uid>/report`   | [`Report`]        | 200 stored; 409 [`Refusal`]; 410 gone; 503 try again           |
//! | `POST /v1/runs/<uid>/output`   | [`OutputUpload`]  | 200 kept; 409 [`Refusal`]; 410 gone; 503 try again             |
//! | `POST /v1/runs/<uid>/unstarted`| [`Unstarted`]     | 200 heard; 409 [`Refusal`]; 410 gone; 503 try again            |
//!
//! 401 (a token that does not verify) and 413 (more than [`REQUEST_BYTES`]) are final, like 409 and 410. Anything else is tried
//! again: also 404, by which an operator of an earlier version answers [`Unstarted`].

mod auth;
mod message;
mod output;
mod tail;

pub use auth::{Nonce, Token};
pub use message::{MessageError, TERMINATION_MESSAGE_BYTES, TerminationMessage};
pub use output::{OutputSizes, OutputUpload};
pub use tail::{TAIL_BYTES, json_bytes, tail};

use std::collections::BTreeMap;
use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The most bytes of a request's body that the operator takes in, from a runner, a standby or the API server. It fits both
/// streams of a [`Report`], of which escaping makes each byte up to six; an [`OutputUpload`]; and a review of two objects of
/// the API server's largest request. A report that also has the answer as it was printed is cut to it: [`Report::fit`].
pub const REQUEST_BYTES: usize = 8 << 20;

/// The name for which the operator's certificates are always valid.
pub const SERVER_NAME: &str = "outrigger.internal";

/// The name for which the operator's certificate from this very CA (PEM) is valid, and no other. `None` for a text that
/// is no certificate.
pub fn server_name(ca: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(ca.as_bytes()).ok()?;
    let digest = Digest::of(&certificate).hex();
    Some(format!("ca-{}.{SERVER_NAME}", digest.get(..32)?))
}

/// The exit code of a runner that did not start the script (refused, tree mismatch, claim impossible); the Job's
/// `podFailurePolicy` ignores it. The runner never exits with a script's own code: after a script ran it exits
/// [`EXIT_SUCCEEDED`] or [`EXIT_FAILED`].
pub const EXIT_NOT_STARTED: i32 = 203;
/// The runner's exit code when the script ended with 0.
pub const EXIT_SUCCEEDED: i32 = 0;
/// The runner's exit code when the script ended in any other way.
pub const EXIT_FAILED: i32 = 1;

/// The environment variables by which a Job configures its runner. None of them reaches the script, which has [`script_env`].
pub mod env {
    /// `https://<address>:<port>` of the operator.
    pub const ADDRESS: &str = "OUTRIGGER_ADDRESS";
    /// PEM of the CA to pin.
    pub const CA: &str = "OUTRIGGER_CA";
    /// UID of the ActionRun.
    pub const RUN_UID: &str = "OUTRIGGER_RUN_UID";
    /// Number of the attempt, from 1.
    pub const ATTEMPT: &str = "OUTRIGGER_ATTEMPT";
    /// Hexadecimal [`Token`](super::Token).
    pub const TOKEN: &str = "OUTRIGGER_TOKEN";
    /// UID of the pod (downward API).
    pub const POD_UID: &str = "OUTRIGGER_POD_UID";
    /// Absolute path at which the tree is mounted.
    pub const TREE: &str = "OUTRIGGER_TREE";
    /// Digest that the tree's marker file must hold.
    pub const TREE_DIGEST: &str = "OUTRIGGER_TREE_DIGEST";
    /// Path of the entrypoint, relative to the tree.
    pub const ENTRYPOINT: &str = "OUTRIGGER_ENTRYPOINT";
    /// Digest of the entrypoint's bytes.
    pub const ENTRYPOINT_DIGEST: &str = "OUTRIGGER_ENTRYPOINT_DIGEST";
    /// Directory for the payload file (a memory-backed volume).
    pub const PAYLOAD_DIR: &str = "OUTRIGGER_PAYLOAD_DIR";
}

/// The environment variables by which a script can tell a repeated attempt from a new request.
pub mod script_env {
    /// The same for every attempt of a run, and for no other run: its UID.
    pub const IDEMPOTENCY_KEY: &str = "OUTRIGGER_IDEMPOTENCY_KEY";
    /// Number of the attempt, from 1.
    pub const ATTEMPT: &str = super::env::ATTEMPT;
}

/// Name of the file at the root of a published tree that holds the tree's digest and a newline.
pub const TREE_MARKER: &str = ".outrigger-tree";

/// A runner asks to be the one that starts this attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// UID of the pod that the runner is in.
    pub pod_uid: String,
    /// Drawn once by each runner process.
    pub nonce: Nonce,
}

/// The claim is stored; this is all that the runner needs to start the script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimGrant {
    /// The action's name: the script's first argument.
    pub action: String,
    /// JSON text for the payload file, whose path is the script's second argument.
    pub payload: String,
    /// Seconds that the script may run: its third argument, and when the runner stops it.
    pub timeout_seconds: u64,
    /// Seconds between TERM and KILL.
    pub grace_seconds: u64,
    /// `entrypoint.language` of the manifest: how to run an entrypoint without execute bit and `#!` line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Variables for the script's environment, besides what the container has.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Secret values that must not appear in any output.
    #[serde(default)]
    pub redact: Vec<String>,
    /// Standard output is an answer that can hold a new password (`getconsole`, `prepare`): it is reported, but neither
    /// passed on live nor told while the script runs nor kept.
    #[serde(default)]
    pub withhold_stdout: bool,
    /// Most bytes of each stream that the runner hands over to be kept, once its report is acknowledged; 0: none.
    #[serde(default)]
    pub output_bytes: u64,
    /// Leave the outcome in the termination message alone. For measurements of what the report is worth.
    #[serde(default)]
    pub skip_report: bool,
}

/// Why a request was refused for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// For people: what does not fit.
    pub message: String,
}

/// What the script has printed so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Number of the attempt.
    pub attempt: u32,
    /// The nonce that claimed.
    pub nonce: Nonce,
    /// The end of standard output.
    pub stdout_tail: String,
    /// The end of standard error.
    pub stderr_tail: String,
}

/// The leader's answer to [`Progress`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressAnswer {
    /// The run was cancelled or is being deleted: stop the script.
    pub cancel: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Number of the attempt.
    pub attempt: u32,
    /// The nonce that claimed.
    pub nonce: Nonce,
    /// What happened.
    pub outcome: Outcome,
    /// What the runner hands over next, to be kept; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSizes>,
}

impl Report {
    /// The same within [`REQUEST_BYTES`]: the answer as it was printed is left out where both copies of it do not fit.
    pub fn fit(mut self) -> Self {
        let fits = |report: &Self| serde_json::to_vec(report).is_ok_and(|body| body.len() <= REQUEST_BYTES);
        if self.outcome.unmasked.is_some() && !fits(&self) {
            self.outcome.unmasked = None;
        }
        self
    }
}

/// The runner ends, and has not started the script. [`TerminationMessage::NotStarted`] says the same, but is lost where the
/// pod vanishes before it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unstarted {
    /// Number of the attempt.
    pub attempt: u32,
    /// The nonce that claimed, or asked to.
    pub nonce: Nonce,
    /// Why, for people.
    pub message: String,
}

/// What stands in place of a secret.
pub const MASK: &str = "********";

/// What happened to a claimed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// In which way it ended.
    pub ending: Ending,
    /// What the runner knows of the cause beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The script's exit code, if it exited by itself or after TERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The runner's own explanation, where the ending needs one ("interpreter \"ruby\" not found in the image").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Standard output, redacted.
    pub stdout: Stream,
    /// Standard output as it was printed, where it is withheld and redaction changed it: for the Secret that the answer goes
    /// to. Only a report has it, never a termination message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmasked: Option<Unmasked>,
    /// Whether redaction changed standard output; a script can print [`MASK`], too. A runner of an earlier version does not
    /// say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<bool>,
    /// Standard error, redacted.
    pub stderr: Stream,
    /// Milliseconds from the script's start to its end.
    pub duration_millis: u64,
}

impl Outcome {
    /// An outcome of which nothing but its way is known.
    pub fn of(ending: Ending) -> Self {
        Self {
            ending,
            fault: None,
            exit_code: None,
            signal: None,
            message: None,
            stdout: Stream::default(),
            unmasked: None,
            masked: None,
            stderr: Stream::default(),
            duration_millis: 0,
        }
    }
}

/// Why a script did not start or did not succeed, where its runner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Not started: the image lacks the interpreter, or the loader, that the entrypoint needs.
    InterpreterMissing,
    /// Not started: the entrypoint is nothing that this machine executes.
    ExecFormatError,
    /// Not started: there was no room for the payload.
    DiskFull,
    /// Failed, and the kernel had killed a process of it because the container's memory was used up.
    OutOfMemory,
    /// Failed, and the kernel had killed a process of it for lack of memory: the container's, its pod's or its node's.
    KilledForMemory,
}

/// Text that may hold secrets. It is not shown by `{:?}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unmasked(pub String);

impl fmt::Debug for Unmasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unmasked(…)")
    }
}

/// In which way a claimed attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The script ended by itself (an exit code, or a signal that the runner did not send).
    Exited,
    /// Stopped at its timeout.
    Timeout,
    /// Stopped because the run was cancelled.
    Canceled,
    /// Stopped because the pod was told to end from outside.
    PodDeleted,
    /// Never started although claimed: exec failed, no interpreter, payload not writable.
    NotStarted,
}

/// What is kept of one output stream. `text` is valid UTF-8: other bytes became U+FFFD.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    /// The stream, or its end where `dropped_bytes` is not 0.
    pub text: String,
    /// Bytes dropped before `text` because the stream was longer than what is kept.
    pub dropped_bytes: u64,
}

/// What a runner needs from its Job before it may claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePin {
    /// Digest that the marker must hold.
    pub tree: Digest,
    /// Digest of the entrypoint's bytes.
    pub entrypoint: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_always_fits_a_request() {
        let report = |text: String| {
            let stdout = Stream { text: text.clone(), dropped_bytes: 0 };
            let stderr = Stream { text: "\u{1}".repeat(64 << 10), dropped_bytes: 0 };
            let outcome = Outcome { stdout, stderr, unmasked: Some(Unmasked(text)), ..Outcome::of(Ending::Exited) };
            Report { attempt: 1, nonce: Nonce::from_bytes([0; 16]), outcome, output: None }
        };
        for (text, whole) in [("a", true), ("\u{1}", false)] {
            let report = report(text.repeat(1 << 20));
            let fitting = report.clone().fit();
            assert!(serde_json::to_vec(&fitting).unwrap().len() <= REQUEST_BYTES);
            assert_eq!(fitting.outcome.unmasked.is_some(), whole);
            assert_eq!(fitting.outcome.stdout, report.outcome.stdout);
        }
    }

    #[test]
    fn an_outcome_of_an_earlier_runner_is_read() {
        let mut written = serde_json::to_value(Outcome { masked: Some(true), ..Outcome::of(Ending::Exited) }).unwrap();
        assert_eq!(written.as_object_mut().unwrap().remove("masked"), Some(true.into()));
        assert_eq!(serde_json::from_value::<Outcome>(written).unwrap(), Outcome::of(Ending::Exited));
    }
}
