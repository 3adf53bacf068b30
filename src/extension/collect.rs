//! Removes trees that nothing uses, slowly: a Lease does not fence a file system, so what is unused is first moved to
//! trash, kept there longer than a lease plus the longest write, and only then deleted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use super::context::Context;
use super::usage::{each, kept_by_extension, pinned_by_run};
use crate::api::{ActionRun, MANAGED_BY_LABEL, MANAGER, OrchestratorExtension, TREE_ANNOTATION};
use crate::digest::Digest;
use crate::store::{Collected, Used};

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
    let used = used(&context.client, &context.namespace).await?;
    let store = context.store.clone();
    Ok(tokio::task::spawn_blocking(move || store.get()?.collect(&used, SystemTime::now(), GRACE)).await??)
}

/// The trees and manifests that something uses, asked of the API and not of a cache: kept revisions, unfinished runs,
/// living pods in the operator's `namespace`.
async fn used(client: &Client, namespace: &str) -> Result<Used, kube::Error> {
    let mut used = Used::default();
    each::<OrchestratorExtension>(client, |extension| used.kept.extend(kept_by_extension(extension))).await?;
    each::<ActionRun>(client, |run| used.mounted.extend(pinned_by_run(run))).await?;
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    for pod in Api::<Pod>::namespaced(client.clone(), namespace).list_metadata(&ours).await? {
        let tree = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(TREE_ANNOTATION));
        used.mounted.extend(tree.and_then(|tree| tree.parse::<Digest>().ok()));
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fake_api::FakeApi;

    const EXTENSIONS: &str = "/apis/outrigger.dev/v1alpha1/orchestratorextensions";
    const RUN: &str = "/apis/outrigger.dev/v1alpha1/namespaces/a/actionruns";
    const POD: &str = "/api/v1/namespaces/outrigger-system/pods/backup";

    fn extension(api: &FakeApi, name: &str, status: Value) {
        let object = json!({"metadata": {"name": name}, "spec": {"revisionHistoryLimit": 0}, "status": status});
        api.put(&format!("{EXTENSIONS}/{name}"), object);
    }

    fn run(api: &FakeApi, name: &str, phase: &str, tree: Digest) {
        let status = json!({"phase": phase, "revision": {"treeDigest": tree}, "result": {"large": "x"}});
        api.put(&format!("{RUN}/{name}"), json!({"metadata": {"name": name, "namespace": "a"}, "status": status}));
    }

    fn pod(tree: Digest) -> Value {
        json!({"metadata": {"name": "backup", "annotations": {TREE_ANNOTATION: tree}}})
    }

    async fn asked(api: &FakeApi) -> Used {
        used(&api.client(), "outrigger-system").await.unwrap()
    }

    #[tokio::test]
    async fn a_tree_is_used_until_the_pod_of_its_last_run_is_gone() {
        let (api, tree) = (FakeApi::default(), Digest::of("tree"));
        let mounted = || Used { mounted: [tree].into(), ..Used::default() };
        run(&api, "backup", "Running", tree);
        assert_eq!(asked(&api).await, mounted());
        run(&api, "backup", "Succeeded", tree);
        api.put(POD, pod(tree));
        assert_eq!(asked(&api).await, mounted(), "the run has ended, its pod has not");
        api.remove(POD);
        assert_eq!(asked(&api).await, Used::default());
    }

    #[tokio::test]
    async fn what_status_names_is_kept_and_nothing_else() {
        let api = FakeApi::default();
        let [tree, manifest, old] = ["tree", "manifest", "old"].map(Digest::of);
        let artifact = json!({"treeDigest": tree, "manifestDigest": manifest});
        extension(&api, "x", json!({"artifact": artifact, "history": [{"treeDigest": old}]}));
        assert_eq!(asked(&api).await.kept, [tree, manifest, old].into());
        // what a revisionHistoryLimit of 0 comes to
        extension(&api, "x", json!({"artifact": artifact}));
        assert_eq!(asked(&api).await.kept, [tree, manifest].into());
        extension(&api, "broken", json!("nonsense"));
        assert_eq!(asked(&api).await.kept, [tree, manifest].into());
    }

    #[tokio::test]
    async fn what_the_last_page_names_is_used() {
        let api = FakeApi::default();
        let trees: Vec<Digest> = (0..501).map(|number| Digest::of(format!("{number}"))).collect();
        for (number, tree) in trees.iter().enumerate() {
            extension(&api, &format!("x-{number}"), json!({"artifact": {"treeDigest": tree}}));
            run(&api, &format!("r-{number}"), "Pending", *tree);
        }
        let used = asked(&api).await;
        assert_eq!((used.kept.len(), used.mounted.len()), (501, 501));
        let pages = |path: &str| api.log().iter().filter(|line| line.ends_with(path)).count();
        assert_eq!((pages("/orchestratorextensions"), pages("/actionruns")), (2, 11));
    }

    #[tokio::test]
    async fn nothing_is_collected_while_the_api_does_not_say_what_is_used() {
        let api = FakeApi::default();
        api.before(|_, _, path| path.ends_with("/pods").then_some(axum::http::StatusCode::INTERNAL_SERVER_ERROR));
        assert!(used(&api.client(), "outrigger-system").await.is_err());
    }
}
