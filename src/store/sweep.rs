//! Removing what nobody uses: after a crash, and slowly in between.
//!
//! A Lease does not fence a file system: a leader that was replaced may still be writing. So nothing that was ever
//! published is deleted at once. It is renamed to the trash, and deleted when it has lain there for the grace that the
//! caller gives, which must be longer than the lease and the longest I/O.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::StoreError;
use super::layout::{ExtensionName, RUNNER, STAGING, STORE, TRASH, listing_name, tree_digest, tree_name};
use super::link::{AtName, at_name};
use super::publish::seal_root;
use super::tree;
use super::volume::{Directory, Step, Store, make_movable, random_name};
use crate::archive::beneath;
use crate::digest::Digest;

/// What a start-up found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Leftovers of unfinished work that were removed.
    pub staging: usize,
    /// Listings without a tree that were removed.
    pub listings: usize,
    /// Trash that was deleted.
    pub trash: usize,
    /// Links whose tree is not in the store. They are left for whoever knows what they should lead to.
    pub dangling: Vec<ExtensionName>,
    /// Names in the directory of extensions that are not the operator's, and are left alone.
    pub foreign: Vec<String>,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Trees that went to the trash.
    pub trashed: Vec<Digest>,
    /// Trees that came back from it, because they are wanted again.
    pub restored: Vec<Digest>,
    /// Manifests that went to the trash.
    pub manifests: usize,
    /// Trash that was deleted.
    pub deleted: usize,
}

impl Store {
    /// Remove what a crash left: unfinished work, listings without a tree, trash older than `grace`; and finish what it
    /// left undone. For the leader, before it does anything else.
    ///
    /// # Errors
    /// The first thing that could not be done; calling again goes on.
    pub fn recover(&self, now: SystemTime, grace: Duration) -> Result<Recovered, StoreError> {
        let _writing = self.lock();
        let mut recovered = Recovered::default();
        let staging = self.directory(STAGING)?;
        for name in staging.names()? {
            tree::remove(&staging.fd, &name, &staging.path)?;
            recovered.staging += 1;
        }
        let store = self.directory(STORE)?;
        let names: BTreeSet<String> = store.names()?.into_iter().collect();
        for name in &names {
            match name.strip_suffix(".list") {
                Some(tree) if tree_digest(tree).is_some() && !names.contains(tree) => {
                    tree::remove(&store.fd, name, &store.path)?;
                    recovered.listings += 1;
                }
                None if tree_digest(name).is_some() => store.open(name)?.map_or(Ok(()), |root| seal_root(&root))?,
                _ => {}
            }
        }
        let runners = self.directory(RUNNER)?;
        for name in runners.names()? {
            runners.open(&name)?.map_or(Ok(()), |root| seal_root(&root))?;
        }
        let extensions = self.extensions()?;
        for name in extensions.names()?.into_iter().filter(|name| !name.starts_with('.')) {
            match (at_name(&extensions, &name)?, ExtensionName::parse(&name)) {
                (AtName::Nothing, _) => {}
                (AtName::Link(digest), Ok(_)) if names.contains(&tree_name(&digest)) => {}
                (AtName::Link(_), Ok(name)) => recovered.dangling.push(name),
                (AtName::Foreign(_) | AtName::Link(_), _) => recovered.foreign.push(name),
            }
        }
        recovered.trash = self.empty_trash(now, grace)?;
        Ok(recovered)
    }

    /// Move the trees to the trash that are neither in `keep` nor linked nor published within `grace`, and the manifests
    /// that are neither in `keep` nor kept within `grace`; bring back from the trash what is in `keep`, which holds
    /// digests of trees and of manifests; and delete what has lain in the trash for longer than `grace`.
    ///
    /// # Errors
    /// The first thing that could not be done; calling again goes on.
    pub fn collect(&self, keep: &BTreeSet<Digest>, now: SystemTime, grace: Duration) -> Result<Collected, StoreError> {
        let _writing = self.lock();
        self.discard_leftovers();
        let mut collected = Collected { restored: self.restore(keep)?, ..Collected::default() };
        self.restore_manifests(keep)?;
        // Before anything is moved: on a full volume that is what gives room for it.
        collected.deleted = self.empty_trash(now, grace)?;
        let linked = self.all_linked()?;
        let store = self.directory(STORE)?;
        for digest in self.trees()? {
            if keep.contains(&digest)
                || linked.contains(&digest)
                || changed_since(&store, &listing_name(&digest), now, grace)?
            {
                continue;
            }
            self.step(Step::MoveToTrash)?;
            self.move_to_trash(&store, &tree_name(&digest), now)?;
            self.step(Step::RemoveListing)?;
            tree::remove(&store.fd, &listing_name(&digest), &store.path)?;
            collected.trashed.push(digest);
        }
        self.remove_lone_listings(now, grace)?;
        collected.manifests = self.collect_manifests(keep, now, grace)?;
        Ok(collected)
    }

