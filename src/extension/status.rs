//! The status that follows from one reconcile. Pure: no client, clock, disk or network.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::failure::{Failure, Stage};
use crate::api::conditions::{self, Conditions};
use crate::api::extension::{Artifact, OrchestratorExtensionSpec, OrchestratorExtensionStatus, Verification};
use crate::api::reason::{FailureClass, Reason};

/// Former revisions kept where `revisionHistoryLimit` is unset.
pub const DEFAULT_HISTORY: usize = 3;

/// What one reconcile found and did.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The state of what was installed before, after looking at the volume.
    pub before: Before,
    /// What came of trying to bring the extension to its desired state.
    pub result: Result<Applied, Failure>,
}

/// The state of the revision that status names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing was installed.
    Nothing,
    /// It is on the volume, unchanged.
    Intact,
    /// It is missing or was changed from outside; the text names the file.
    Broken(String),
    /// The volume cannot be read, so nobody can tell; the text says why.
    Unreadable(String),
}

/// A reconcile that reached its end.
#[derive(Debug, Clone)]
pub enum Applied {
    /// `suspend` is set: nothing was looked at but the volume.
    Suspended,
    /// This pair is on the volume, linked.
    Installed(Box<InstalledPair>),
}

/// A tree and its effective manifest, as installed.
#[derive(Debug, Clone)]
pub struct InstalledPair {
    /// What was fetched.
    pub revision: String,
    /// Digest of the tree.
    pub tree_digest: String,
    /// Digest of the effective manifest.
    pub manifest_digest: String,
    /// Bytes of the tree's files.
    pub size: i64,
    /// Number of the tree's files.
    pub files: i64,
    /// The effective manifest.
    pub resolved: OrchestratorExtensionSpec,
    /// Whether actions may run.
    pub enabled: bool,
    /// Where resource and fetched manifests disagree; the resource won.
    pub disagreements: Vec<String>,
    /// Whose signature stands for it, where one was asked for.
    pub verified: Option<Verification>,
    /// Whether a linked manifest took part in the effective one.
    pub linked_manifest: bool,
    /// The archive's `ETag` and `Last-Modified`.
    pub validators: [Option<String>; 2],
    /// Whether `spec.revision` chose it.
    pub pinned: bool,
}

/// The facts about the object that the status depends on.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Value of the annotation that asks for a reconcile now.
    pub requested_at: Option<&'a str>,
    /// `spec.revisionHistoryLimit`.
    pub history_limit: Option<u32>,
}

/// Bytes of an `ETag` that status keeps; a longer one costs a new leader a download.
const MAX_VALIDATOR_BYTES: usize = 256;
/// Bytes of a revision that status keeps.
const MAX_REVISION_BYTES: usize = 512;
/// Bytes that status keeps of the token that asked for a reconcile.
const MAX_TOKEN_BYTES: usize = 1024;

/// The status after `observation`, starting from `old`.
pub fn next(
    old: &OrchestratorExtensionStatus,
    object: Object<'_>,
    observation: &Observation,
    now: Timestamp,
) -> OrchestratorExtensionStatus {
    let mut status = old.clone();
    status.observed_generation = object.generation;
    if let Some(requested_at) = object.requested_at {
        status.last_handled_reconcile_at = Some(conditions::truncated(requested_at.to_owned(), MAX_TOKEN_BYTES));
    }
    match &observation.result {
        Ok(Applied::Installed(pair)) => installed(&mut status, object, pair, now),
        Ok(Applied::Suspended) => suspended(&mut status, object, &observation.before, now),
        Err(failure) => failed(&mut status, object, &observation.before, failure, now),
    }
    status
}

/// A revision as status keeps it. Its end tells it from others; how long the name of a branch or tag before it is, a server
/// decides.
pub fn bounded_revision(revision: &str) -> String {
    if revision.len() <= MAX_REVISION_BYTES {
        return revision.to_owned();
    }
    let cut = revision.len() - (MAX_REVISION_BYTES - '…'.len_utf8());
    let from = (cut..revision.len()).find(|at| revision.is_char_boundary(*at)).unwrap_or(revision.len());
    format!("…{}", &revision[from..])
}

