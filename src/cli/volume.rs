//! What the leader does with the volume before anything asks for it, and what runs read from it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::oneshot;

use crate::digest::Digest;
use crate::run;
use crate::store::layout::{runner_subpath, tree_subpath};
use crate::store::{InstalledRunner, LazyStore, Outputs, RelativePath, Store, StoreError};

/// The longest pause between tries to open a store that cannot be opened.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Who this operator is, on the volume: its namespace, in the cluster that the UID of `kube-system` tells from others.
///
/// # Access
/// `get` on namespaces.
pub async fn owner(client: &Client, namespace: &str) -> anyhow::Result<String> {
    let system = Api::<Namespace>::all(client.clone()).get_metadata("kube-system").await;
    let system = system.context("reading the UID of namespace kube-system, which tells this cluster from others")?;
    Ok(format!("namespace {namespace} of cluster {}", system.uid().unwrap_or_default()))
}

/// Opens the store and what is kept beside it, however long that takes, and tells when the first try has ended. What needs it
/// meanwhile tries for itself, and says why it cannot.
pub async fn open(store: Arc<LazyStore>, outputs: Outputs, tell_tried: oneshot::Sender<()>) {
    let mut tell_tried = Some(tell_tried);
    let mut pause = Duration::from_secs(1);
    loop {
        let (opening, preparing) = (store.clone(), outputs.clone());
        let opened = tokio::task::spawn_blocking(move || -> Result<_, StoreError> {
            let swept = opening.open().cloned()?;
            preparing.prepare()?;
            Ok(swept)
        });
        let opened = opened.await;
        if let Some(tell_tried) = tell_tried.take() {
            let _ = tell_tried.send(());
        }
        match opened {
            Ok(Ok(swept)) => return tracing::info!(?swept, "the store is open"),
            Ok(Err(error)) => tracing::error!(%error, "the store cannot be opened; trying again"),
            Err(error) => tracing::error!(%error, "opening the store was interrupted; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The store, as runs see it: trees, and the runner, which is published before the first Job needs it.
pub struct InstalledTrees {
    store: Arc<LazyStore>,
    runner: PathBuf,
    installed: Mutex<Option<InstalledRunner>>,
}

impl InstalledTrees {
    /// Trees of `store`, and the `runner` to publish.
    pub fn new(store: Arc<LazyStore>, runner: PathBuf) -> Self {
        Self { store, runner, installed: Mutex::default() }
    }

    /// Publishes the runner unless the one that was published last is still there, unchanged.
    fn publish_runner(&self, store: &Store) -> Result<(), StoreError> {
        let mut installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = installed.as_ref().map_or(Ok(false), |runner| store.has_runner(runner))?;
        if !is_there {
            *installed = Some(store.install_runner(&self.runner)?);
        }
        Ok(())
    }
}

/// Where Jobs will find the runner on the volume.
pub fn subpath_of_runner(runner: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(runner).with_context(|| format!("opening {}", runner.display()))?;
    let (digest, _) = Digest::of_reader(file).with_context(|| format!("reading {}", runner.display()))?;
    Ok(runner_subpath(&digest))
}

impl run::Trees for InstalledTrees {
    fn entrypoint_digest(&self, tree: &Digest, path: &str) -> Result<Digest, String> {
        let path = RelativePath::parse(path).map_err(|fault| fault.to_string())?;
        let store = self.store.get().map_err(|error| error.to_string())?;
        let found = store.entrypoint_digest(tree, &path).map_err(|error| error.to_string())?;
        self.publish_runner(store).map_err(|error| error.to_string())?;
        found.ok_or_else(|| format!("tree {tree} has no file {:?}", path.as_str()))
    }

    fn subpath(&self, tree: &Digest) -> String {
        tree_subpath(tree)
    }

    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let store = self.store.get().map_err(|error| error.to_string())?;
        let kept = store.manifest(digest).map_err(|error| error.to_string())?;
        kept.ok_or_else(|| format!("manifest {digest} is not kept"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::fake_api::FakeApi;
    use crate::run::Trees as _;

    #[tokio::test]
    async fn an_operator_is_named_by_its_namespace_and_cluster() {
        let api = FakeApi::default();
        let error = owner(&api.client(), "outrigger-system").await.unwrap_err();
        assert_eq!(error.to_string(), "reading the UID of namespace kube-system, which tells this cluster from others");
        let system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "7d"}});
        api.put("/api/v1/namespaces/kube-system", system);
        let owner = owner(&api.client(), "outrigger-system").await.unwrap();
        assert_eq!(owner, "namespace outrigger-system of cluster 7d");
    }

    #[tokio::test]
    async fn a_first_try_that_fails_is_told_too_so_that_looks_begin() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(LazyStore::new(&directory.path().join("away"), None, || true));
        let (tell_tried, tried) = oneshot::channel();
        let opening = open(store.clone(), Outputs::beside(store.clone()), tell_tried);
        tokio::select! {
            () = opening => panic!("there is no volume"),
            tried = tried => tried.unwrap(),
        }
    }

    #[test]
    fn a_runner_that_was_damaged_or_removed_is_there_again_before_the_next_job() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        fs::create_dir(&root).unwrap();
        let built = directory.path().join("built");
        fs::write(&built, "ELF").unwrap();
        let store = Arc::new(LazyStore::new(&root, None, || true));
        let staging = store.get().unwrap().stage().unwrap();
        fs::write(staging.path().join("run"), "go").unwrap();
        let tree = store.get().unwrap().publish(staging, None).unwrap().digest;
        let trees = InstalledTrees::new(store, built.clone());
        let binary = root.join(subpath_of_runner(&built).unwrap()).join("outrigger-runner");
        let open = |mode: u32| {
            fs::set_permissions(binary.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
            fs::set_permissions(&binary, fs::Permissions::from_mode(mode)).unwrap();
        };
        let damages: [&dyn Fn(); 4] = [
            &|| {},
            &|| {
                open(0o755);
                fs::write(&binary, "evi").unwrap();
            },
            &|| open(0o444),
            &|| {
                open(0o755);
                fs::remove_file(&binary).unwrap();
            },
        ];
        for damage in damages {
            trees.entrypoint_digest(&tree, "run").unwrap();
            damage();
            trees.entrypoint_digest(&tree, "run").unwrap();
            assert_eq!(fs::read_to_string(&binary).unwrap(), "ELF");
            assert_eq!(fs::metadata(&binary).unwrap().permissions().mode() & 0o777, 0o555);
        }
    }
}
