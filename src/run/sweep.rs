//! Removes Jobs whose run is gone: a run deleted by force, or restored under another UID, leaves its Job behind.
//! One whose script still runs goes, too: nobody is left to hear its outcome, and its runner, answered "gone" at its next
//! word, stops the script by itself.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Preconditions, PropagationPolicy};

use super::context::Context;
use super::live::is_gone;
use super::tries::{Failures, Tries};
use crate::api::RUN_UID_LABEL;

/// Time between two sweeps.
const INTERVAL: Duration = Duration::from_secs(300);

/// Sweeps at once and then every five minutes, until dropped. The caches must be filled by a running controller.
pub async fn run(context: Arc<Context>) {
    loop {
        if let Err(failures) = sweep(&context).await {
            tracing::warn!(%failures, "orphaned Jobs were not swept");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Deletes every Job of a run that the API, asked now, does not have. Returns how many. One that cannot be deleted keeps no
/// other.
///
/// # Errors
/// That the API refused or failed some.
pub async fn sweep(context: &Context) -> Result<usize, Failures<kube::Error>> {
    context.caches.wait_until_filled().await;
    context.forget_gone();
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.settings.operator.namespace);
    let mut tries = Tries::default();
    for job in context.caches.jobs.state() {
        tries.note(job.name_any(), sweep_one(context, &jobs, &job).await);
    }
    tries.end()
}

/// Whether the Job was an orphan, and is deleted.
async fn sweep_one(context: &Context, jobs: &Api<Job>, job: &Job) -> Result<bool, kube::Error> {
    let Some(uid) = job.labels().get(RUN_UID_LABEL) else { return Ok(false) };
    if job.metadata.deletion_timestamp.is_some() || context.is_cached(uid) || context.read(uid).await?.is_some() {
        return Ok(false);
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: job.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match jobs.delete(&job.name_any(), &params).await {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(true),
    }
}
