//! What can go wrong with an extension, as one type: stage, class, reason, text.

use crate::api::conditions;
use crate::api::reason::{FailureClass, Reason};
use crate::source::{Credentials, SourceError};
use crate::validate::Problems;

/// A failure of one reconcile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Where the chain broke: what lies before has succeeded.
    pub stage: Stage,
    /// What to do about it.
    pub class: FailureClass,
    /// In one word.
    pub reason: Reason,
    /// For people: what is wrong, where, and what to do.
    pub message: String,
}

/// The stages of an install, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The resource itself and what it refers to.
    Resource,
    /// The contract level that the resource itself asks for.
    Contract,
    /// Who may sign the source: what the operator requires, and the keys.
    Trust,
    /// Resolving and fetching the source.
    Fetch,
    /// Checking what was pinned about the fetched bytes, and their signature.
    Verify,
    /// Manifest, entrypoint, contract level.
    Compatible,
    /// Publishing on the volume.
    Install,
}

impl Stage {
    /// The condition that says how this stage went.
    pub fn condition(self) -> Option<&'static str> {
        match self {
            Self::Resource => None,
            Self::Fetch => Some(conditions::SOURCE_FETCHED),
            Self::Trust | Self::Verify => Some(conditions::SOURCE_VERIFIED),
            Self::Contract | Self::Compatible => Some(conditions::COMPATIBLE),
            Self::Install => Some(conditions::INSTALLED),
        }
    }
}

impl Failure {
    /// Needs a change of the object.
    pub fn stalled(stage: Stage, reason: Reason, message: impl Into<String>) -> Self {
        Self { stage, class: FailureClass::Stalled, reason, message: message.into() }
    }

    /// May pass by itself.
    pub fn transient(stage: Stage, reason: Reason, message: impl Into<String>) -> Self {
        Self { stage, class: FailureClass::Transient, reason, message: message.into() }
    }

    /// What was looked at in `stage` breaks rules: the resource alone, or the resource and its manifests together.
    pub fn invalid(stage: Stage, problems: Problems) -> Self {
        let reason = problems.reason();
        let stage = match stage {
            Stage::Resource if reason == Reason::Incompatible => Stage::Contract,
            stage => stage,
        };
        Self::stalled(stage, reason, problems.in_one_line())
    }

    /// Resolving or fetching a source failed.
    pub fn fetch(error: &SourceError) -> Self {
        let reason = error.reason();
        let stage = match reason {
            Reason::DigestMismatch | Reason::SignatureMissing | Reason::SignatureInvalid => Stage::Verify,
            _ => Stage::Fetch,
        };
        Self { stage, class: error.class(), reason, message: error.to_string() }
    }

    /// The same failure without what `credentials` say, which a server may have repeated in anything that it named or sent.
    pub fn masked(self, credentials: Option<&Credentials>) -> Self {
        match credentials {
            Some(credentials) => Self { message: credentials.masked(&self.message), ..self },
            None => self,
        }
    }

    /// The same failure, said of a field.
    pub fn of_field(self, field: &str) -> Self {
        Self { message: format!("{field}: {}", self.message), ..self }
    }
}
