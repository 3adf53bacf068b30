//! Removing what nobody uses: after a crash, and slowly in between.
//!
//! A Lease does not fence a file system: a leader that was replaced may still be writing. So nothing that was ever
//! published is deleted at once. It is renamed to the trash, and deleted when it has lain there for the grace that the
//! caller gives, which must be longer than the lease and the longest I/O.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{StoreError, Troubles};
use super::layout::{ExtensionName, RUNNER, STAGING, STORE, listing_name, tree_digest, tree_name};
use super::link::{AtName, at_name};
use super::publish::seal_root;
use super::step::Step;
use super::trash::Used;
use super::tree;
use super::volume::{Directory, Store};
use crate::archive::beneath;
use crate::digest::Digest;

/// What a start-up found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Leftovers of unfinished work that were removed.
    pub staging: usize,
    /// Listings without a tree that were removed.
    pub listings: usize,
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
    /// Remove what a crash left: unfinished work and listings without a tree; and finish what it left undone. The trash
    /// stays: what is used of it is not known yet. For the leader, before it does anything else.
    ///
    /// What cannot be put right is logged and left, so that it holds up nothing else.
    ///
    /// # Errors
    /// If the volume as a whole fails; calling again goes on.
    pub fn recover(&self) -> Result<Recovered, StoreError> {
        let _writing = self.lock();
        let (mut recovered, mut troubles) = (Recovered::default(), Troubles::default());
        let staging = self.directory(STAGING)?;
        for name in staging.names()? {
            self.step(Step::Sweep)?;
            match troubles.pass(tree::remove(&staging.fd, &name, &staging.path))? {
                Some(()) => recovered.staging += 1,
                None => self.leave(name),
            }
        }
        let (store, runners) = (self.directory(STORE)?, self.directory(RUNNER)?);
        for name in store.names()?.iter().filter(|name| tree_digest(name).is_some()) {
            troubles.pass(self.put_right(&store, name))?;
        }
        for name in runners.names()? {
            troubles.pass(self.put_right(&runners, &name))?;
        }
        let names: BTreeSet<String> = store.names()?.into_iter().collect();
        for name in lone_listings(&names) {
            self.step(Step::RemoveListing)?;
            recovered.listings += usize::from(troubles.pass(tree::remove(&store.fd, name, &store.path))?.is_some());
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
        self.step(Step::SyncNames)?;
        for directory in [&store, &runners, &extensions] {
            directory.sync()?;
        }
        Ok(recovered)
    }

    /// Seal the directory `name` if a crash left it unsealed, and remove an empty one.
    fn put_right(&self, parent: &Directory, name: &str) -> Result<(), StoreError> {
        let is_sealed = parent.mode(name)? == Some(0o555);
        if is_sealed || !parent.is_directory(name)? || self.remove_empty(parent, name)? {
            return Ok(());
        }
        self.step(Step::SealRoot)?;
        parent.open(name)?.map_or(Ok(()), |root| seal_root(&root))
    }

    /// Move the trees to the trash that are neither used nor linked nor published within `grace`, and the manifests that
    /// are neither used nor kept within `grace`; bring back from the trash what is used; and delete what has lain in the
    /// trash for longer than `grace` and is not used.
    ///
    /// # Errors
    /// The first thing that could not be done, after everything else was; calling again goes on.
    ///
    /// Not to be called twice at a time.
    pub fn collect(&self, used: &Used, now: SystemTime, grace: Duration) -> Result<Collected, StoreError> {
        self.discard_leftovers();
        let mut troubles = Troubles::default();
        let restored = self.restore(used, &mut troubles)?;
        self.restore_manifests(used, &mut troubles)?;
        // Before anything is moved: on a full volume that is what gives room for it. Without the lock, because deleting trees
        // may take long: nothing else takes anything from the trash that has lain there for so long.
        let deleted = self.empty_trash(used, now, grace, &mut troubles)?;
        let _writing = self.lock();
        let mut collected = Collected { restored, deleted, ..Collected::default() };
        let linked = self.all_linked()?;
        let store = self.directory(STORE)?;
        for digest in self.trees()? {
            if used.contains(&digest)
                || linked.contains(&digest)
                || changed_since(&store, &listing_name(&digest), now, grace)?
            {
                continue;
            }
            if troubles.pass(self.move_to_trash(&store, &tree_name(&digest), now))?.is_some() {
                collected.trashed.push(digest);
            }
        }
        let names: BTreeSet<String> = store.names()?.into_iter().collect();
        for name in lone_listings(&names) {
            let is_of_collected = collected.trashed.iter().any(|digest| listing_name(digest) == name);
            if is_of_collected || !changed_since(&store, name, now, grace)? {
                self.step(Step::RemoveListing)?;
                troubles.pass(tree::remove(&store.fd, name, &store.path))?;
            }
        }
        collected.manifests = self.collect_manifests(used, now, grace, &mut troubles)?;
        troubles.end(collected)
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
}

/// The listings among `names` of which a publish did not get the tree into its place.
fn lone_listings(names: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| {
        name.strip_suffix(".list").is_some_and(|tree| tree_digest(tree).is_some() && !names.contains(tree))
    })
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
