//! Deletion: waits until no run uses the extension, then takes its link off the volume.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};

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

/// One step of the deletion.
pub async fn run(extension: &OrchestratorExtension, context: &Context) -> Result<Action, kube::Error> {
    if !extension.finalizers().iter().any(|finalizer| finalizer == EXTENSION_FINALIZER) {
        return Ok(Action::await_change());
    }
    let name = extension.name_any();
    let uid = extension.metadata.uid.as_deref().unwrap_or_default();
    let active = active_runs(&name, context).await?;
    if !active.is_empty() {
        say_waiting(extension, context, &active).await?;
        return Ok(Action::requeue(context.pause(uid).clamp(SOONEST, LATEST)));
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
        say(extension, context, Reason::StoreFailed, &message).await?;
        return Ok(Action::requeue(LATEST));
    }
    if !(context.may_write)() {
        return Ok(Action::await_change());
    }
    run::restrict::lift(&context.client, &context.namespace, &name).await?;
    context.forget(uid);
    let finalizers: Vec<_> =
        extension.finalizers().iter().filter(|finalizer| *finalizer != EXTENSION_FINALIZER).collect();
    let patch = serde_json::json!({
        "metadata": {"finalizers": finalizers, "resourceVersion": extension.resource_version()},
    });
    let api = Api::<OrchestratorExtension>::all(context.client.clone());
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(Action::await_change()),
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

async fn say_waiting(
    extension: &OrchestratorExtension,
    context: &Context,
    active: &[String],
) -> Result<(), kube::Error> {
    let shown = active.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if active.len() > 5 { format!(" and {} more", active.len() - 5) } else { String::new() };
    let message = format!("deletion waits for {} active runs: {shown}{more}", active.len());
    say(extension, context, Reason::WaitingForRuns, &message).await
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
