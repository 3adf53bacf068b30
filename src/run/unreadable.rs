//! A run that cannot be read, because a later version wrote it or its definition was changed: it is left alone until it is
//! deleted. Then its Jobs go, and what is known of every object is enough to let it go, too.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;

use super::apply::{delete_job, patch_finalizers};
use super::claimed::POD_ALLOWANCE;
use super::context::Context;
use super::controller::ReconcileError;
use super::decide::{after, until};
use crate::api::RUN_FINALIZER;

/// Lets a deleted run go once its Jobs are gone, and its pods, or the time that they have to end.
pub(super) async fn reconcile(
    context: &Context,
    run: &ObjectMeta,
    error: &InvalidObject,
) -> Result<Action, ReconcileError> {
    let name = run.name.as_deref().unwrap_or_default();
    let is_ours = run.finalizers.iter().flatten().any(|finalizer| finalizer == RUN_FINALIZER);
    let Some(deleted) = run.deletion_timestamp.as_ref().filter(|_| is_ours) else {
        tracing::warn!(run = name, %error, "the run cannot be read and is left alone");
        return Ok(Action::await_change());
    };
    // An empty cache looks like Jobs that are gone.
    if !context.caches.are_filled() {
        return Ok(Action::requeue(Duration::from_millis(100)));
    }
    let uid = run.uid.as_deref().unwrap_or_default();
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.settings.operator.namespace);
    let there = context.jobs(uid);
    for job in there.iter().filter(|job| job.metadata.deletion_timestamp.is_none()) {
        delete_job(&jobs, &job.name_any()).await?;
    }
    let pods = context.pods(uid);
    let (due, now) = (pods.iter().map(|pod| ends_by(pod, deleted.0)).max().unwrap_or(deleted.0), Timestamp::now());
    if there.is_empty() && (pods.is_empty() || now >= due) {
        patch_finalizers(context, run, false).await?;
        return Ok(Action::await_change());
    }
    Ok(Action::requeue(until(due.max(after(now, 1)), now)))
}

/// When a pod must be gone, unless its node is lost.
fn ends_by(pod: &Pod, deleted: Timestamp) -> Timestamp {
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or_default();
    after(deleted, grace.saturating_add(POD_ALLOWANCE))
}
