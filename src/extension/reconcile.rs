//! One reconcile of one extension: five calls, and the status that follows.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource as _, ResourceExt as _};

use super::check::check;
use super::context::Context;
use super::failure::Failure;
use super::status::{self, Applied, Before, Object, Observation};
use super::{apply, backoff, dereference, finalize, plan, restore, trust};
use crate::api::conditions;
use crate::api::extension::OrchestratorExtensionStatus;
use crate::api::{EXTENSION_FINALIZER, OrchestratorExtension, RECONCILE_REQUESTED_AT, Reason};
use crate::run::restrict;
use crate::validate;

/// How long an install may take before the status says that it is under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// Brings one extension to its desired state, or says in its status why that cannot be.
///
/// # Errors
/// Only those of the Kubernetes API: everything else is in the status.
pub async fn reconcile(extension: Arc<OrchestratorExtension>, context: Arc<Context>) -> Result<Action, kube::Error> {
    if extension.meta().deletion_timestamp.is_some() {
        return finalize::run(&extension, &context).await;
    }
    if !extension.finalizers().iter().any(|finalizer| finalizer == EXTENSION_FINALIZER) {
        add_finalizer(&extension, &context).await?;
        // the watch brings the object back changed: going on here would install it twice
        return Ok(Action::await_change());
    }
    let observed = extension.status.as_ref().and_then(|status| status.observed_generation);
    let has_changed = observed.is_some() && observed != extension.metadata.generation;
    if has_changed && !restrict::is_restricted(&extension) {
        restrict::lift(&context.client, &context.namespace, &extension.name_any()).await?;
    }

    let mut latest = Cow::Borrowed(extension.as_ref());
    let observation = {
        let install = install(&extension, &context);
        tokio::pin!(install);
        match tokio::time::timeout(PATIENCE, &mut install).await {
            Ok(observation) => observation,
            Err(_) => {
                if let Some(said) = say_progressing(&extension, &context).await? {
                    latest = Cow::Owned(said);
                }
                install.await
            }
        }
    };

    write_status(&latest, &context, &observation).await
}

/// dereference → validate → plan → apply; a pinned revision needs nothing but the volume.
async fn install(extension: &OrchestratorExtension, context: &Context) -> Observation {
    let before = apply::look(extension, context).await;
    let result = async {
        if plan::is_suspended(&extension.spec) {
            return Ok(Applied::Suspended);
        }
        check(extension, &context.contracts).map_err(Failure::invalid)?;
        trust::required(&extension.spec, context.require_verification)?;
        if let Some(pair) = plan::pinned(&extension.spec, extension.status.as_ref())? {
            let source = extension.spec.source.as_ref().map(validate::source).transpose().map_err(Failure::invalid)?;
            let keys = dereference::keys(source.as_ref(), context).await?;
            trust::restorable(pair, keys.as_ref(), context.require_verification)?;
            return restore::restore(extension, context, pair).await;
        }
        let inputs = dereference::inputs(extension, context).await?;
        let source = inputs.merged.spec.source.clone().unwrap_or_default();
        let source = validate::source(&source).map_err(Failure::invalid)?;
        let keys = dereference::keys(Some(&source), context).await?;
        let wanted = apply::wanted(&source, inputs.config_map.as_ref(), keys)?;
        let remembered = apply::remembered(extension, context, &wanted, &before);
        let plan = plan::plan(wanted, remembered);
        apply::apply(extension, context, &inputs, plan, &before).await
    }
    .await;
    Observation { before, result }
}

