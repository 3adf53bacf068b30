//! What the run controller needs to know of extensions and actions: the seam to the pure modules behind it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::job::JobRuntime;
use crate::api::run::Console;
use crate::api::{ActionRun, ExtensionTarget, OrchestratorExtension, Phase, Reason};
use crate::digest::Digest;
use crate::protocol::{ClaimGrant, Outcome};

/// Why a run may not start, as status and events say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// In one word.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Refused {
    /// A refusal.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The rules of the extension contract: what a run's request means for an extension and a target.
pub trait Contract: Send + Sync {
    /// Validates the request. Pure: the same objects give the same answer.
    ///
    /// # Errors
    /// The first reason for which the run will never start, with all problems in its message.
    fn invocation(
        &self,
        run: &ActionRun,
        extension: &OrchestratorExtension,
        target: Option<&ExtensionTarget>,
    ) -> Result<Box<dyn Invocation>, Refused>;
}

/// A validated request.
pub trait Invocation: Send + Sync {
    /// How its Job looks.
    fn job(&self) -> JobShape;

    /// What the runner gets, secrets included.
    fn grant(&self, secrets: &Secrets) -> ClaimGrant;

    /// What an outcome means.
    fn verdict(&self, outcome: &Outcome) -> Verdict;
}

/// How the Job of a validated request looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobShape {
    /// Path of the entrypoint, relative to the tree.
    pub entrypoint: String,
    /// Absolute directory at which the tree is mounted.
    pub target_dir: String,
    /// Image, resources, placement and grace period.
    pub runtime: JobRuntime,
    /// Effective timeout in seconds.
    pub timeout_seconds: u64,
    /// Names of Secrets of the operator's namespace whose entries are added to `externaldetails.host`.
    pub host_from: Vec<String>,
    /// Names of Secrets of the operator's namespace whose entries are added to `externaldetails.extension`.
    pub details_from: Vec<String>,
}

/// The entries of the Secrets that a [`JobShape`] names, by the section that they go to.
#[derive(Clone, Default, PartialEq)]
pub struct Secrets {
    /// For `externaldetails.host`.
    pub host: BTreeMap<String, String>,
    /// For `externaldetails.extension`.
    pub details: BTreeMap<String, String>,
}

/// What an outcome means for the run and its target.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Succeeded, Failed or Canceled.
    pub phase: Phase,
    /// In one word.
    pub reason: Reason,
    /// The action's message, rendered.
    pub message: String,
    /// The JSON that was printed.
    pub result: Option<Value>,
    /// The power state, from `status`.
    pub power: Option<String>,
    /// The console protocol, from `getconsole`.
    pub console: Option<Console>,
    /// Entries for a Secret of the run's namespace: a secret result.
    pub secret: Option<BTreeMap<String, String>>,
    /// Details for the target's status, from `prepare`.
    pub details: Option<BTreeMap<String, String>>,
}

/// What the run controller reads from the store.
pub trait Trees: Send + Sync {
    /// Digest of a file's bytes in an installed tree.
    ///
    /// # Errors
    /// For people: the tree or the file is not there or cannot be read.
    fn entrypoint_digest(&self, tree: &Digest, path: &str) -> Result<Digest, String>;

    /// The tree's directory, relative to the volume: what a Job mounts.
    fn subpath(&self, tree: &Digest) -> String;
}

/// What else may collect trees must know: those that unfinished runs and living pods use.
pub trait PinnedTrees: Send + Sync {
    /// Their digests. An error (caches that are not filled yet) means that nothing may be collected.
    ///
    /// # Errors
    /// The caches are not filled yet.
    fn pinned_trees(&self) -> Result<BTreeSet<Digest>, NotSynced>;
}

/// The controller's caches are not filled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caches of runs and pods are not filled yet")]
pub struct NotSynced;
