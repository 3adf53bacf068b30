//! The phases of an `ActionRun`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not claimed: the script has not started.
    #[default]
    Pending,
    /// Claimed: the script runs, or ran and has not been reported yet.
    Running,
    /// Ended with exit code 0.
    Succeeded,
    /// Ended in another way, or never started.
    Failed,
    /// Stopped because `cancel` was set.
    Canceled,
    /// Claimed, and nobody will ever know how it ended. Never repeated by itself.
    OutcomeUnknown,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Canceled, Self::OutcomeUnknown];

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
            Self::OutcomeUnknown => "OutcomeUnknown",
        }
    }

    /// Whether the run has ended.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}
