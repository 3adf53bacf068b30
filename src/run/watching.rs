//! What is watched: the caches, what fills them, and which runs an event makes worth a look.

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

use super::context::Caches;
use super::decide::phase;
use super::job::{RUN_NAME_ANNOTATION, RUN_NAMESPACE_ANNOTATION};
use super::kept;
use crate::api::{ActionRun, MANAGED_BY_LABEL, MANAGER, RUN_UID_LABEL};

/// A run as the watch gives it: one that cannot be read is no reason to stop.
pub(super) type Guard = DeserializeGuard<ActionRun>;

/// A stream of runs to look at.
pub type Triggers = BoxStream<'static, Result<ObjectRef<Guard>, watcher::Error>>;

/// The caches, and what fills them and says which runs to look at. Nothing is watched before the stream is polled.
///
/// # Access
/// `list` and `watch` on runs, extensions and targets, and on Jobs and pods of the operator's namespace.
pub fn watches(client: &Client, namespace: &str) -> (Caches, Triggers) {
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER},{RUN_UID_LABEL}"));
    let everything = watcher::Config::default();
    // A run may have 160 KiB, and a page of them is in memory before they are cut.
    let few = everything.clone().page_size(50);
    let (runs, run_stream) = watch(Api::<Guard>::all(client.clone()), few, kept::run);
    let (jobs, job_stream) = watch(Api::<Job>::namespaced(client.clone(), namespace), ours.clone(), kept::object);
    let (pods, pod_stream) = watch(Api::<Pod>::namespaced(client.clone(), namespace), ours, kept::object);
    let (extensions, extension_stream) = watch(Api::all(client.clone()), everything.clone(), kept::object);
    let (targets, target_stream) = watch(Api::all(client.clone()), everything, kept::object);
    let caches = Caches { runs: runs.clone(), extensions, targets, jobs, pods };
    let waiting = runs.clone();
    let of_extension = move |extension: DeserializeGuard<crate::api::OrchestratorExtension>| {
        let name = extension.name_any();
        stream::iter(unfinished(&waiting, |run| run.spec.extension_ref.name == name).into_iter().map(Ok))
    };
    let of_target = move |target: DeserializeGuard<crate::api::ExtensionTarget>| {
        let name = target.name_any();
        let refers = |run: &ActionRun| run.spec.target_ref.as_ref().is_some_and(|target| target.name == name);
        stream::iter(unfinished(&runs, refers).into_iter().map(Ok))
    };
    let triggers = stream::select_all([
        run_stream.map_ok(|run| ObjectRef::from_obj(&run)).boxed(),
        job_stream.try_filter_map(|job: Job| async move { Ok(run_of(&job.metadata)) }).boxed(),
        pod_stream.try_filter_map(|pod: Pod| async move { Ok(run_of(&pod.metadata)) }).boxed(),
        extension_stream.map_ok(of_extension).try_flatten().boxed(),
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
    let (store, writer) = reflector::store();
    (store, watcher(api, config).default_backoff().modify(cut).reflect(writer).touched_objects())
}

fn unfinished(runs: &Store<Guard>, refers: impl Fn(&ActionRun) -> bool) -> Vec<ObjectRef<Guard>> {
    let is_wanted = |run: &Guard| run.0.as_ref().is_ok_and(|run| !phase(run).is_finished() && refers(run));
    runs.state_filter(is_wanted).iter().map(|run| ObjectRef::from_obj(run.as_ref())).collect()
}

/// The run that a Job or pod belongs to.
fn run_of(metadata: &ObjectMeta) -> Option<ObjectRef<Guard>> {
    let annotation = |key: &str| metadata.annotations.as_ref()?.get(key);
    Some(ObjectRef::new(annotation(RUN_NAME_ANNOTATION)?).within(annotation(RUN_NAMESPACE_ANNOTATION)?))
}
