//! What is watched: the caches, what fills them, and which runs an event makes worth a look.

use std::collections::HashMap;
use std::sync::Arc;

use futures::channel::mpsc::UnboundedReceiver;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};

use super::caches::Caches;
use super::decide::phase;
use super::gone::Gone;
use super::job::{RUN_NAME_ANNOTATION, RUN_NAMESPACE_ANNOTATION};
use super::kept;
use crate::api::conditions::{INSTALLED, READY, find};
use crate::api::{ActionRun, ExtensionTarget, MANAGED_BY_LABEL, MANAGER, OrchestratorExtension, RUN_UID_LABEL};
use crate::digest::Digest;

/// A run as the watch gives it: one that cannot be read is no reason to stop.
pub(super) type Guard = DeserializeGuard<ActionRun>;

/// One event of a watch.
type Told<K> = Result<watcher::Event<K>, watcher::Error>;

/// A stream of runs to look at.
pub type Triggers = BoxStream<'static, Result<ObjectRef<Guard>, watcher::Error>>;

/// The cache of all extensions, and each one that was applied or deleted; the cache knows first.
pub type Extensions = (Store<Extension>, UnboundedReceiver<ObjectRef<Extension>>);

type Extension = DeserializeGuard<OrchestratorExtension>;

/// The caches, and what fills them and says which runs to look at. Nothing is watched before the stream is polled.
///
/// # Access
/// `list` and `watch` on runs and targets, and on Jobs and pods of the operator's namespace.
pub fn watches(client: &Client, namespace: &str, (extensions, touched): Extensions) -> (Caches, Triggers) {
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER},{RUN_UID_LABEL}"));
    let everything = watcher::Config::default();
    // A run may have 160 KiB, and a page of them is in memory before they are cut.
    let few = everything.clone().page_size(50);
    let (runs, run_stream) = watch(Api::<Guard>::all(client.clone()), few, kept::run);
    let (jobs, job_stream) = watch(Api::<Job>::namespaced(client.clone(), namespace), ours.clone(), kept::object);
    let pods_at_api = watcher(Api::<Pod>::namespaced(client.clone(), namespace), ours).default_backoff();
    let gone = Arc::<Gone>::default();
    let (pods, pod_stream) = cached(noting_gone(pods_at_api, gone.clone()), kept::object);
    let (targets, target_stream) = watch(Api::all(client.clone()), everything, kept::object);
    let caches = Caches { runs: runs.clone(), extensions, targets, jobs, pods, gone };
    let waiting = runs.clone();
    let (mut seen, present) = (Seen::default(), caches.extensions.clone());
    let of_extension = move |touched: ObjectRef<Extension>| {
        let (name, extension) = (&touched.name, present.get(&touched));
        let is_wanted = |run: &ActionRun| run.spec.extension_ref.name == *name;
        let facts = extension.as_ref().and_then(|extension| extension.0.as_ref().ok()).map(facts_of_extension);
        let is_news = seen.is_news(name, facts);
        let runs = if is_news { unfinished(&waiting, is_wanted) } else { Vec::new() };
        stream::iter(runs.into_iter().map(Ok))
    };
    let (mut seen, present) = (Seen::default(), caches.targets.clone());
    let of_target = move |target: DeserializeGuard<ExtensionTarget>| {
        let name = target.name_any();
        let is_there = present.get(&ObjectRef::from_obj(&target)).is_some();
        let refers = |run: &ActionRun| run.spec.target_ref.as_ref().is_some_and(|target| target.name == name);
        let is_news = seen.is_news(&name, target.0.as_ref().ok().filter(|_| is_there).map(facts_of_target));
        let runs = if is_news { unfinished(&runs, refers) } else { Vec::new() };
        stream::iter(runs.into_iter().map(Ok))
    };
    let triggers = stream::select_all([
        run_stream.map_ok(|run| ObjectRef::from_obj(&run)).boxed(),
        job_stream.try_filter_map(|job: Job| async move { Ok(run_of(&job.metadata)) }).boxed(),
        pod_stream.try_filter_map(|pod: Pod| async move { Ok(run_of(&pod.metadata)) }).boxed(),
        touched.map(of_extension).flatten().boxed(),
        target_stream.map_ok(of_target).try_flatten().boxed(),
    ]);
    (caches, triggers.boxed())
}

fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    cut: fn(&mut K),
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    cached(watcher(api, config).default_backoff(), cut)
}

/// A cache of what `events` tell, and the objects that they are about.
fn cached<K>(
    events: impl Stream<Item = Told<K>> + Send,
    cut: fn(&mut K),
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    (store, events.modify(cut).reflect(writer).touched_objects())
}

/// The same events; before a cache forgets a pod, `gone` remembers it.
fn noting_gone(events: impl Stream<Item = Told<Pod>> + Send, gone: Arc<Gone>) -> impl Stream<Item = Told<Pod>> + Send {
    events.inspect_ok(move |event| {
        if let watcher::Event::Delete(pod) = event {
            gone.note(pod);
        }
    })
}

fn unfinished(runs: &Store<Guard>, refers: impl Fn(&ActionRun) -> bool) -> Vec<ObjectRef<Guard>> {
    let is_wanted = |run: &Guard| run.0.as_ref().is_ok_and(|run| !phase(run).is_finished() && refers(run));
    runs.state_filter(is_wanted).iter().map(|run| ObjectRef::from_obj(run.as_ref())).collect()
}

/// What was last seen of each extension or target, as far as runs depend on it: its status is written far more often than
/// that changes, and each time all its runs would be looked at.
#[derive(Default)]
struct Seen(HashMap<String, Digest>);

/// What runs depend on, serialised.
type Facts = serde_json::Result<Vec<u8>>;

impl Seen {
    /// Whether something changed that runs depend on. No `facts`: it was deleted, or cannot be read.
    fn is_news(&mut self, name: &str, facts: Option<Facts>) -> bool {
        let Some(Ok(facts)) = facts else {
            self.0.remove(name);
            return true;
        };
        let digest = Digest::of(facts);
        self.0.insert(name.to_owned(), digest).is_none_or(|last| last != digest)
    }
}

fn facts_of_extension(extension: &OrchestratorExtension) -> Facts {
    let status = extension.status.as_ref();
    let condition = |kind: &str| {
        let found = status.and_then(|status| find(&status.conditions, kind));
        found.map(|condition| (&condition.status, &condition.message))
    };
    let artifact = status.and_then(|status| status.artifact.as_ref());
    let resolved = status.and_then(|status| status.resolved.as_ref());
    // A run that waits for the installation says what Ready says.
    let ready = condition(READY).filter(|_| artifact.is_none() || resolved.is_none());
    serde_json::to_vec(&(
        (&extension.metadata.uid, &extension.metadata.deletion_timestamp, &extension.spec),
        artifact.map(|artifact| (&artifact.tree_digest, &artifact.manifest_digest)),
        resolved,
        (condition(INSTALLED), ready),
    ))
}

/// What runs found out about a target decides nothing about another: it is read when that is claimed.
fn facts_of_target(target: &ExtensionTarget) -> Facts {
    serde_json::to_vec(&(&target.metadata.uid, &target.metadata.deletion_timestamp, &target.spec))
}

