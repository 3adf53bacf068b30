//! Deletes finished runs that are kept no longer, and counts all runs for the metrics; looks for secret results, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Error, ResourceExt as _};

use super::context::{Context, Memory};
use super::decide::phase;
use super::live::{is_conflict, is_gone};
use super::tries::{Failures, Pauses, Tries};
use super::{expire, retention};
use crate::api::{ActionRun, Phase};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// Runs that are deleted, or have their Secret deleted, in one look at most, and that fail to be, so that the API has time for
/// others.
pub(super) const BATCH: usize = 100;

/// Collects every few seconds, until dropped. The caches must be filled by a running controller.
pub async fn run(context: Arc<Context>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if !context.caches.are_filled() {
            continue;
        }
        count(&context);
        if let Err(failures) = collect(&context).await {
            tracing::warn!(%failures, "finished runs were not collected");
        }
        if let Err(failures) = expire::expire(&context).await {
            tracing::warn!(%failures, "secret results were not deleted");
        }
    }
}

/// Deletes the runs that are kept no longer, unless they changed since. Returns how many. One that cannot be deleted keeps
/// no other, and is tried again after a pause.
///
/// # Errors
/// That the API refused or failed some.
pub async fn collect(context: &Context) -> Result<usize, Failures<Error>> {
    let guards = context.caches.runs.state();
    let runs = guards.iter().filter_map(|guard| guard.0.as_ref().ok());
    let limit = |extension: &str| {
        let guard = context.caches.extensions.get(&ObjectRef::new(extension));
        let own = guard.and_then(|guard| guard.0.as_ref().ok()?.spec.runtime.as_ref()?.run_history_limit);
        own.or(context.settings.run_history_limit)
    };
    let expired = retention::expired(runs, limit, Timestamp::now());
    each(context, expired, |memory| &mut memory.uncollected, |run| delete(context, run)).await
}

async fn delete(context: &Context, run: &ActionRun) -> Result<(), Error> {
    let only = Preconditions { uid: run.metadata.uid.clone(), resource_version: run.metadata.resource_version.clone() };
    let runs = Api::<ActionRun>::namespaced(context.client.clone(), &run.namespace().unwrap_or_default());
    runs.delete(&run.name_any(), &DeleteParams::default().preconditions(only)).await.map(drop)
}

/// Tries each run, until there were enough. One that fails keeps no other, and is tried again after a pause; one that is gone
/// or was changed meanwhile is for the next look.
pub(super) async fn each<'a, F>(
    context: &Context,
    runs: Vec<&'a ActionRun>,
    pauses: fn(&mut Memory) -> &mut Pauses,
    work: impl Fn(&'a ActionRun) -> F,
) -> Result<usize, Failures<Error>>
where
    F: Future<Output = Result<(), Error>>,
{
    let mut tries = Tries::default();
    for run in runs {
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        if tries.are_enough(BATCH) {
            break;
        }
        if pauses(&mut context.memory()).holds(uid, Instant::now()) {
            continue;
        }
        let done = match work(run).await {
            Ok(()) => Ok(true),
            Err(error) if is_gone(&error) || is_conflict(&error) => Ok(false),
            Err(error) => Err(error),
        };
        let has_failed = tries.note(place(run), done);
        pauses(&mut context.memory()).note(uid, has_failed, Instant::now());
    }
    tries.end()
}

/// What a run is called in logs.
pub(super) fn place(run: &ActionRun) -> String {
    format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any())
}

fn count(context: &Context) {
    let mut phases = BTreeMap::<&str, usize>::new();
    for guard in context.caches.runs.state() {
        let Ok(run) = &guard.0 else { continue };
        *phases.entry(phase(run).as_str()).or_default() += 1;
    }
    for phase in Phase::ALL {
        context.metrics.set_runs(phase, phases.get(phase.as_str()).copied().unwrap_or_default());
    }
    let active = context.active();
    context.metrics.set_queue(context.slots.waiting(), active);
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
