//! Whose the volume is. A Lease keeps the replicas of one operator apart, and knows nothing of an operator elsewhere that
//! mounts the same volume: each would sweep what the other stages, and collect what the other keeps.

use super::error::StoreError;
use super::layout::{EXTENSIONS, OWNER, STAGING};
use super::step::Step;
use super::verify::read_file;
use super::volume::{Store, random_name};

/// Bytes of an owner beyond which it cannot be one of ours.
const MAX_OWNER_BYTES: u64 = 1024;

impl Store {
    /// Refuse a volume that is another's than `owner`'s; one that says nothing will do. Nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Owned`]; what the volume refuses.
    pub(super) fn refuse_another(&self, owner: &str) -> Result<(), StoreError> {
        match self.owner() {
            Ok(Some(found)) => is_own(&found, owner),
            // Directories are still to be made on it.
            Ok(None) | Err(StoreError::Vanished { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Make the volume `owner`'s, one line of text, unless it is somebody's.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if it is another's; what the volume refuses.
    pub(super) fn claim(&self, owner: &str) -> Result<(), StoreError> {
        if let Some(found) = self.owner()? {
            return is_own(&found, owner);
        }
        let (staging, extensions) = (self.directory(STAGING)?, self.extensions()?);
        let made = random_name()?;
        let claim = || -> Result<(), StoreError> {
            self.write_staged(&staging, &made, format!("{owner}\n").as_bytes())?;
            self.step(Step::ClaimVolume)?;
            staging.rename_new(&made, &extensions, OWNER)
        };
        if let Err(error) = claim() {
            self.discard(&made);
            // Another may have come first.
            return self.owner()?.map_or(Err(error), |found| is_own(&found, owner));
        }
        extensions.sync()?;
        // Where names cannot be taken without replacing (NFS), another may have come in between.
        self.refuse_another(owner)
    }

    fn owner(&self) -> Result<Option<String>, StoreError> {
        let content = read_file(&self.extensions()?, OWNER, MAX_OWNER_BYTES)?;
        Ok(content.map(|content| String::from_utf8_lossy(&content).trim_end().to_owned()))
    }
}

fn is_own(found: &str, own: &str) -> Result<(), StoreError> {
    if found == own {
        return Ok(());
    }
    let (owner, own, path) = (found.replace(char::is_control, ""), own.to_owned(), format!("{EXTENSIONS}/{OWNER}"));
    Err(StoreError::Owned { owner, own, path })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use crate::store::fixtures::*;
    use crate::store::{LazyStore, OutputKey, Outputs, StoreError};

    fn of(volume: &Volume, owner: &str) -> LazyStore {
        LazyStore::new(&volume.root, Some(owner.to_owned()), || true)
    }

    #[test]
    fn what_makes_room_comes_before_the_claim() {
        let volume = volume();
        std::mem::forget(stage(&volume.store, &[("half", "done")]));
        // Directories, and one leftover.
        let steps_left = AtomicUsize::new(2);
        let take = move || steps_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        let lazy = LazyStore::new(&volume.root, Some("namespace a of cluster 1".to_owned()), take);
        lazy.open().unwrap_err();
        assert!(volume.staging_is_empty());
        assert!(!volume.extensions().join(".owner").exists());
        of(&volume, "namespace b of cluster 1").open().unwrap();
        lazy.get().unwrap_err();
    }

    #[test]
    fn outputs_on_a_volume_of_anothers_are_neither_kept_nor_listed() {
        let volume = volume();
        let outputs = |owner: &str| Outputs::beside(Arc::new(of(&volume, owner)));
        let key = OutputKey::new("team-a", "backup", "0a").unwrap();
        let own = outputs("namespace a of cluster 1");
        own.prepare().unwrap();
        own.keep(&key, 1, b"out", b"").unwrap();
        assert_eq!(own.list().unwrap().len(), 1);
        let other = outputs("namespace b of cluster 1");
        let refused = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Owned { .. }));
        assert!(refused(other.prepare()) && refused(other.list().map(drop)));
        assert!(refused(other.keep(&key, 2, b"out", b"")));
    }

    #[test]
    fn a_volume_without_an_owner_is_taken_and_then_opened_by_its_owner_alone() {
        let volume = volume();
        publish(&volume.store, &[("f", "1")]);
        of(&volume, "namespace a of cluster 1").open().unwrap();
        of(&volume, "namespace a of cluster 1").open().unwrap();
        std::mem::forget(stage(&volume.store, &[("under", "way")]));
        let other = of(&volume, "namespace b of cluster 1");
        let error = other.open().unwrap_err();
        assert_eq!(
            error.to_string(),
            "open volume: it belongs to the operator of namespace a of cluster 1, and this is that of namespace b of \
             cluster 1; give each operator a volume of its own or, if the other is gone for good, remove extensions/.owner"
        );
        assert!(error.is_transient() && !error.is_damage() && other.get().is_err());
        assert!(!volume.staging_is_empty(), "nothing of another's is swept");
        LazyStore::new(&volume.root, None, || false).get().unwrap();

        fs::remove_file(volume.extensions().join(".owner")).unwrap();
        other.open().unwrap();
        assert!(volume.staging_is_empty());
    }
}
