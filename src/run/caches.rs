//! Caches of everything that a run depends on.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;

use super::gone::Gone;
use crate::api::{ActionRun, ExtensionTarget, OrchestratorExtension};

/// How long a cache may take to show what was just written: after that it was not.
pub(super) const CACHE_LAG: Duration = Duration::from_secs(10);

/// Caches of everything that a run depends on. Filled by [`watches`](super::watching::watches).
#[derive(Clone)]
pub struct Caches {
    /// All runs.
    pub runs: Store<DeserializeGuard<ActionRun>>,
    /// All extensions.
    pub extensions: Store<DeserializeGuard<OrchestratorExtension>>,
    /// All targets.
    pub targets: Store<DeserializeGuard<ExtensionTarget>>,
    /// The operator's Jobs.
    pub jobs: Store<Job>,
    /// The operator's pods.
    pub pods: Store<Pod>,
    /// Those that are gone.
    pub gone: Arc<Gone>,
}

impl Caches {
    /// Whether every cache holds what the API held when its watch began. An empty cache looks like missing extensions,
    /// and like pods that are gone.
    pub fn are_filled(&self) -> bool {
        use futures::FutureExt as _;
        fn is_filled<K>(cache: &Store<K>) -> bool
        where
            K: kube::runtime::reflector::Lookup + Clone + 'static,
            K::DynamicType: Eq + std::hash::Hash + Clone,
        {
            cache.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok())
        }
        is_filled(&self.runs)
            && is_filled(&self.extensions)
            && is_filled(&self.targets)
            && is_filled(&self.jobs)
            && is_filled(&self.pods)
    }

    /// Waits until every cache is filled. A cache wakes one of those that wait for it, so it is asked again and again.
    pub async fn wait_until_filled(&self) {
        while !self.are_filled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
