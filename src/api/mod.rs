//! The kinds: types, CEL rules, conditions, reasons. Pure: no client, clock, disk or network.
//!
//! Every field of the upstream manifest has its place under `spec`, spelled as the manifest spells it; what Outrigger
//! adds is camelCase. Every list, map and string is bounded, because unbounded ones exceed the API server's cost budget
//! for CEL rules. Optional fields are omitted, never null.

pub mod action;
pub mod conditions;
pub mod crds;
pub mod extension;
pub mod phase;
pub mod reason;
pub mod run;
pub mod runtime;
mod schema;
pub mod target;

pub use extension::{OrchestratorExtension, OrchestratorExtensionSpec, OrchestratorExtensionStatus};
pub use phase::Phase;
pub use reason::Reason;
pub use run::{ActionRun, ActionRunSpec, ActionRunStatus, RunOutput};
pub use target::{ExtensionTarget, ExtensionTargetSpec, ExtensionTargetStatus};

/// API group of all kinds.
pub const GROUP: &str = "outrigger.dev";
/// API version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// Finalizer on extensions: their tree is on the volume.
pub const EXTENSION_FINALIZER: &str = "outrigger.dev/installed";
/// Finalizer on runs: their Job may exist in the operator's namespace.
pub const RUN_FINALIZER: &str = "outrigger.dev/job";

/// Annotation that asks for a reconcile now; any new value counts (`kubectl annotate --overwrite`).
pub const RECONCILE_REQUESTED_AT: &str = "reconcile.outrigger.dev/requestedAt";
/// Annotation on a source's Secret: the origins, separated by commas or spaces, that its content may be sent to.
pub const ALLOWED_ORIGINS: &str = "outrigger.dev/allowed-origins";

/// Label on Jobs and pods: UID of the ActionRun.
pub const RUN_UID_LABEL: &str = "outrigger.dev/run-uid";
/// Label on Jobs and pods: number of the attempt.
pub const ATTEMPT_LABEL: &str = "outrigger.dev/attempt";
/// Label on Jobs and pods: name of the extension, where it fits a label value.
pub const EXTENSION_LABEL: &str = "outrigger.dev/extension";
/// Annotation on pods: digest of the tree that they mount.
pub const TREE_ANNOTATION: &str = "outrigger.dev/tree";
/// Annotation on Jobs and pods: the name that their runner asks for, which is that of the CA that they pin.
pub const CA_ANNOTATION: &str = "outrigger.dev/ca";
/// Label on everything that the operator makes.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`], and the operator's field manager.
pub const MANAGER: &str = "outrigger";

/// How the operator introduces itself to servers. The API server names the manager of a field after what is before the slash.
pub const USER_AGENT: &str = concat!("outrigger/", env!("CARGO_PKG_VERSION"));

/// Seconds an action may run where neither run nor action says anything: CloudStack's default for its `wait` setting.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;
/// Seconds a run may wait for its script's start where it says nothing.
pub const DEFAULT_START_DEADLINE_SECONDS: u64 = 300;