/// The run that a Job or pod belongs to.
fn run_of(metadata: &ObjectMeta) -> Option<ObjectRef<Guard>> {
    let annotation = |key: &str| metadata.annotations.as_ref()?.get(key);
    Some(ObjectRef::new(annotation(RUN_NAME_ANNOTATION)?).within(annotation(RUN_NAMESPACE_ANNOTATION)?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture;
    use super::*;

    fn is_news(seen: &mut Seen, extension: &Value) -> bool {
        let extension: OrchestratorExtension = serde_json::from_value(extension.clone()).unwrap();
        seen.is_news(&extension.name_any(), Some(facts_of_extension(&extension)))
    }

    fn condition(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-11-23T10:00:00Z"})
    }

    #[tokio::test]
    async fn a_pod_that_the_cache_forgets_is_remembered_as_it_was_last() {
        let pod =
            |phase: &str| -> Pod { serde_json::from_value(fixture::pod("p1", 1, json!({"phase": phase}))).unwrap() };
        let events = [
            watcher::Event::Init,
            watcher::Event::InitApply(pod("Running")),
            watcher::Event::InitDone,
            watcher::Event::Delete(pod("Failed")),
        ];
        let gone = Arc::<Gone>::default();
        let (store, touched) = cached(noting_gone(stream::iter(events.map(Ok)), gone.clone()), kept::object);
        assert_eq!(touched.try_collect::<Vec<_>>().await.unwrap().len(), 2);
        assert!(store.state().is_empty());
        assert_eq!(gone.last_seen("p1").unwrap().status.as_ref().unwrap().phase.as_deref(), Some("Failed"));
    }

    #[test]
    fn what_runs_do_not_depend_on_is_no_news() {
        let (mut seen, mut extension) = (Seen::default(), fixture::extension());
        assert!(is_news(&mut seen, &extension));
        assert!(!is_news(&mut seen, &extension));
        extension["metadata"]["labels"] = json!({"a": "b"});
        extension["metadata"]["resourceVersion"] = json!("7");
        extension["status"]["observedGeneration"] = json!(3);
        extension["status"]["conditions"] = json!([condition("Ready", "False", "fetching failed")]);
        extension["status"]["artifact"]["lastUpdateTime"] = json!("2026-11-23T11:00:00Z");
        assert!(!is_news(&mut seen, &extension));
    }

    #[test]
    fn what_runs_depend_on_is_news_once() {
        let not_installed = json!([condition("Installed", "False", "the tree is damaged")]);
        for (path, value) in [
            ("/metadata/uid", json!("another")),
            ("/metadata/deletionTimestamp", json!("2026-11-23T10:00:00Z")),
            ("/spec/runtime", json!({"maxConcurrentRuns": 2})),
            ("/status/artifact/treeDigest", json!("sha256:0")),
            ("/status/artifact/manifestDigest", json!("sha256:0")),
            ("/status/resolved/description", json!("another")),
            ("/status/artifact", Value::Null),
            ("/status/conditions", not_installed),
        ] {
            let (mut seen, mut extension) = (Seen::default(), fixture::extension());
            is_news(&mut seen, &extension);
            let (parent, key) = path.rsplit_once('/').unwrap();
            extension.pointer_mut(parent).unwrap()[key] = value;
            assert!(is_news(&mut seen, &extension), "{path}");
            assert!(!is_news(&mut seen, &extension), "{path}");
        }
    }

    #[test]
    fn why_an_extension_is_not_installed_yet_is_news() {
        let (mut seen, mut extension) = (Seen::default(), fixture::extension());
        extension["status"] = json!({"conditions": [condition("Ready", "False", "fetching failed")]});
        is_news(&mut seen, &extension);
        extension["status"] = json!({"conditions": [condition("Ready", "False", "the manifest is broken")]});
        assert!(is_news(&mut seen, &extension));
    }

    #[test]
    fn a_deletion_is_news_and_so_is_what_comes_after_it() {
        let (mut seen, extension) = (Seen::default(), fixture::extension());
        is_news(&mut seen, &extension);
        assert!(seen.is_news("redfish", None));
        assert!(is_news(&mut seen, &extension));
    }

    #[test]
    fn what_a_run_finds_out_about_its_target_is_no_news_for_others() {
        let mut seen = Seen::default();
        let mut is_news = |target: &Value| {
            let target: ExtensionTarget = serde_json::from_value(target.clone()).unwrap();
            seen.is_news(&target.name_any(), Some(facts_of_target(&target)))
        };
        let mut target = fixture::target();
        assert!(is_news(&target));
        target["metadata"]["resourceVersion"] = json!("7");
        target["status"] = json!({"powerState": "PowerOn", "lastRun": "team-a/backup"});
        target["status"]["powerStateTime"] = json!("2026-11-23T10:00:00.000000Z");
        assert!(!is_news(&target));
        target["status"]["powerState"] = json!("PowerOff");
        target["status"]["lastRun"] = json!("team-a/other");
        target["status"]["details"] = json!({"disk": "sda"});
        assert!(!is_news(&target));
        for (path, value) in [
            ("/spec/allowedNamespaces", json!({"names": ["team-b"]})),
            ("/metadata/uid", json!("another")),
            ("/metadata/deletionTimestamp", json!("2026-11-23T10:00:00Z")),
        ] {
            let (parent, key) = path.rsplit_once('/').unwrap();
            target.pointer_mut(parent).unwrap()[key] = value;
            assert!(is_news(&target), "{path}");
            assert!(!is_news(&target), "{path}");
        }
    }
}
