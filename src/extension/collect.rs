//! Removes trees that nothing uses, slowly: a Lease does not fence a file system, so what is unused is first moved to
//! trash, kept there longer than a lease plus the longest write, and only then deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use super::context::Context;
use super::usage::{each, kept_by_extension, pinned_by_run};
use crate::api::{ActionRun, MANAGED_BY_LABEL, MANAGER, OrchestratorExtension, TREE_ANNOTATION};
use crate::digest::Digest;
use crate::store::Collected;

/// How often trees are looked through.
const EVERY: Duration = Duration::from_secs(300);
/// How long a tree lies in trash before it is deleted.
const GRACE: Duration = Duration::from_secs(900);

/// Collects every few minutes until `shutdown` resolves and the collection under way has ended: dropping this would not
/// end that, because it works in a thread of its own.
pub async fn collect_until(context: Arc<Context>, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match collect(&context).await {
            Ok(collected) if collected == Collected::default() => {}
            Ok(collected) => tracing::info!(?collected, "collected unused trees"),
            Err(error) => tracing::warn!(%error, "unused trees could not be collected"),
        }
    }
}

async fn collect(context: &Context) -> anyhow::Result<Collected> {
    let keep = used(context).await?;
    let store = context.store.clone();
    Ok(tokio::task::spawn_blocking(move || store.get()?.collect(&keep, SystemTime::now(), GRACE)).await??)
}

/// The trees and manifests that something uses, asked of the API and not of a cache: kept revisions, unfinished runs, living pods.
async fn used(context: &Context) -> anyhow::Result<BTreeSet<Digest>> {
    let mut used = BTreeSet::new();
    each::<OrchestratorExtension>(&context.client, |extension| used.extend(kept_by_extension(extension))).await?;
    each::<ActionRun>(&context.client, |run| used.extend(pinned_by_run(run))).await?;
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    for pod in Api::<Pod>::namespaced(context.client.clone(), &context.namespace).list_metadata(&ours).await? {
        let tree = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(TREE_ANNOTATION));
        used.extend(tree.and_then(|tree| tree.parse::<Digest>().ok()));
    }
    Ok(used)
}
