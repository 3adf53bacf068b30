//! Watches extensions and reconciles each, one at a time for each extension.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::utils::Predicate as _;
use kube::runtime::{Controller, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Resource as _};

use super::context::Context;
use super::reconcile::reconcile;
use crate::api::OrchestratorExtension;

/// Runs until `shutdown` resolves and the reconciles under way have ended.
///
/// Only changes of spec, annotations and finalizers count, so that the controller's own status writes do not wake it.
/// A resource that cannot be read is logged and passed over: it must not hold up the others.
pub async fn run(context: Arc<Context>, concurrency: u16, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let api = Api::<DeserializeGuard<OrchestratorExtension>>::all(context.client.clone());
    let (reader, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|guarded| {
            if let Ok(extension) = &mut guarded.0 {
                extension.meta_mut().managed_fields = None;
            }
        })
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
            Default::default(),
        );
    Controller::for_stream(stream, reader)
        .with_config(Config::default().concurrency(concurrency))
        .graceful_shutdown_on(shutdown)
        .run(reconcile_guarded, on_error, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "reconciling extensions");
            }
        })
        .await;
}

async fn reconcile_guarded(
    extension: Arc<DeserializeGuard<OrchestratorExtension>>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    match &extension.0 {
        Ok(extension) => reconcile(Arc::new(extension.clone()), context).await,
        Err(invalid) => {
            tracing::warn!(extension = invalid.metadata.name, error = invalid.error, "a resource cannot be read");
            Ok(Action::await_change())
        }
    }
}

fn on_error(extension: Arc<DeserializeGuard<OrchestratorExtension>>, error: &kube::Error, _: Arc<Context>) -> Action {
    tracing::warn!(extension = %ObjectRef::from_obj(extension.as_ref()), %error, "the API refused or failed a request");
    Action::requeue(Duration::from_secs(2))
}
