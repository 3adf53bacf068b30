//! Deletion: waits until no run uses the extension, then takes its link off the volume.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};

use super::context::Context;
use super::usage::{each, is_active_run};
use crate::api::conditions::{self, Conditions};
use crate::api::{ActionRun, EXTENSION_FINALIZER, OrchestratorExtension, Reason};
use crate::run;
use crate::store::{ExtensionName, StoreError};

/// How soon runs are looked at again while deletion waits for them.
const WAIT: Duration = Duration::from_secs(2);

/// One step of the deletion.
pub async fn run(extension: &OrchestratorExtension, context: &Context) -> Result<Action, kube::Error> {
    if !extension.finalizers().iter().any(|finalizer| finalizer == EXTENSION_FINALIZER) {
        return Ok(Action::await_change());
    }
    let name = extension.name_any();
    let active = active_runs(&name, context).await?;
    if !active.is_empty() {
        say_waiting(extension, context, &active).await?;
        return Ok(Action::requeue(WAIT));
    }
    let store = context.store.clone();
    let unlinked = {
        // a name that cannot be on the volume was never installed
        let name = ExtensionName::parse(&name).ok();
        tokio::task::spawn_blocking(move || name.map_or(Ok(false), |name| store.get()?.unlink(&name))).await
    };
    match unlinked {
        // a file of that name that the operator did not put there is not its business
        Ok(Ok(_) | Err(StoreError::ForeignFile { .. })) => {}
        Ok(Err(error)) => {
            let message = format!("deletion waits for the volume, from which the extension must be removed: {error}");
            say(extension, context, Reason::StoreFailed, &message).await?;
            return Ok(Action::requeue(WAIT * 5));
        }
        Err(error) => {
            tracing::error!(extension = name, %error, "unlinking was interrupted");
            return Ok(Action::requeue(WAIT));
        }
    }
    run::restrict::lift(&context.client, &context.namespace, &name).await?;
    context.forget(extension.metadata.uid.as_deref().unwrap_or_default());
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
    let mut active = vec![];
    each::<ActionRun>(&context.client, |run| {
        if is_active_run(run, extension) {
            active.push(format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any()));
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
    let mut object = extension.clone();
    let status = object.status.get_or_insert_default();
    let before = status.clone();
    status.observed_generation = extension.metadata.generation;
    Conditions::of(&mut status.conditions, extension.metadata.generation, k8s_openapi::jiff::Timestamp::now())
        .is_false(conditions::READY, reason, message)
        .is_true(conditions::RECONCILING, reason, message)
        .remove(conditions::STALLED);
    if *status == before {
        return Ok(());
    }
    let api = Api::<OrchestratorExtension>::all(context.client.clone());
    api.replace_status(&object.name_any(), &Default::default(), &object).await.map(drop)
}