/// What a server sent, if status has room for it.
fn bounded(validator: &Option<String>) -> Option<String> {
    validator.clone().filter(|validator| validator.len() <= MAX_VALIDATOR_BYTES)
}

fn installed(status: &mut OrchestratorExtensionStatus, object: Object<'_>, pair: &InstalledPair, now: Timestamp) {
    let artifact = Artifact {
        revision: bounded_revision(&pair.revision),
        tree_digest: pair.tree_digest.clone(),
        manifest_digest: pair.manifest_digest.clone(),
        size: pair.size,
        files: pair.files,
        verified: pair.verified.clone(),
        linked_manifest: pair.linked_manifest,
        etag: bounded(&pair.validators[0]),
        last_modified: bounded(&pair.validators[1]),
        last_update_time: Time(now),
    };
    let same = |other: &Artifact| {
        other.tree_digest == artifact.tree_digest && other.manifest_digest == artifact.manifest_digest
    };
    let artifact = match status.artifact.take() {
        Some(current) if same(&current) => {
            Artifact { revision: artifact.revision.clone(), last_update_time: current.last_update_time, ..artifact }
        }
        former => {
            status.history.retain(|kept| !same(kept));
            // only of what is installed is it asked whether it has changed
            status.history.splice(0..0, former.map(|former| Artifact { etag: None, last_modified: None, ..former }));
            artifact
        }
    };
    status.history.truncate(object.history_limit.map_or(DEFAULT_HISTORY, |limit| limit as usize));
    let revision = artifact.revision.clone();
    status.artifact = Some(artifact);
    status.resolved = Some(pair.resolved.clone());

    let pinned = if pair.pinned { ", which spec.revision pins" } else { "" };
    let stored = format!("stored revision {revision}{pinned}");
    let (reason, ready) = match pair.enabled {
        true => (Reason::Succeeded, stored.clone()),
        false => (Reason::Disabled, format!("{stored}; the extension is disabled: its actions do not run")),
    };
    let compatible = match pair.disagreements.as_slice() {
        [] => "manifest and entrypoint fit".to_owned(),
        some => {
            format!("manifest and entrypoint fit; the resource wins over the fetched manifest in {}", some.join(", "))
        }
    };
    let verified = match &pair.verified {
        None => "everything that was pinned holds; no signature was asked for".to_owned(),
        Some(by) => format!("signed with {}, by the key {} (digest {})", by.provider, by.key, by.key_digest),
    };
    Conditions::of(&mut status.conditions, object.generation, now)
        .is_true(conditions::READY, reason, ready)
        .remove(conditions::RECONCILING)
        .remove(conditions::STALLED)
        .is_true(conditions::SOURCE_FETCHED, Reason::Succeeded, format!("fetched revision {revision}"))
        .is_true(conditions::SOURCE_VERIFIED, Reason::Succeeded, verified)
        .is_true(conditions::COMPATIBLE, Reason::Succeeded, compatible)
        .is_true(conditions::INSTALLED, Reason::Succeeded, format!("tree {} is on the volume", pair.tree_digest));
}

fn suspended(status: &mut OrchestratorExtensionStatus, object: Object<'_>, before: &Before, now: Timestamp) {
    let mut conditions = Conditions::of(&mut status.conditions, object.generation, now);
    conditions
        .is_false(conditions::READY, Reason::Suspended, "spec.suspend is set: nothing is fetched or installed")
        .remove(conditions::RECONCILING)
        .remove(conditions::STALLED);
    set_installed(&mut conditions, before);
}

