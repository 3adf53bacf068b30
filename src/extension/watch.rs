//! The one watch of extensions: a cache that both controllers read, and what it has to tell each of them.

use futures::channel::mpsc::{self, UnboundedReceiver};
use futures::{Stream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _};

use crate::api::OrchestratorExtension;

/// An extension as the watch gives it: one that cannot be read is no reason to stop.
pub type Guard = DeserializeGuard<OrchestratorExtension>;

/// What is known of all extensions, and what changes. What is told waits until it is heard, so both streams are to be read.
pub struct Watch {
    /// All of them, without managed fields.
    pub cache: Store<Guard>,
    /// Each one that is there, was made or was changed.
    pub applied: UnboundedReceiver<Guard>,
    /// The same, and each one that was deleted. By then the cache knows.
    pub touched: UnboundedReceiver<ObjectRef<Guard>>,
}

/// The watch, and what keeps it going; it never ends.
///
/// # Access
/// `list` and `watch` on extensions.
pub fn start(client: &Client) -> (Watch, impl Future<Output = ()> + Send + use<>) {
    told(watcher(Api::all(client.clone()), watcher::Config::default()).default_backoff())
}

fn told(events: impl Stream<Item = watcher::Result<Event<Guard>>> + Send) -> (Watch, impl Future<Output = ()> + Send) {
    let (cache, writer) = reflector::store();
    let (tell_applied, applied) = mpsc::unbounded();
    let (tell_touched, touched) = mpsc::unbounded();
    let events = events.modify(|extension| extension.meta_mut().managed_fields = None).reflect(writer);
    let watching = events.for_each(move |event| {
        // Whoever does not listen any more is about to end.
        match event {
            Ok(Event::Apply(extension) | Event::InitApply(extension)) => {
                let _ = tell_touched.unbounded_send(ObjectRef::from_obj(&extension));
                let _ = tell_applied.unbounded_send(extension);
            }
            Ok(Event::Delete(extension)) => {
                let _ = tell_touched.unbounded_send(ObjectRef::from_obj(&extension));
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::warn!(%error, "extensions cannot be watched; trying again"),
        }
        std::future::ready(())
    });
    (Watch { cache, applied, touched }, watching)
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use serde_json::{Value, json};

    use super::*;

    fn extension(name: &str, spec: &Value) -> Guard {
        serde_json::from_value(json!({
            "apiVersion": "outrigger.dev/v1alpha1",
            "kind": "OrchestratorExtension",
            "metadata": {"name": name, "managedFields": [{"manager": "kubectl"}]},
            "spec": spec,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn both_controllers_are_told_of_changes_and_one_of_deletions() {
        let [kept, deleted, unreadable] =
            [("kept", json!({})), ("deleted", json!({})), ("unreadable", json!({"source": 1}))]
                .map(|(name, spec)| extension(name, &spec));
        let events = [
            Ok(Event::Init),
            Ok(Event::InitApply(kept.clone())),
            Ok(Event::InitDone),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Apply(deleted.clone())),
            Ok(Event::Apply(unreadable)),
            Ok(Event::Delete(deleted)),
        ];
        let (watch, watching) = told(stream::iter(events));
        watching.await;
        let applied: Vec<_> = watch.applied.map(|extension| extension.meta().name.clone().unwrap()).collect().await;
        assert_eq!(applied, ["kept", "deleted", "unreadable"]);
        let touched: Vec<_> = watch.touched.map(|extension| extension.name).collect().await;
        assert_eq!(touched, ["kept", "deleted", "unreadable", "deleted"]);
        assert_eq!(watch.cache.len(), 2);
        assert!(watch.cache.get(&ObjectRef::from_obj(&kept)).unwrap().meta().managed_fields.is_none());
    }
}