    /// Rename the directory `name` to the trash.
    pub(super) fn move_to_trash(&self, from: &Directory, name: &str, now: SystemTime) -> Result<(), StoreError> {
        make_movable(from, name)?;
        self.rename_to_trash(from, name, now)
    }

    /// Rename what can be moved to the trash.
    pub(super) fn rename_to_trash(&self, from: &Directory, name: &str, now: SystemTime) -> Result<(), StoreError> {
        let trash = self.directory(TRASH)?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let to = format!("{seconds}-{}-{name}", random_name()?);
        from.rename_new(name, &trash, &to)?;
        trash.sync()?;
        from.sync()
    }

    /// Bring the trees in `keep` back from the trash that the store does not have, if they still are what their digests
    /// say.
    fn restore(&self, keep: &BTreeSet<Digest>) -> Result<Vec<Digest>, StoreError> {
        let (trash, store) = (self.directory(TRASH)?, self.directory(STORE)?);
        let mut restored = Vec::new();
        for name in trash.names()? {
            let Some(digest) = trashed(&name).and_then(|(_, name)| tree_digest(name)) else { continue };
            if !keep.contains(&digest) || store.open(&tree_name(&digest))?.is_some() {
                continue;
            }
            let Some(root) = trash.open(&name)? else { continue };
            match tree::list(&root.fd, &root.path) {
                Ok(listing) if listing.digest() == digest => {}
                Ok(_) | Err(StoreError::Unpublishable { .. }) => continue,
                Err(error) => return Err(error),
            }
            trash.rename_new(&name, &store, &tree_name(&digest))?;
            seal_root(&root)?;
            store.sync()?;
            // This writes its listing anew.
            self.verify(&digest)?;
            restored.push(digest);
        }
        Ok(restored)
    }

    /// Remove the listings that a publish left whose tree did not get into its place.
    fn remove_lone_listings(&self, now: SystemTime, grace: Duration) -> Result<(), StoreError> {
        let store = self.directory(STORE)?;
        let names: BTreeSet<String> = store.names()?.into_iter().collect();
        for name in &names {
            let lone =
                name.strip_suffix(".list").is_some_and(|tree| tree_digest(tree).is_some() && !names.contains(tree));
            if lone && !changed_since(&store, name, now, grace)? {
                tree::remove(&store.fd, name, &store.path)?;
            }
        }
        Ok(())
    }

    fn all_linked(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let extensions = self.extensions()?;
        let mut linked = BTreeSet::new();
        for name in extensions.names()? {
            if let AtName::Link(digest) = at_name(&extensions, &name)? {
                linked.insert(digest);
            }
        }
        Ok(linked)
    }

    fn empty_trash(&self, now: SystemTime, grace: Duration) -> Result<usize, StoreError> {
        let trash = self.directory(TRASH)?;
        let (mut deleted, mut kept) = (0, None);
        for name in trash.names()? {
            let Some((since, _)) = trashed(&name) else { continue };
            if now.duration_since(since).is_ok_and(|age| age > grace) {
                self.step(Step::EmptyTrash)?;
                // One that cannot be removed must not keep the others.
                match tree::remove(&trash.fd, &name, &trash.path) {
                    Ok(()) => deleted += 1,
                    Err(error) => kept = kept.or(Some(error)),
                }
            }
        }
        kept.map_or(Ok(deleted), Err)
    }
}

/// When `name` was moved to the trash, and its name before.
pub(super) fn trashed(name: &str) -> Option<(SystemTime, &str)> {
    let (seconds, rest) = name.split_once('-')?;
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    Some((since, rest.split_once('-')?.1))
}

/// Whether the file `name` (a tree's listing is as old as its last publishing) changed less than `grace` before `now`.
pub(super) fn changed_since(
    store: &Directory,
    name: &str,
    now: SystemTime,
    grace: Duration,
) -> Result<bool, StoreError> {
    let stat = beneath::stat(&store.fd, name.as_bytes());
    let stat = stat.map_err(|error| StoreError::io("read", store.path.join(name), error))?;
    let changed = stat.map(|stat| UNIX_EPOCH + Duration::from_secs(stat.st_mtime.try_into().unwrap_or_default()));
    Ok(changed.is_some_and(|changed| now.duration_since(changed).map_or(true, |age| age < grace)))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
