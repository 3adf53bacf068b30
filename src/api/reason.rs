//! Every reason that a condition, an event, a finished run or a metric label can carry.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why something is as it is, in one CamelCase word. The set is closed: what is not here cannot be said.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// All reasons, for documentation and tests.
            pub const ALL: &[Reason] = &[$(Reason::$name),+];

            /// The word itself.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name)),+ }
            }
        }
    };
}

reasons! {
    // extensions
    /// Everything that was asked for is done.
    Succeeded,
    /// Deliberately not enabled; installed all the same.
    Disabled,
    /// `suspend` is set.
    Suspended,
    /// Work is under way.
    Progressing,
    /// The resource or the fetched manifest breaks a rule.
    ValidationFailed,
    /// The extension needs a newer contract than the operator serves.
    Incompatible,
    /// A Secret that is referred to is missing or not fit.
    SecretNotUsable,
    /// The address is not one that extensions may be fetched from.
    AddressDenied,
    /// The server refused the credentials, or wants some.
    AuthenticationFailed,
    /// Repository, ref, commit or archive does not exist.
    NotFound,
    /// The server could not be reached, or answered with an error.
    FetchFailed,
    /// The server took too long.
    TimedOut,
    /// More bytes than allowed.
    TooLarge,
    /// The fetched bytes do not have the pinned digest.
    DigestMismatch,
    /// A signature is asked for, and there is none.
    SignatureMissing,
    /// The signature was made with another key, or for something else.
    SignatureInvalid,
    /// The Secret with the public keys is missing or not fit.
    KeysUnusable,
    /// The operator requires signatures, and the extension asks for none.
    VerificationRequired,
    /// The archive or the tree holds something that is refused.
    UnpackRefused,
    /// The tree has no manifest and the resource lacks what it would give, or it cannot be read.
    ManifestInvalid,
    /// The entrypoint is not in the tree.
    EntrypointMissing,
    /// The volume does not do what it must: full, read-only, gone, foreign file in the way.
    StoreFailed,
    /// An installed tree was changed from outside, and was repaired.
    Drifted,
    /// A new revision was installed.
    Installed,
    /// The revision that `spec.revision` pins is not kept, or no longer whole.
    RevisionNotKept,
    /// Deleting waits for active runs.
    WaitingForRuns,
    /// The Kubernetes API refused or failed a request.
    ApiError,

    // runs
    /// Waiting for its Job's runner to claim.
    Pending,
    /// Waiting for its turn: as many actions run as may run at a time.
    Queued,
    /// The script runs.
    Running,
    /// An attempt failed, and the next one starts after a pause.
    Retrying,
    /// The script ended with another exit code than 0, or by a signal.
    ActionFailed,
    /// The script's output says that it failed (`strictResult`).
    ResultFailed,
    /// The script's output is not what the action must print.
    ResultInvalid,
    /// The script succeeded, but of an answer with passwords only the copy without them is left.
    ResultLost,
    /// The result is larger than what can be kept.
    ResultTooLarge,
    /// Stopped at its timeout.
    Timeout,
    /// Stopped, or never started, because `cancel` was set.
    Canceled,
    /// Three Jobs ended without starting the script.
    NeverStarted,
    /// Not started within `startDeadlineSeconds`.
    StartDeadlineExceeded,
    /// The runner claimed but could not start the script, for another reason than the next three.
    ExecFailed,
    /// The image lacks the interpreter that the script needs.
    InterpreterMissing,
    /// The entrypoint is nothing that the node executes: it lacks a `#!` line, or was built for another architecture.
    ExecFormatError,
    /// There was no room for the payload.
    DiskFull,
    /// The pod was told to end while the script ran.
    PodDeleted,
    /// The container ran out of memory, and the kernel killed it or a process of it.
    OOMKilled,
    /// Kubelet evicted the pod while the script ran: it wrote more than it may, or its node ran short of something.
    Evicted,
    /// Claimed, and nobody will ever know how it ended.
    OutcomeUnknown,
    /// What the script printed could not be kept.
    OutputNotKept,
    /// The extension does not exist.
    ExtensionNotFound,
    /// The extension is not installed yet.
    ExtensionNotInstalled,
    /// The extension is disabled.
    ExtensionDisabled,
    /// The extension has no such action.
    UnknownAction,
    /// The action is disabled.
    ActionDisabled,
    /// A parameter is missing, unknown or not valid.
    InvalidParameters,
    /// The target does not exist, belongs to another extension or has the wrong resource type.
    InvalidTarget,
    /// The target does not list the run's namespace.
    TargetNotAllowed,
    /// The caller lacks a right: to the extension, the target, or a role type that the action needs.
    NotAllowed,
    /// The run carries no stamp of the operator's admission that fits it.
    NotAdmitted,
    /// The run was restored from a backup: it is kept as a record and never started.
    Restored,
    /// The extension is being deleted.
    ExtensionDeleted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do about a failure. One function per controller maps it to conditions and the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Needs a change of the object, or of what it refers to: no retry before that or the next interval.
    Stalled,
    /// Waits for something that is expected to happen; looked at again after this time.
    Waiting(std::time::Duration),
    /// May pass by itself: retried with growing, jittered pauses.
    Transient,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_condition_reason_and_named_once() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.as_str()), "{reason} twice");
            assert!(reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()), "{reason}");
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
