//! One reconcile of one extension: five calls, and the status that follows.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource as _, ResourceExt as _};

use super::context::{Context, jitter};
use super::failure::Failure;
use super::look::{Looked, look};
use super::news::{News, news};
use super::plan::{self, Intent};
use super::postpone::Postponed;
use super::status::{self, Applied, Before, Object, Observation};
use super::write::{Written, write_status};
use super::{apply, backoff, dereference, finalize, restore};
use crate::api::conditions;
use crate::api::{EXTENSION_FINALIZER, OrchestratorExtension, RECONCILE_REQUESTED_AT, Reason};
use crate::run::restrict;
use crate::validate;

/// How long the work on a new generation may take before the status says that it is under way.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a generation that was installed before: most often only the source's server is slow to say that nothing has
/// changed, which is worth no write.
const LONGER_PATIENCE: Duration = Duration::from_secs(10);
/// How often somebody else's write of the status is followed by a look from the start, at once.
const LOOKS: usize = 3;

/// What one look at an extension led to.
enum Outcome {
    /// To this.
    Done(Action),
    /// To nothing: it was not the newest that was looked at, but this is.
    Outdated(Box<OrchestratorExtension>),
}

/// Brings one extension to its desired state, or says in its status why that cannot be.
///
/// # Errors
/// Only those of the Kubernetes API: everything else is in the status.
pub async fn reconcile(extension: &OrchestratorExtension, context: &Context) -> Result<Action, kube::Error> {
    let mut newest = Cow::Borrowed(extension);
    for _ in 0..LOOKS {
        match look_after(&newest, context).await? {
            Outcome::Done(action) => return Ok(action),
            Outcome::Outdated(live) => newest = Cow::Owned(*live),
        }
    }
    Ok(Action::requeue(context.pause(uid(extension))))
}

fn uid(extension: &OrchestratorExtension) -> &str {
    extension.metadata.uid.as_deref().unwrap_or_default()
}

async fn look_after(extension: &OrchestratorExtension, context: &Context) -> Result<Outcome, kube::Error> {
    let generation = extension.metadata.generation;
    context.remember(uid(extension), |memory| {
        if memory.generation != generation {
            (memory.generation, memory.failures, memory.postponed) = (generation, 0, None);
        }
    });
    if !(context.may_write)() {
        return Ok(Outcome::Done(Action::await_change()));
    }
    if extension.meta().deletion_timestamp.is_some() {
        return finalize::run(extension, context).await.map(Outcome::Done);
    }
    if !extension.finalizers().iter().any(|finalizer| finalizer == EXTENSION_FINALIZER) {
        add_finalizer(extension, context).await?;
        // the watch brings the object back changed: going on here would install it twice
        return Ok(Outcome::Done(Action::await_change()));
    }
    let observed = extension.status.as_ref().and_then(|status| status.observed_generation);
    let has_changed = observed.is_some() && observed != generation;
    if has_changed && !restrict::is_restricted(extension) {
        restrict::lift(&context.client, &context.namespace, &extension.name_any()).await?;
    }

    let Looked { before, unusable } = look(extension, context).await;
    tell_of_damage(extension, context, &before);
    let mut latest = Cow::Borrowed(extension);
    if matches!(before, Before::Broken(_)) && !plan::is_suspended(&extension.spec) {
        match say_working(extension, context, &before).await? {
            Written::Stored(said) => latest = Cow::Owned(*said),
            Written::Superseded(live) => return Ok(Outcome::Outdated(live)),
            Written::Unchanged | Written::Dropped => {}
        }
    }

    let requested_at = object(extension).requested_at;
    let postponed = context.remember(uid(extension), |memory| {
        memory.postponed.as_ref().and_then(|postponed| postponed.failure(requested_at, Instant::now()))
    });
    let intent = match (plan::intent(extension, &context.contracts, context.require_verification), unusable) {
        (Err(failure), _) | (Ok(Intent::Restore(_) | Intent::Follow), Some(failure)) => Err(Err(failure)),
        (Ok(Intent::Leave), _) => Err(Ok(Applied::Suspended)),
        (Ok(intent), None) => postponed.map_or(Ok(intent), |failure| Err(Err(failure))),
    };
    let intent = match intent {
        Ok(intent) => intent,
        // It takes no turn at fetching, which one may wait long for.
        Err(result) => return conclude(extension, &latest, context, &Observation { before, result }).await,
    };
    // Closed when the process is told to end: then the next leader does what is left.
    let Ok(turn) = context.fetches.acquire().await else { return Ok(Outcome::Done(Action::await_change())) };
    if !(context.may_write)() {
        return Ok(Outcome::Done(Action::await_change()));
    }
    let patience = if has_changed || observed.is_none() { PATIENCE } else { LONGER_PATIENCE };
    let result = {
        let install = install(extension, context, intent, &before);
        tokio::pin!(install);
        match tokio::time::timeout(patience, &mut install).await {
            Ok(result) => result,
            Err(_) => {
                // To give up here would leave its thread to work on the volume, in the way of the next try.
                match say_working(&latest, context, &before).await {
                    Ok(Written::Stored(said)) => latest = Cow::Owned(*said),
                    Ok(Written::Unchanged | Written::Superseded(_) | Written::Dropped) => {}
                    Err(error) => {
                        tracing::warn!(extension = %extension.name_any(), %error, "that work is under way was not said");
                    }
                }
                install.await
            }
        }
    };
    drop(turn);
    let postponed = Postponed::after(&result, requested_at, Instant::now());
    context.remember(uid(extension), |memory| memory.postponed = postponed);
    conclude(extension, &latest, context, &Observation { before, result }).await
}

