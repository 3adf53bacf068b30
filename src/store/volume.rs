//! The volume: its directories, and handles on them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::error::StoreError;
use super::layout::{EXTENSIONS, RUNNER, STAGING, STORE, TRASH};
use super::step::Step;
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
    /// Whether the names of links may not be on the disk, because that failed.
    unsynced_links: AtomicBool,
    /// What could not be removed from the staging directory when it was to be.
    leftovers: Mutex<Vec<String>>,
    /// Names in the trash that this user may not delete, which was said.
    undeletable: Mutex<BTreeSet<String>>,
    /// Those who wait for the disk together, while there are any.
    syncing: Mutex<Weak<Group>>,
}

/// Told before each step that changes what is on the volume; an error makes the step fail. Outside of tests it is the
/// [fence](Store::fenced), or does nothing.
pub(super) type Observer = Box<dyn Fn(Step) -> Result<(), StoreError> + Send + Sync>;

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
        store.make_directories()?;
        store.try_out()?;
        Ok(store)
    }

    /// The store on the volume mounted at `root`, for reading: nothing is made or tried out, and nothing can be changed.
    pub fn reading(root: &Path) -> Self {
        Self::with(root, Box::new(|step| Err(StoreError::Fenced { step: format!("{step:?}") })))
    }

    /// A store that is not opened yet, makes no step while it may not write, and stages nothing while `before_staging`
    /// fails.
    pub(super) fn fenced(
        root: &Path,
        may_write: impl Fn() -> bool + Send + Sync + 'static,
        before_staging: impl Fn() -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> Self {
        let observer: Observer = Box::new(move |step| match may_write() {
            true if step == Step::Stage => before_staging(),
            true => Ok(()),
            false => Err(StoreError::Fenced { step: format!("{step:?}") }),
        });
        Self::with(root, observer)
    }

    fn with(root: &Path, observer: Observer) -> Self {
        Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                writing: Mutex::new(()),
                observer,
                unsynced_links: AtomicBool::new(false),
                leftovers: Mutex::default(),
                undeletable: Mutex::default(),
                syncing: Mutex::default(),
            }),
        }
    }

    /// Refuse a mount on which nothing can be written or run.
    pub(super) fn check_mount(&self) -> Result<(), StoreError> {
        probe::check_mount(&self.top()?)
    }

    /// Create the directories that are missing.
    pub(super) fn make_directories(&self) -> Result<(), StoreError> {
        self.step(Step::MakeDirectories)?;
        let top = self.top()?;
        create_directory(&top.fd, EXTENSIONS, 0o755, self.root())?;
        top.sync()?;
        let extensions = self.extensions()?;
        for (name, mode) in [(STORE, 0o755), (RUNNER, 0o755), (STAGING, 0o700), (TRASH, 0o700)] {
            create_directory(&extensions.fd, name, mode, &extensions.path)?;
        }
        extensions.sync()
    }

    /// Try out all that the store is built on.
    pub(super) fn try_out(&self) -> Result<(), StoreError> {
        self.step(Step::TryOut)?;
        probe::probe(&self.directory(STAGING)?)
    }

    fn top(&self) -> Result<Directory, StoreError> {
        let root = self.root();
        let fd = beneath::open_root(root).map_err(|error| StoreError::io("open volume", root, error))?;
        Ok(Directory { fd, path: root.to_owned() })
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
            Err(error) if is_no_directory(&error) => {
                let what = "no directory of the operator's";
                Err(StoreError::ForeignFile { doing: "open volume", path: path.to_owned(), what })
            }
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

    /// Whether a thread changes trees or links now.
    #[cfg(test)]
    pub(super) fn is_locked(&self) -> bool {
        self.inner.writing.try_lock().is_err()
    }

    /// Those who wait for the disk of `directory`; `None` where everyone must sync for himself.
    pub(super) fn syncing(&self, directory: &Directory) -> Result<Option<Arc<Group>>, StoreError> {
        let failed = |error| StoreError::io("read", &directory.path, error);
        let mut syncing = self.inner.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = syncing.upgrade()
            && group.is_of(&directory.fd).map_err(failed)?
        {
            return Ok(Some(group));
        }
        // Nobody keeps it for longer than his work: a handle that stays open would keep the volume from being unmounted.
        let group = Group::of(&directory.fd).map_err(failed)?.map(Arc::new);
        *syncing = group.as_ref().map(Arc::downgrade).unwrap_or_default();
        Ok(group)
    }

    /// Say that `step` comes next.
    pub(super) fn step(&self, step: Step) -> Result<(), StoreError> {
        (self.inner.observer)(step)
    }

    /// Write the names of links to disk.
    pub(super) fn sync_links(&self, extensions: &Directory) -> Result<(), StoreError> {
        let synced = self.step(Step::SyncLink).and_then(|()| extensions.sync());
        if synced.is_err() {
            self.inner.unsynced_links.store(true, Ordering::SeqCst);
        }
        synced
    }

    /// The same where nothing was changed now, if it failed before.
    pub(super) fn sync_links_again(&self, extensions: &Directory) -> Result<(), StoreError> {
        match self.inner.unsynced_links.swap(false, Ordering::SeqCst) {
            true => self.sync_links(extensions),
            false => Ok(()),
        }
    }

    /// Make the directory `name` one that can be moved to another parent: for that it must be writable, and it stays so in
    /// the trash. What is no directory can be moved as it is. `false` if nothing is there: an empty directory is removed
    /// at once. kubelet makes one in the place of a tree that is gone; it is root's, so nobody else could move it.
    pub(super) fn make_movable(&self, parent: &Directory, name: &str) -> Result<bool, StoreError> {
        if !parent.is_directory(name)? {
            return parent.has(name);
        }
        if self.remove_empty(parent, name)? {
            return Ok(false);
        }
        self.step(Step::Unseal)?;
        let failed = |error| StoreError::io("chmod", parent.path.join(name), error);
        let opened = parent.open(name);
        match opened.and_then(|root| root.map_or(Ok(()), |root| tree::set_mode(&root.fd, 0o755).map_err(failed))) {
            // Another's. Whether it can be moved all the same, moving it will tell.
            Ok(()) | Err(StoreError::Denied { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Remove the directory `name` if it is empty, whoever owns it; whether it was.
    pub(super) fn remove_empty(&self, parent: &Directory, name: &str) -> Result<bool, StoreError> {
        self.step(Step::RemoveEmpty)?;
        match rustix::fs::unlinkat(&parent.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) => parent.sync().map(|()| true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::NOENT) => Ok(false),
            Err(error) => Err(StoreError::io("remove", parent.path.join(name), error.into())),
        }
    }

    /// Remove unfinished work from the staging directory. What cannot be removed now (the volume is read-only, or gone)
    /// is removed when the next work begins, and at the latest by the next start.
    pub(super) fn discard(&self, name: &str) {
        let removed = self.directory(STAGING).and_then(|staging| tree::remove(&staging.fd, name, &staging.path));
        if removed.is_err() {
            self.leave(name.to_owned());
        }
    }

    /// Leave unfinished work in the staging directory until it can be removed.
    pub(super) fn leave(&self, name: String) {
        self.leftovers().push(name);
    }

    /// Try once more to remove what could not be removed before.
    pub(super) fn discard_leftovers(&self) {
        let leftovers = std::mem::take(&mut *self.leftovers());
        leftovers.iter().for_each(|name| self.discard(name));
    }

    /// Whether it was not known yet that `name` in the trash may not be deleted.
    pub(super) fn is_first_refusal(&self, name: &str) -> bool {
        self.inner.undeletable.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned())
    }

    fn leftovers(&self) -> MutexGuard<'_, Vec<String>> {
        self.inner.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A store on an opened volume that tells `observer` of each step.
    #[cfg(test)]
    pub(super) fn observed(root: &Path, observer: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let failed = |step| move |error| StoreError::io("do", format!("{step:?}"), error);
        Self::with(root, Box::new(move |step| observer(step).map_err(failed(step))))
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

    /// Exchange `from` in this directory with `name` in `to`; `false` where the file system cannot.
    pub(super) fn exchange(&self, from: &str, to: &Self, name: &str) -> Result<bool, StoreError> {
        match rustix::fs::renameat_with(&self.fd, from, &to.fd, name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(error) => Err(StoreError::io("exchange with", to.path.join(name), error.into())),
        }
    }

    /// Whether a directory lies at `name`.
    pub(super) fn is_directory(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.stat(name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
    }

    /// Whether anything lies at `name`.
    pub(super) fn has(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.stat(name)?.is_some())
    }

    /// The permission bits of what lies at `name`.
    pub(super) fn mode(&self, name: &str) -> Result<Option<u32>, StoreError> {
        Ok(self.stat(name)?.map(|stat| stat.st_mode & 0o7777))
    }

    /// Whether another user made what lies at `name`.
    pub(super) fn is_of_another(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.stat(name)?.is_some_and(|stat| stat.st_uid != rustix::process::geteuid().as_raw()))
    }

    fn stat(&self, name: &str) -> Result<Option<rustix::fs::Stat>, StoreError> {
        let stat = beneath::stat(&self.fd, name.as_bytes());
        stat.map_err(|error| StoreError::io("read", self.path.join(name), error))
    }

    /// The names in it that are UTF-8, sorted. Others are nobody's business here.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let names = beneath::names(&self.fd).map_err(|error| StoreError::io("list", &self.path, error))?;
        let mut names: Vec<String> = names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// Whether something was to be opened as a directory that is a file or a link.
pub(super) fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOTDIR | Errno::LOOP))
}

/// Create the directory `name` in `parent` with this mode, unless it is there.
pub(super) fn create_directory(parent: &OwnedFd, name: &str, mode: u32, shown: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::io("create directory", shown.join(name), error);
    if beneath::stat(parent, name.as_bytes()).map_err(failed)?.is_some() {
        return Ok(());
    }
    let made = beneath::create_directory(parent, name).map_err(failed)?;
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
