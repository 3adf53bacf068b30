//! What the leader does with the volume before anything asks for it, and what runs read from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::digest::Digest;
use crate::run;
use crate::store::layout::{runner_subpath, tree_subpath};
use crate::store::{LazyStore, Outputs, RelativePath, StoreError};

/// The longest pause between tries to open a store that cannot be opened.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Opens the store and what is kept beside it, however long that takes. What needs it meanwhile tries for itself, and
/// says why it cannot.
pub async fn open(store: Arc<LazyStore>, outputs: Outputs) {
    let mut pause = Duration::from_secs(1);
    loop {
        let (opening, preparing) = (store.clone(), outputs.clone());
        let opened = tokio::task::spawn_blocking(move || -> Result<_, StoreError> {
            let swept = opening.open().cloned()?;
            preparing.prepare()?;
            Ok(swept)
        });
        match opened.await {
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
    has_runner: AtomicBool,
}

impl InstalledTrees {
    /// Trees of `store`, and the `runner` to publish.
    pub fn new(store: Arc<LazyStore>, runner: PathBuf) -> Self {
        Self { store, runner, has_runner: AtomicBool::new(false) }
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
        if !self.has_runner.load(Ordering::SeqCst) {
            store.install_runner(&self.runner).map_err(|error| error.to_string())?;
            self.has_runner.store(true, Ordering::SeqCst);
        }
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
