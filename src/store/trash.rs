//! The trash: where what nobody uses waits for its deletion, and comes back from when it is used again.
//!
//! What lies there keeps its name, so that its digest can be asked for once more before it is deleted: a pod that began
//! before a tree was replaced still has it mounted.

use std::collections::BTreeSet;
use std::sync::MutexGuard;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{StoreError, Troubles};
use super::layout::{STORE, TRASH, listing_name, manifest_digest, runner_digest, tree_digest, tree_name};
use super::publish::seal_root;
use super::step::Step;
use super::tree;
use super::volume::{Directory, Store, random_name};
use crate::digest::Digest;

/// What of the volume is in use, by the digests of trees and manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// To be kept: what is installed, and former revisions.
    pub kept: BTreeSet<Digest>,
    /// Trees that an action may have mounted, be it under a name that another copy has taken since.
    pub mounted: BTreeSet<Digest>,
}

impl Used {
    /// Whether anything uses `digest`.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.kept.contains(digest) || self.mounted.contains(digest)
    }
}

impl Store {
    /// Move what lies at `name` to the trash.
    pub(super) fn move_to_trash(&self, from: &Directory, name: &str, now: SystemTime) -> Result<(), StoreError> {
        match self.make_movable(from, name)? {
            true => self.rename_to_trash(from, name, now),
            false => Ok(()),
        }
    }

    /// Rename what can be moved to the trash.
    pub(super) fn rename_to_trash(&self, from: &Directory, name: &str, now: SystemTime) -> Result<(), StoreError> {
        let (trash, to) = (self.directory(TRASH)?, trash_name(name, now)?);
        self.step(Step::RenameToTrash)?;
        from.rename_new(name, &trash, &to)?;
        self.step(Step::SyncTrash)?;
        trash.sync()?;
        from.sync()
    }

    /// Bring the trees that are used back from the trash that the store does not have, if they still are what their
    /// digests say.
    pub(super) fn restore(&self, used: &Used, troubles: &mut Troubles) -> Result<Vec<Digest>, StoreError> {
        let trash = self.directory(TRASH)?;
        let mut restored = Vec::new();
        for name in trash.names()? {
            let Some(digest) = trashed(&name).and_then(|(_, name)| tree_digest(name)) else { continue };
            if used.contains(&digest) && troubles.pass(self.restore_tree(&trash, &name, &digest))? == Some(true) {
                restored.push(digest);
            }
        }
        Ok(restored)
    }

    fn restore_tree(&self, trash: &Directory, name: &str, digest: &Digest) -> Result<bool, StoreError> {
        let (store, tree) = (self.directory(STORE)?, tree_name(digest));
        if !trash.is_directory(name)? || self.is_occupied(&store, &tree, &self.lock())? {
            return Ok(false);
        }
        let Some(root) = trash.open(name)? else { return Ok(false) };
        let listing = match tree::list(&root.fd, &root.path) {
            Ok(listing) if listing.digest() == *digest => listing.to_string(),
            Ok(_) | Err(StoreError::Unpublishable { .. } | StoreError::Unreadable { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        // Without the lock, because reading a tree may take long; so the same question again.
        let writing = self.lock();
        if self.is_occupied(&store, &tree, &writing)? {
            return Ok(false);
        }
        // A deletion that was cut off may have closed directories to others.
        self.step(Step::Seal)?;
        tree::seal(&root.fd, &root.path)?;
        // The listing first: without its tree it is harmless.
        self.put(&store, &listing_name(digest), listing.as_bytes())?;
        self.step(Step::RestoreTree)?;
        trash.rename_new(name, &store, &tree)?;
        self.step(Step::SealRoot)?;
        seal_root(&root)?;
        self.step(Step::SyncStore)?;
        store.sync()?;
        Ok(true)
    }

    /// Whether anything but an empty directory, which is removed, lies at `name`.
    fn is_occupied(&self, store: &Directory, name: &str, _writing: &MutexGuard<'_, ()>) -> Result<bool, StoreError> {
        Ok(store.has(name)? && !(store.is_directory(name)? && self.remove_empty(store, name)?))
    }

    /// Bring the manifests that are used back from the trash that the store does not have.
    pub(super) fn restore_manifests(&self, used: &Used, troubles: &mut Troubles) -> Result<(), StoreError> {
        let trash = self.directory(TRASH)?;
        let _writing = self.lock();
        for name in trash.names()? {
            let Some((_, original)) = trashed(&name) else { continue };
            if let Some(digest) = manifest_digest(original).filter(|digest| used.contains(digest)) {
                troubles.pass(self.restore_manifest(&trash, &name, original, &digest))?;
            }
        }
        Ok(())
    }

    fn restore_manifest(&self, trash: &Directory, name: &str, to: &str, digest: &Digest) -> Result<(), StoreError> {
        if trash.is_directory(name)? || self.manifest(digest)?.is_some() {
            return Ok(());
        }
        let store = self.directory(STORE)?;
        self.step(Step::RestoreManifest)?;
        trash.rename_over(name, &store, to)?;
        self.step(Step::SyncStore)?;
        store.sync()
    }

    /// Delete what has lain in the trash for longer than `grace` and is not in use; how many. What holds something that the
    /// operator's user may not delete is tried each time, and is trouble once.
    pub(super) fn empty_trash(
        &self,
        used: &Used,
        now: SystemTime,
        grace: Duration,
        troubles: &mut Troubles,
    ) -> Result<usize, StoreError> {
        let (trash, store) = (self.directory(TRASH)?, self.directory(STORE)?);
        let mut deleted = 0;
        for name in trash.names()? {
            let Some((since, original)) = trashed(&name) else { continue };
            let is_old = now.duration_since(since).is_ok_and(|age| age > grace);
            if !is_old || is_in_use(used, original, store.has(original)?) {
                continue;
            }
            self.step(Step::EmptyTrash)?;
            let removed = tree::remove(&trash.fd, &name, &trash.path);
            if matches!(removed, Err(StoreError::Denied { .. })) && !self.is_first_refusal(&name) {
                continue;
            }
            if troubles.pass(removed)?.is_some() {
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// Whether something of this name is used although it lies in the trash; `is_replaced`: the store has another of the name.
fn is_in_use(used: &Used, original: &str, is_replaced: bool) -> bool {
    if runner_digest(original).is_some() {
        // Which runner a pod has mounted is not known.
        return !used.mounted.is_empty();
    }
    let digest = tree_digest(original).or_else(|| manifest_digest(original));
    digest.is_some_and(|digest| used.mounted.contains(&digest) || (used.kept.contains(&digest) && !is_replaced))
}

/// A name in the trash for what was called `name`, moved there `now`.
pub(super) fn trash_name(name: &str, now: SystemTime) -> Result<String, StoreError> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(format!("{seconds}-{}-{name}", random_name()?))
}

/// When `name` was moved to the trash, and its name before.
fn trashed(name: &str) -> Option<(SystemTime, &str)> {
    let (seconds, rest) = name.split_once('-')?;
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    Some((since, rest.split_once('-')?.1))
}

#[cfg(test)]
#[path = "trash_tests.rs"]
mod tests;