fn failed(
    status: &mut OrchestratorExtensionStatus,
    object: Object<'_>,
    before: &Before,
    failure: &Failure,
    now: Timestamp,
) {
    let mut conditions = Conditions::of(&mut status.conditions, object.generation, now);
    conditions.is_false(conditions::READY, failure.reason, &failure.message);
    match failure.class {
        FailureClass::Stalled => {
            conditions.remove(conditions::RECONCILING).is_true(conditions::STALLED, failure.reason, &failure.message)
        }
        FailureClass::Waiting(_) | FailureClass::Transient => conditions.remove(conditions::STALLED).is_true(
            conditions::RECONCILING,
            failure.reason,
            format!("trying again: {}", failure.message),
        ),
    };
    // what lies before the failed stage has succeeded, what lies behind it was not reached
    for stage in [Stage::Fetch, Stage::Verify, Stage::Compatible] {
        let Some(condition) = stage.condition() else { continue };
        let has_failed = failure.stage.condition() == Some(condition);
        match stage < failure.stage {
            _ if has_failed => conditions.is_false(condition, failure.reason, &failure.message),
            true => conditions.is_true(condition, Reason::Succeeded, "done"),
            false => conditions.is_unknown(condition, Reason::Progressing, "not reached: an earlier step failed"),
        };
    }
    set_installed(&mut conditions, before);
}

fn set_installed(conditions: &mut Conditions<'_>, before: &Before) {
    match before {
        Before::Nothing => conditions.is_false(conditions::INSTALLED, Reason::Progressing, "nothing is installed yet"),
        Before::Intact => {
            conditions.is_true(conditions::INSTALLED, Reason::Succeeded, "the last good revision stays installed")
        }
        Before::Broken(what) => conditions.is_false(conditions::INSTALLED, Reason::Drifted, what),
        Before::Unreadable(why) => conditions.is_unknown(
            conditions::INSTALLED,
            Reason::StoreFailed,
            format!("whether the last good revision is whole cannot be told: {why}"),
        ),
    };
}

/// The status while work goes on, for a while or on a tree that is `broken`: nothing that was said of an older generation or
/// of a whole tree stands. What is already said of a failure stays until the next try has ended.
pub fn working(
    old: &OrchestratorExtensionStatus,
    object: Object<'_>,
    before: &Before,
    now: Timestamp,
) -> OrchestratorExtensionStatus {
    let mut status = old.clone();
    let is_new = old.observed_generation != object.generation;
    status.observed_generation = object.generation;
    let was_ready = conditions::is_true(&old.conditions, conditions::READY);
    let mut conditions = Conditions::of(&mut status.conditions, object.generation, now);
    if is_new || (was_ready && *before != Before::Intact) {
        conditions.is_unknown(conditions::READY, Reason::Progressing, "fetching the source");
    }
    if is_new || was_ready {
        conditions.is_true(conditions::RECONCILING, Reason::Progressing, "fetching the source");
        conditions.remove(conditions::STALLED);
    }
    if let Before::Broken(what) = before {
        conditions.is_false(conditions::INSTALLED, Reason::Drifted, what);
    }
    status
}

/// The status of an extension whose deletion waits.
pub fn waiting(
    old: &OrchestratorExtensionStatus,
    generation: Option<i64>,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> OrchestratorExtensionStatus {
    let mut status = old.clone();
    status.observed_generation = generation;
    Conditions::of(&mut status.conditions, generation, now)
        .is_false(conditions::READY, reason, message)
        .is_true(conditions::RECONCILING, reason, message)
        .remove(conditions::STALLED);
    status
}

/// When to look again: at the interval, or after the pause that a passing failure asks for.
pub fn requeue_after(result: &Result<Applied, Failure>, interval: Duration, transient_pause: Duration) -> Duration {
    match result {
        Ok(_) => interval,
        Err(failure) => match failure.class {
            FailureClass::Stalled => interval,
            // What was changed from outside is found within the interval, whatever a server wishes.
            FailureClass::Waiting(after) => after.min(interval),
            FailureClass::Transient => transient_pause.min(interval),
        },
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
