//! What the caches keep of an object: pure. Nobody reads managed fields, and of a run that has ended little is needed, so
//! that ten thousand of them fit into the operator's memory. What is cut off is read from the API where it is wanted.

use kube::Resource;
use kube::core::DeserializeGuard;

use super::decide::phase;
use super::retention;
use crate::api::ActionRun;
use crate::api::run::{ActionRunSpec, ActionRunStatus};

/// Takes the managed fields away.
pub(super) fn object<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// The same, and of a run that has ended everything but what decisions about it rest on: what it was, when and how it
/// ended, its attempts, its finalizers, and the Secret of an action that may answer with passwords,
/// which does not stay as long as the run.
pub(super) fn run(guard: &mut DeserializeGuard<ActionRun>) {
    object(guard);
    let Ok(run) = &mut guard.0 else { return };
    object(run);
    if !phase(run).is_finished() {
        return;
    }
    let is_secret = retention::is_answer_secret(&run.spec.action);
    run.metadata.annotations = None;
    run.metadata.owner_references = None;
    run.spec = ActionRunSpec {
        extension_ref: std::mem::take(&mut run.spec.extension_ref),
        target_ref: run.spec.target_ref.take(),
        ttl_seconds_after_finished: run.spec.ttl_seconds_after_finished,
        ..ActionRunSpec::default()
    };
    let status = run.status.take().unwrap_or_default();
    run.status = Some(ActionRunStatus {
        phase: status.phase,
        completion_time: status.completion_time,
        observed_generation: status.observed_generation,
        attempts: status.attempts,
        revision: status.revision,
        result_ref: status.result_ref.filter(|_| is_secret),
        ..ActionRunStatus::default()
    });
}

/// Whether something was cut off, so that the run must not be written back: no run is without an action.
pub(super) fn is_cut(run: &ActionRun) -> bool {
    run.spec.action.is_empty()
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
