//! Staging a tree, and publishing it under its digest.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::error::StoreError;
use super::layout::{STAGING, STORE, TRASH, listing_name, tree_name};
use super::step::Step;
use super::syncer::{Group, Since};
use super::trash::trash_name;
use super::tree;
use super::volume::{Directory, Store, random_name};
use crate::archive::{RelativePath, beneath};
use crate::digest::Digest;
use crate::protocol::TREE_MARKER;

/// A private directory on the volume that becomes a tree, and the name beside it of the file that becomes its listing. Dropped,
/// it leaves both names, and is removed when the next work begins: whoever drops it may be no thread that may wait for the
/// volume.
#[derive(Debug)]
pub struct Staging {
    store: Store,
    name: String,
    path: PathBuf,
    /// Who waits for the disk together with this, and since when something was written.
    syncing: Option<(Arc<Group>, Since)>,
}

/// A tree in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Digest of its content (see [`Listing`](super::Listing)).
    pub digest: Digest,
    /// Bytes of all files.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Whether the same tree was in the store before, and was used again.
    pub reused: bool,
}

impl Staging {
    /// The empty directory to make the tree in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remove it with all that is in it.
    pub fn remove(mut self) {
        self.store.discard(&self.listing());
        self.store.discard(&std::mem::take(&mut self.name));
    }

    fn listing(&self) -> String {
        format!("{}.list", self.name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.store.leave(self.listing());
            self.store.leave(std::mem::take(&mut self.name));
        }
    }
}

