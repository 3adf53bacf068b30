//! Reconciles each extension that changes, one at a time for each extension.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Predicate as _;
use kube::runtime::{Controller, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Resource as _};

use super::context::Context;
use super::finalize;
use super::reconcile::reconcile;
use super::watch::Guard;
use crate::api::OrchestratorExtension;

/// Reconciles for each one that may fetch at a time: those that look at the volume do not wait for slow sources.
const LOOKS_PER_FETCH: u16 = 8;

/// Runs until `shutdown` resolves and the reconciles under way have ended, but for those that wait for their turn to fetch.
///
/// Only changes of spec, annotations and finalizers count, so that the controller's own status writes do not wake it.
/// A resource that cannot be read is logged and passed over until it is deleted: it must not hold up the others.
pub async fn run(
    context: Arc<Context>,
    (cache, applied): (Store<Guard>, UnboundedReceiver<Guard>),
    fetches: u16,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let stream = applied.map(Ok).predicate_filter(
        predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
        Default::default(),
    );
    // a deletion counts as well: the extension says that it misses its source
    let config_maps = Api::<PartialObjectMeta<ConfigMap>>::namespaced(context.client.clone(), &context.namespace);
    let config_maps = watcher(config_maps, watcher::Config::default()).default_backoff().touched_objects();
    let extensions = cache.clone();
    let shutdown = {
        let context = context.clone();
        async move {
            shutdown.await;
            context.fetches.close();
        }
    };
    Controller::for_stream(stream, cache)
        .watches_stream(config_maps, move |changed| fetched_from(&extensions.state(), &changed))
        .with_config(Config::default().concurrency(fetches.saturating_mul(LOOKS_PER_FETCH)))
        .graceful_shutdown_on(shutdown)
        .run(reconcile_guarded, on_error, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "reconciling extensions");
            }
        })
        .await;
}

/// The extensions of which this ConfigMap is the source.
fn fetched_from(extensions: &[Arc<Guard>], changed: &PartialObjectMeta<ConfigMap>) -> Vec<ObjectRef<Guard>> {
    let reads = |extension: &OrchestratorExtension| {
        let source = extension.spec.source.as_ref();
        source.and_then(|source| source.config_map_ref.as_ref()).map(|reference| &reference.name)
            == changed.metadata.name.as_ref()
    };
    let extensions = extensions.iter().filter(|extension| extension.0.as_ref().is_ok_and(reads));
    extensions.map(|extension| ObjectRef::from_obj(extension.as_ref())).collect()
}

async fn reconcile_guarded(extension: Arc<Guard>, context: Arc<Context>) -> Result<Action, kube::Error> {
    match &extension.0 {
        Ok(extension) => reconcile(extension, &context).await,
        Err(invalid) if invalid.metadata.deletion_timestamp.is_some() => {
            finalize::run_unreadable(&invalid.metadata, &context).await
        }
        Err(invalid) => {
            tracing::warn!(extension = invalid.metadata.name, error = invalid.error, "a resource cannot be read");
            Ok(Action::await_change())
        }
    }
}

/// The API refused or failed a request: tried again after pauses that grow, as what it refuses once it will refuse again.
fn on_error(extension: Arc<Guard>, error: &kube::Error, context: Arc<Context>) -> Action {
    let pause = context.pause(extension.meta().uid.as_deref().unwrap_or_default());
    tracing::warn!(extension = %ObjectRef::from_obj(extension.as_ref()), %error, ?pause, "the API refused or failed a request");
    Action::requeue(pause)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{EXTENSION, Fixture, RUN};
    use super::*;

    #[tokio::test]
    async fn an_extension_that_cannot_be_read_goes_by_its_metadata_once_no_run_uses_it() {
        let fixture = Fixture::installed().await;
        let script = fixture.file("run.sh");
        let run = json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": {"name": "backup", "namespace": "team-a"},
            "spec": {"extensionRef": {"name": "probe"}}, "status": {"phase": "Running", "attempts": [{}]},
        });
        fixture.api.put(RUN, run);
        fixture.api.change(EXTENSION, |object| object["spec"]["source"] = 1.into());
        let (api, context) = (fixture.api.clone(), Arc::new(fixture.context));
        let look = async || {
            let guard: Guard = serde_json::from_value(api.get(EXTENSION).unwrap()).unwrap();
            assert!(guard.0.is_err());
            reconcile_guarded(Arc::new(guard), context.clone()).await.unwrap()
        };
        assert_eq!(look().await, Action::await_change());
        api.change(EXTENSION, |object| object["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z".into());
        let before = api.get(EXTENSION).unwrap();
        assert_ne!(look().await, Action::await_change(), "it waits for the run");
        assert!(script.exists());
        assert_eq!(api.get(EXTENSION).unwrap(), before);
        api.change(RUN, |run| run["status"]["phase"] = "Succeeded".into());
        look().await;
        assert!(!script.exists());
        assert_eq!(api.get(EXTENSION).unwrap()["metadata"]["finalizers"], json!([]));
    }
}