async fn add_finalizer(extension: &OrchestratorExtension, context: &Context) -> Result<(), kube::Error> {
    let mut finalizers = extension.finalizers().to_vec();
    finalizers.push(EXTENSION_FINALIZER.to_owned());
    let patch = serde_json::json!({
        "metadata": {"finalizers": finalizers, "resourceVersion": extension.resource_version()},
    });
    let api = Api::<OrchestratorExtension>::all(context.client.clone());
    api.patch(&extension.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

fn object(extension: &OrchestratorExtension) -> Object<'_> {
    Object {
        generation: extension.metadata.generation,
        requested_at: extension.annotations().get(RECONCILE_REQUESTED_AT).map(String::as_str),
        history_limit: extension.spec.revision_history_limit,
    }
}

/// Says that work is under way; the object with that status, if it said so.
async fn say_progressing(
    extension: &OrchestratorExtension,
    context: &Context,
) -> Result<Option<OrchestratorExtension>, kube::Error> {
    if extension.status.as_ref().and_then(|status| status.observed_generation) == extension.metadata.generation {
        return Ok(None);
    }
    let now = Timestamp::now();
    let next = |old: &_| status::progressing(old, object(extension), "fetching the source", now);
    let stored = store_status(extension, context, next).await?;
    Ok(stored.map(|stored| {
        let mut latest = extension.clone();
        latest.metadata.resource_version = stored.resource_version;
        latest.status = Some(stored.new);
        latest
    }))
}

async fn write_status(
    extension: &OrchestratorExtension,
    context: &Context,
    observation: &Observation,
) -> Result<Action, kube::Error> {
    let now = Timestamp::now();
    let next = |old: &_| status::next(old, object(extension), observation, now);
    if let Some(stored) = store_status(extension, context, next).await? {
        publish_events(extension, context, observation, &stored.old, &stored.new);
    }
    let reason = match &observation.result {
        Ok(_) => Reason::Succeeded,
        Err(failure) => failure.reason,
    };
    context.metrics.reconciled("OrchestratorExtension", reason);
    Ok(Action::requeue(requeue_after(extension, context, observation)))
}

/// A status that was replaced.
struct Stored {
    old: OrchestratorExtensionStatus,
    new: OrchestratorExtensionStatus,
    /// The object's version with the new one.
    resource_version: Option<String>,
}

/// Replaces the status as a whole by the one that follows from it, unless they are the same. What this reconcile began with
/// may be out of date. So after a conflict the next status is made from the newest; a changed spec is reconciled again
/// anyway.
async fn store_status(
    extension: &OrchestratorExtension,
    context: &Context,
    next: impl Fn(&OrchestratorExtensionStatus) -> OrchestratorExtensionStatus,
) -> Result<Option<Stored>, kube::Error> {
    let api = Api::<OrchestratorExtension>::all(context.client.clone());
    let mut object = extension.clone();
    let mut tries_left = 3;
    loop {
        tries_left -= 1;
        let old = object.status.take().unwrap_or_default();
        let new = next(&old);
        if new == old {
            return Ok(None);
        }
        object.status = Some(new.clone());
        match api.replace_status(&object.name_any(), &PostParams::default(), &object).await {
            Ok(stored) => return Ok(Some(Stored { old, new, resource_version: stored.resource_version() })),
            Err(kube::Error::Api(error)) if error.code == 409 && tries_left > 0 => {
                object = api.get(&extension.name_any()).await?;
                if object.metadata.uid != extension.metadata.uid {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn requeue_after(extension: &OrchestratorExtension, context: &Context, observation: &Observation) -> Duration {
    let uid = extension.metadata.uid.as_deref().unwrap_or_default();
    let mut memory = context.memory(uid);
    memory.failures = if observation.result.is_ok() { 0 } else { memory.failures.saturating_add(1) };
    let jitter = random();
    let pause = backoff::pause(memory.failures, jitter);
    context.remember(uid, memory);
    let interval = backoff::spread(validate::interval_or_default(extension.spec.interval.as_deref()), jitter);
    status::requeue_after(&observation.result, interval, pause)
}

/// Between 0 and 1. Where the system gives no randomness, no jitter is the best there is.
fn random() -> f64 {
    getrandom::u32().map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}

/// An event for a new revision, for drift, and for a failure that was not there before: not for every check.
fn publish_events(
    extension: &OrchestratorExtension,
    context: &Context,
    observation: &Observation,
    old: &OrchestratorExtensionStatus,
    new: &OrchestratorExtensionStatus,
) {
    let mut events = vec![];
    let event = |type_, reason: Reason, note: String| Event {
        type_,
        reason: reason.as_str().into(),
        note: Some(conditions::truncated(note, 1000)),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Before::Broken(what) = &observation.before {
        events.push(event(EventType::Warning, Reason::Drifted, what.clone()));
    }
    match &observation.result {
        Ok(Applied::Installed(pair)) => {
            let tree = |status: &OrchestratorExtensionStatus| {
                status
                    .artifact
                    .as_ref()
                    .map(|artifact| (artifact.tree_digest.clone(), artifact.manifest_digest.clone()))
            };
            let recovered = !conditions::is_true(&old.conditions, conditions::READY);
            if tree(old) != tree(new) {
                events.push(event(
                    EventType::Normal,
                    Reason::Installed,
                    format!("installed revision {}", pair.revision),
                ));
            } else if recovered {
                events.push(event(
                    EventType::Normal,
                    Reason::Succeeded,
                    format!("recovered at revision {}", pair.revision),
                ));
            }
        }
        Ok(Applied::Suspended) => {}
        Err(failure) => {
            let said = conditions::find(&old.conditions, conditions::READY)
                .is_some_and(|ready| ready.status == "False" && ready.reason == failure.reason.as_str());
            if !said {
                events.push(event(EventType::Warning, failure.reason, failure.message.clone()));
            }
        }
    }
    for event in events {
        context.events.publish(event, extension.object_ref(&()));
    }
}