impl Store {
    /// A new empty directory on the volume.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        self.step(Step::Stage)?;
        self.discard_leftovers();
        let staging = self.directory(STAGING)?;
        let name = random_name()?;
        let path = staging.path.join(&name);
        let syncing = self.syncing(&staging)?.map(|group| (group.clone(), group.begin()));
        match beneath::create_directory(&staging.fd, &name) {
            Ok(_) => Ok(Staging { store: self.clone(), name, path, syncing }),
            Err(error) => {
                self.discard(&name);
                Err(StoreError::io("create directory", path, error))
            }
        }
    }

    /// Publish what is staged, or only its directory `subdirectory`, under its digest: read and seal it, write it to disk with
    /// its marker and its listing, and rename it into the store. A tree that is there already is used again if it still
    /// is what its digest says, and else replaced. Links must not lead out of what is published.
    ///
    /// # Errors
    /// [`StoreError::NoSuchDirectory`], [`StoreError::Link`] and [`StoreError::Unpublishable`] are the source's fault,
    /// others the volume's. After an error the store is as before.
    pub fn publish(&self, mut staging: Staging, subdirectory: Option<&RelativePath>) -> Result<Tree, StoreError> {
        let published = self.publish_staged(&staging, subdirectory);
        match &published {
            // Both have moved.
            Ok(tree) if !tree.reused && subdirectory.is_none() => staging.name.clear(),
            _ => staging.remove(),
        }
        published
    }

    fn publish_staged(&self, staging: &Staging, subdirectory: Option<&RelativePath>) -> Result<Tree, StoreError> {
        let work = self.directory(STAGING)?;
        let top = work.open(&staging.name)?.ok_or_else(|| vanished(&staging.path))?;
        let root = open_subdirectory(&top, subdirectory)?;
        let reserved = beneath::stat(&root.fd, TREE_MARKER.as_bytes());
        if reserved.map_err(|error| StoreError::io("read", &root.path, error))?.is_some() {
            let what = "the name is reserved for the marker of an installed tree".to_owned();
            return Err(StoreError::Unpublishable { path: TREE_MARKER.to_owned(), what });
        }
        self.step(Step::Seal)?;
        let listing = tree::list_and_seal(&root.fd, &root.path)?;
        if let Some((path, target, fault)) = listing.bad_link() {
            return Err(StoreError::Link { path: path.to_owned(), target: target.to_owned(), fault });
        }
        if listing.files() == 0 {
            let path = subdirectory.map_or(".", RelativePath::as_str).to_owned();
            return Err(StoreError::Unpublishable { path, what: "the directory holds no file".to_owned() });
        }
        let digest = listing.digest();
        let published = |reused| Tree { digest, bytes: listing.bytes(), files: listing.files(), reused };

        let store = self.directory(STORE)?;
        {
            let _writing = self.lock();
            if self.has_whole(&store, &digest)? {
                self.keep_existing(&store, &digest)?;
                return Ok(published(true));
            }
        }
        // Without the lock, because writing a tree to disk may take long; so the same question again afterwards.
        self.step(Step::WriteMarker)?;
        write_new(&root, TREE_MARKER, format!("{digest}\n").as_bytes())?;
        self.step(Step::WriteListing)?;
        write_new(&work, &staging.listing(), listing.to_string().as_bytes())?;
        self.step(Step::SyncTree)?;
        match &staging.syncing {
            Some((group, since)) => {
                group.sync(*since).map_err(|error| StoreError::io("sync", &staging.path, error))?;
            }
            None => sync_each(&root, &work, &staging.listing())?,
        }

        let writing = self.lock();
        if self.has_whole(&store, &digest)? {
            self.keep_existing(&store, &digest)?;
            return Ok(published(true));
        }
        // The listing first: without its tree it is harmless.
        self.clear_way(&store, &listing_name(&digest))?;
        self.step(Step::RenameListing)?;
        work.rename_over(&staging.listing(), &store, &listing_name(&digest))?;
        let (parent, name) = match subdirectory.map(RelativePath::split) {
            None => (work, staging.name.as_str()),
            Some((None, name)) => (top, name),
            Some((Some(parent), name)) => (top.open(parent)?.ok_or_else(|| vanished(&staging.path))?, name),
        };
        self.put_in_place(&parent, name, &store, &digest)?;
        // The names of all who got here meanwhile are written to disk at once.
        drop(writing);
        self.step(Step::SealRoot)?;
        seal_root(&root)?;
        self.step(Step::SyncStore)?;
        store.sync()?;
        Ok(published(false))
    }

    /// Whether the tree `digest` is in the store and is what its digest says.
    fn has_whole(&self, store: &Directory, digest: &Digest) -> Result<bool, StoreError> {
        match self.verify_in(store, digest) {
            Ok(()) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Count the tree `digest` as published now.
    fn keep_existing(&self, store: &Directory, digest: &Digest) -> Result<(), StoreError> {
        let name = tree_name(digest);
        if store.mode(&name)? != Some(0o555)
            && let Some(root) = store.open(&name)?
        {
            self.step(Step::SealRoot)?;
            seal_root(&root)?;
        }
        self.step(Step::Touch)?;
        touch(store, &listing_name(digest))?;
        self.step(Step::SyncStore)?;
        store.sync()
    }

    /// Put the directory `name` of `parent` in the place of the tree `digest`, of which there may be one that is not whole:
    /// it goes to the trash under its name, and there is no moment without a tree where the file system can exchange names
    /// (NFS cannot).
    fn put_in_place(
        &self,
        parent: &Directory,
        name: &str,
        store: &Directory,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let tree = tree_name(digest);
        if !self.make_movable(store, &tree)? {
            self.step(Step::RenameTree)?;
            return parent.rename_new(name, store, &tree);
        }
        // The new one goes there first, so that after the exchange the other lies where it must, whenever a crash comes: from
        // the staging directory it would be removed under those who have it mounted.
        let now = std::time::SystemTime::now();
        let (trash, held) = (self.directory(TRASH)?, trash_name(&tree, now)?);
        self.step(Step::HoldInTrash)?;
        parent.rename_new(name, &trash, &held)?;
        match self.step(Step::ExchangeTree).and_then(|()| trash.exchange(&held, store, &tree)) {
            Ok(true) => {}
            Ok(false) => {
                // Nothing is between the two renames that could be waited for.
                let damaged = trash_name(&tree, now)?;
                self.step(Step::RenameToTrash)?;
                store.rename_new(&tree, &trash, &damaged)?;
                if let Err(error) = self.step(Step::RenameTree).and_then(|()| trash.rename_new(&held, store, &tree)) {
                    // A damaged tree is better than none.
                    let _ = trash.rename_new(&damaged, store, &tree);
                    return Err(error);
                }
            }
            Err(error) => {
                // What was staged is removed with its directory.
                let _ = trash.rename_new(&held, parent, name);
                return Err(error);
            }
        }
        self.step(Step::SyncTrash)?;
        trash.sync()
    }

    /// Move a directory out of the way that lies where the file `name` of the store must be.
    pub(super) fn clear_way(&self, store: &Directory, name: &str) -> Result<(), StoreError> {
        match store.is_directory(name)? {
            true => self.move_to_trash(store, name, std::time::SystemTime::now()),
            false => Ok(()),
        }
    }
}

fn open_subdirectory(top: &Directory, subdirectory: Option<&RelativePath>) -> Result<Directory, StoreError> {
    let Some(path) = subdirectory else {
        return top.open(".")?.ok_or_else(|| vanished(&top.path));
    };
    // A link counts as missing, like a file: what is published must be the directory itself.
    match beneath::open_directory(&top.fd, Some(path.as_str())) {
        Ok(fd) => Ok(Directory { fd, path: top.path.join(path) }),
        Err(_) => Err(StoreError::NoSuchDirectory { path: path.to_string() }),
    }
}

/// Write each file and directory of a tree, its marker and its file `listing` in `work` to disk.
fn sync_each(root: &Directory, work: &Directory, listing: &str) -> Result<(), StoreError> {
    for (directory, name) in [(root, TREE_MARKER), (work, listing)] {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        beneath::open(&directory.fd, Some(name), flags, Mode::empty())
            .and_then(|file| Ok(rustix::fs::fsync(file)?))
            .map_err(|error| StoreError::io("sync", directory.path.join(name), error))?;
    }
    tree::sync(&root.fd, &root.path)?;
    work.sync()
}

/// Write a file of mode 0444 that must not be there yet. It is not synced.
fn write_new(directory: &Directory, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::from(beneath::create_file(&directory.fd, name)?);
        file.write_all(content)?;
        tree::set_mode(&file, 0o444)
    };
    write().map_err(|error| StoreError::io("write", directory.path.join(name), error))
}

/// Take the write bits from a tree's root, which had to keep them until it was in its place. That is not synced: a root that
/// has them again after a crash is sealed by [`recover`](Store::recover).
pub(super) fn seal_root(root: &Directory) -> Result<(), StoreError> {
    tree::set_mode(&root.fd, 0o555).map_err(|error| StoreError::io("chmod", &root.path, error))
}

/// Say that the file `name`, or the tree of which it is the listing, was published just now.
pub(super) fn touch(store: &Directory, name: &str) -> Result<(), StoreError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    rustix::fs::utimensat(&store.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| StoreError::io("touch", store.path.join(name), error.into()))
}

fn vanished(path: &Path) -> StoreError {
    let source = io::Error::from(io::ErrorKind::NotFound);
    StoreError::Vanished { doing: format!("open {}", path.display()), source }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
