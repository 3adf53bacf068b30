//! The volume: its directories, and handles on them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::error::StoreError;
use super::layout::{EXTENSIONS, RUNNER, STAGING, STORE, TRASH};
use super::syncer::Group;
use super::{probe, tree};
use crate::archive::beneath;

/// The store on one volume. Its clones are the same store. All calls block on the disk.
///
/// One process at a time may write to a volume: the leader. Within it calls may come from any thread.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    writing: Mutex<()>,
    observer: Observer,
    /// Who waits for the disk together; made anew where another disk was mounted.
    syncing: Mutex<Option<Arc<Group>>>,
}

/// Told before each step that changes what is on the volume; an error makes the step fail. Only tests have another than
/// the one that does nothing.
pub(super) type Observer = Box<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The steps that change what is on the volume, between which a crash may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Seal,
    WriteMarker,
    WriteListing,
    SyncTree,
    MoveDriftedToTrash,
    RenameListing,
    RenameTree,
    SealRoot,
    SyncStore,
    MakeLink,
    RenameLink,
    SyncLink,
    RemoveLink,
    RenameRunner,
    WriteManifest,
    MoveManifestToTrash,
    MoveToTrash,
    RemoveListing,
    EmptyTrash,
}

/// An open directory and its path for messages.
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

impl Store {
    /// Open the store on the volume mounted at `root`: create the directories that are missing, and try out all that the
    /// store is built on (symbolic links, atomic rename, execute bits, syncing a directory).
    ///
    /// # Errors
    /// What the volume lacks, with what to do about it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self::with(root, Box::new(|_| Ok(())));
        let top = beneath::open_root(root).map_err(|error| StoreError::io("open volume", root, error))?;
        create_directory(&top, EXTENSIONS, 0o755, root)?;
        let extensions = store.extensions()?;
        for (name, mode) in [(STORE, 0o755), (RUNNER, 0o755), (STAGING, 0o700), (TRASH, 0o700)] {
            create_directory(&extensions.fd, name, mode, &extensions.path)?;
        }
        extensions.sync()?;
        probe::probe(&store.directory(STAGING)?)?;
        Ok(store)
    }

    fn with(root: &Path, observer: Observer) -> Self {
        let (writing, syncing) = (Mutex::new(()), Mutex::new(None));
        Self { inner: Arc::new(Inner { root: root.to_owned(), writing, observer, syncing }) }
    }

    /// The path at which the volume is mounted.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The directory of extensions.
    pub(super) fn extensions(&self) -> Result<Directory, StoreError> {
        self.open_path(EXTENSIONS)
    }

    /// One of the store's own directories.
    pub(super) fn directory(&self, name: &str) -> Result<Directory, StoreError> {
        self.open_path(&format!("{EXTENSIONS}/{name}"))
    }

    /// Directories are opened anew for each call, so that a volume that was mounted again is found again.
    fn open_path(&self, path: &str) -> Result<Directory, StoreError> {
        let shown = self.inner.root.join(path);
        let opened = beneath::open_root(&self.inner.root).and_then(|root| beneath::open_directory(root, Some(path)));
        match opened {
            Ok(fd) => Ok(Directory { fd, path: shown }),
            // These were there when the store was opened.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Vanished { doing: format!("open {}", shown.display()), source })
            }
            Err(error) => Err(StoreError::io("open", shown, error)),
        }
    }

    /// Keep other threads from changing trees and links.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who wait for the disk of `directory`; `None` where everyone must sync for himself.
    pub(super) fn syncing(&self, directory: &Directory) -> Result<Option<Arc<Group>>, StoreError> {
        let failed = |error| StoreError::io("read", &directory.path, error);
        let mut syncing = self.inner.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = syncing.as_ref()
            && group.is_of(&directory.fd).map_err(failed)?
        {
            return Ok(Some(group.clone()));
        }
        *syncing = Group::of(&directory.fd).map_err(failed)?.map(Arc::new);
        Ok(syncing.clone())
    }

    /// Say that `step` comes next.
    pub(super) fn step(&self, step: Step) -> Result<(), StoreError> {
        (self.inner.observer)(step).map_err(|error| StoreError::io("do", format!("{step:?}"), error))
    }

    /// A store on an opened volume that tells `observer` of each step.
    #[cfg(test)]
    pub(super) fn observed(root: &Path, observer: Observer) -> Self {
        Self::with(root, observer)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.inner.root).finish_non_exhaustive()
    }
}

impl Directory {
    /// Write the names in it to disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        tree::sync_directory(&self.fd).map_err(|error| StoreError::io("sync", &self.path, error))
    }

    /// Rename `from` in this directory to `name` in `to`, where nothing may be yet.
    pub(super) fn rename_new(&self, from: &str, to: &Self, name: &str) -> Result<(), StoreError> {
        let renamed = match rustix::fs::renameat_with(&self.fd, from, &to.fd, name, RenameFlags::NOREPLACE) {
            // File systems without the flag (NFS): a directory that is not empty is not replaced there either.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&self.fd, from, &to.fd, name),
            renamed => renamed,
        };
        renamed.map_err(|error| StoreError::io("rename to", to.path.join(name), error.into()))
    }

    /// Rename `from` in this directory to `name` in `to`, in place of what is there.
    pub(super) fn rename_over(&self, from: &str, to: &Self, name: &str) -> Result<(), StoreError> {
        rustix::fs::renameat(&self.fd, from, &to.fd, name)
            .map_err(|error| StoreError::io("rename to", to.path.join(name), error.into()))
    }

    /// Open the directory `name` in this one; `None` if there is nothing of that name.
    pub(super) fn open(&self, name: &str) -> Result<Option<Self>, StoreError> {
        match beneath::open_directory(&self.fd, Some(name)) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path.join(name) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", self.path.join(name), error)),
        }
    }

    /// The names in it that are UTF-8, sorted. Others are nobody's business here.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let names = beneath::names(&self.fd).map_err(|error| StoreError::io("list", &self.path, error))?;
        let mut names: Vec<String> = names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// Create the directory `name` in `parent` with this mode, unless it is there.
fn create_directory(parent: &OwnedFd, name: &str, mode: u32, shown: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::io("create directory", shown.join(name), error);
    if beneath::stat(parent, name.as_bytes()).map_err(failed)?.is_some() {
        return Ok(());
    }
    beneath::create_directory(parent, name).map_err(failed)?;
    let made = beneath::open_directory(parent, Some(name)).map_err(failed)?;
    tree::set_mode(&made, mode).map_err(failed)
}

/// A name that nothing has yet.
pub(super) fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::io("draw", "a random name", io::Error::other(error.to_string())))?;
    Ok(crate::digest::hex(&bytes))
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
