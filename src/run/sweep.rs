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
use crate::api::RUN_UID_LABEL;

/// Time between two sweeps.
const INTERVAL: Duration = Duration::from_secs(300);

/// Sweeps at once and then every five minutes, until dropped. The caches must be filled by a running controller.
pub async fn run(context: Arc<Context>) {
    loop {
        if let Err(error) = sweep(&context).await {
            tracing::warn!(%error, "orphaned Jobs were not swept");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Deletes every Job of a run that the API, asked now, does not have. Returns how many.
///
/// # Errors
/// The API's.
pub async fn sweep(context: &Context) -> Result<usize, kube::Error> {
    context.caches.wait_until_filled().await;
    context.forget_gone();
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.settings.operator.namespace);
    let mut swept = 0;
    for job in context.caches.jobs.state() {
        let Some(uid) = job.labels().get(RUN_UID_LABEL) else { continue };
        if job.metadata.deletion_timestamp.is_some() || context.run(uid).is_some() || context.read(uid).await?.is_some()
        {
            continue;
        }
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: job.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match jobs.delete(&job.name_any(), &params).await {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => swept += 1,
        }
    }
    Ok(swept)
}
