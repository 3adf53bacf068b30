//! Spec → validated values; all errors at once. Pure: no client, clock, disk or network.
//!
//! [`extension()`] reads the effective spec of an extension, [`source()`] where its files come from, [`run()`] an
//! invocation of one of its actions. Every rule is kept here once; the CEL rules of the kinds repeat some of them for
//! `kubectl`'s sake only. Sizes stand in the kinds' types, and `bounds` reads them there.

mod action;
mod bounds;
mod duration;
mod extension;
pub mod parameter;
mod problem;
mod run;
mod runtime;
mod source;
mod types;
mod version;

pub use duration::interval_or_default;
pub use extension::{extension, installed_extension};
pub use parameter::{ParameterDefinition, ParameterKind, Typed};
pub use problem::{Location, Problem, Problems, did_you_mean, quoted};
pub use run::{ActionKind, Invocation, Refusal, RunLimits, roles_needed, run};
pub use source::{Source, SourceKind, source};
pub use types::{
    Action, ActionName, EgressPort, EgressRule, Entrypoint, Extension, LifecycleAction, Protocol, ResourceType,
    RoleType, Runtime, TargetDir,
};
pub use version::{ContractLevels, contract_level};