/// dereference → validate → plan → apply; a pinned revision needs nothing but the volume.
async fn install(
    extension: &OrchestratorExtension,
    context: &Context,
    intent: Intent<'_>,
    before: &Before,
) -> Result<Applied, Failure> {
    match intent {
        Intent::Leave => Ok(Applied::Suspended),
        Intent::Restore(pair) => restore::restore(extension, context, pair, before).await,
        Intent::Follow => {
            let inputs = dereference::inputs(extension, context).await?;
            let remembered = context.memory(uid(extension)).known;
            let plan = plan::plan(extension, &inputs, remembered, before)?;
            let applied = apply::apply(extension, context, &inputs, plan, before).await;
            applied.map_err(|failure| failure.masked(inputs.credentials.as_ref()))
        }
    }
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

/// Says that work is under way.
async fn say_working(
    extension: &OrchestratorExtension,
    context: &Context,
    before: &Before,
) -> Result<Written, kube::Error> {
    let old = extension.status.clone().unwrap_or_default();
    write_status(extension, context, status::working(&old, object(extension), before, Timestamp::now())).await
}

/// Writes the status that follows, tells what is new, and says when to look again. `latest` is the object that the look began
/// with, with what was said in the meantime.
async fn conclude(
    extension: &OrchestratorExtension,
    latest: &OrchestratorExtension,
    context: &Context,
    observation: &Observation,
) -> Result<Outcome, kube::Error> {
    let old = latest.status.clone().unwrap_or_default();
    let new = status::next(&old, object(extension), observation, Timestamp::now());
    match write_status(latest, context, new.clone()).await? {
        Written::Superseded(live) => return Ok(Outcome::Outdated(live)),
        Written::Dropped => return Ok(Outcome::Done(Action::await_change())),
        Written::Stored(_) | Written::Unchanged => {}
    }
    if let Some(news) = news(&extension.status.clone().unwrap_or_default(), &new, observation) {
        publish(extension, context, news);
    }
    let reason = observation.result.as_ref().map_or_else(|failure| failure.reason, |_| Reason::Succeeded);
    context.metrics.reconciled("OrchestratorExtension", reason);
    Ok(Outcome::Done(Action::requeue(requeue_after(extension, context, observation))))
}

fn requeue_after(extension: &OrchestratorExtension, context: &Context, observation: &Observation) -> Duration {
    let class = observation.result.as_ref().err().map(|failure| failure.class);
    let failures = context.remember(uid(extension), |memory| {
        memory.failures = backoff::failures(memory.failures, class);
        if matches!(observation.result, Ok(Applied::Installed(_))) {
            memory.told = None;
        }
        memory.failures
    });
    let jitter = jitter();
    let interval = backoff::spread(validate::interval_or_default(extension.spec.interval.as_deref()), jitter);
    status::requeue_after(&observation.result, interval, backoff::pause(failures, jitter))
}

/// Tells what was changed from outside, once until the tree is well again.
fn tell_of_damage(extension: &OrchestratorExtension, context: &Context, before: &Before) {
    let is_news = context.remember(uid(extension), |memory| match before {
        Before::Broken(what) => memory.told.replace(what.clone()).as_ref() != Some(what),
        Before::Intact => {
            memory.told = None;
            false
        }
        Before::Nothing | Before::Unreadable(_) => false,
    });
    if let (true, Before::Broken(what)) = (is_news, before) {
        publish(extension, context, News { is_warning: true, reason: Reason::Drifted, note: what.clone() });
    }
}

fn publish(extension: &OrchestratorExtension, context: &Context, news: News) {
    let event = Event {
        type_: if news.is_warning { EventType::Warning } else { EventType::Normal },
        reason: news.reason.as_str().into(),
        note: Some(conditions::truncated(news.note, 1000)),
        action: "Reconcile".into(),
        secondary: None,
    };
    context.events.publish(event, extension.object_ref(&()));
}

#[cfg(test)]
#[path = "reconcile_damage_tests.rs"]
mod damage_tests;
#[cfg(test)]
#[path = "reconcile_secret_tests.rs"]
mod secret_tests;
#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "reconcile_trust_tests.rs"]
mod trust_tests;
#[cfg(test)]
#[path = "reconcile_volume_tests.rs"]
mod volume_tests;
