//! Deletion: waits until no run uses the extension, then takes its link off the volume.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMetaExt as _;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use super::context::Context;
use super::status;
use super::usage::{each, is_active_run};
use super::volume::{Amount, on_volume};
use super::write::write_status;
use crate::api::{ActionRun, EXTENSION_FINALIZER, OrchestratorExtension, Reason};
use crate::run;
use crate::store::{ExtensionName, Store, StoreError};

/// How soon, at the earliest, is looked again while deletion waits.
const SOONEST: Duration = Duration::from_secs(2);
/// And at the latest, while it waits for runs: each look lists them all.
const LATEST: Duration = Duration::from_secs(10);

/// What one step of the deletion came to.
enum Step {
    /// Nothing is left to do.
    Done,
    /// It waits for something, and looks again after a pause.
    Waits { reason: Reason, message: String, pause: Duration },
}

/// One step of the deletion.
pub async fn run(extension: &OrchestratorExtension, context: &Context) -> Result<Action, kube::Error> {
    match step(extension, context).await? {
        Step::Done => Ok(Action::await_change()),
        Step::Waits { reason, message, pause } => {
            say(extension, context, reason, &message).await?;
            Ok(Action::requeue(pause))
        }
    }
}

/// The same for an extension that cannot be read, because a later version wrote it or its definition was changed: what is
/// known of every object is enough. Nothing is written into a status that cannot be read either.
pub async fn run_unreadable(extension: &ObjectMeta, context: &Context) -> Result<Action, kube::Error> {
    if !(context.may_write)() {
        return Ok(Action::await_change());
    }
    let extension = extension.clone().into_response_partial::<OrchestratorExtension>();
    match step(&extension, context).await? {
        Step::Done => Ok(Action::await_change()),
        Step::Waits { message, pause, .. } => {
            tracing::warn!(extension = extension.name_any(), message);
            Ok(Action::requeue(pause))
        }
    }
}

async fn step(extension: &impl ResourceExt, context: &Context) -> Result<Step, kube::Error> {
    if !extension.finalizers().iter().any(|finalizer| finalizer == EXTENSION_FINALIZER) {
        return Ok(Step::Done);
    }
    let name = extension.name_any();
    let uid = extension.meta().uid.as_deref().unwrap_or_default();
    let active = active_runs(&name, context).await?;
    if !active.is_empty() {
        let pause = context.pause(uid).clamp(SOONEST, LATEST);
        return Ok(Step::Waits { reason: Reason::WaitingForRuns, message: waiting_for(&active), pause });
    }
    // a name that cannot be on the volume was never installed
    let linked = ExtensionName::parse(&name).ok();
    let unlink = move |store: &Store| linked.map_or(Ok(false), |name| store.unlink(&name));
    let failure = match on_volume(context, extension, Amount::Little, unlink).await {
        // a file of that name that the operator did not put there is not its business
        Ok(Ok(_) | Err(StoreError::ForeignFile { .. })) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(failure) => Some(failure.message),
    };
    if let Some(failure) = failure {
        let message = format!("deletion waits for the volume, from which the extension must be removed: {failure}");
        return Ok(Step::Waits { reason: Reason::StoreFailed, message, pause: LATEST });
    }
    if !(context.may_write)() {
        return Ok(Step::Done);
    }
    run::restrict::lift(&context.client, &context.namespace, &name).await?;
    context.forget(uid);
    let finalizers: Vec<_> =
        extension.finalizers().iter().filter(|finalizer| *finalizer != EXTENSION_FINALIZER).collect();
    let patch = serde_json::json!({
        "metadata": {"finalizers": finalizers, "resourceVersion": extension.resource_version()},
    });
    let api = Api::<OrchestratorExtension>::all(context.client.clone());
    match api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(Step::Done),
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(Step::Done),
        Err(error) => Err(error),
    }
}

/// `<namespace>/<name>` of the runs of this extension that have not ended, read from the API and not from a cache.
async fn active_runs(extension: &str, context: &Context) -> Result<Vec<String>, kube::Error> {
    // Each listing may be large, and many extensions may be deleted at once. Never closed.
    let _turn = context.listings.acquire().await.ok();
    let mut active = vec![];
    each::<ActionRun>(&context.client, |run| {
        if is_active_run(run, extension) {
            active.push(format!("{}/{}", run.namespace().unwrap_or_default(), run.name()));
        }
    })
    .await?;
    Ok(active)
}

fn waiting_for(active: &[String]) -> String {
    let shown = active.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if active.len() > 5 { format!(" and {} more", active.len() - 5) } else { String::new() };
    format!("deletion waits for {} active runs: {shown}{more}", active.len())
}

async fn say(
    extension: &OrchestratorExtension,
    context: &Context,
    reason: Reason,
    message: &str,
) -> Result<(), kube::Error> {
    let old = extension.status.clone().unwrap_or_default();
    let new = status::waiting(&old, extension.metadata.generation, reason, message, Timestamp::now());
    // If somebody else has written, the next look says it.
    write_status(extension, context, new).await.map(drop)
}
