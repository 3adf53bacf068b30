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
        extensions.sync()
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

    use crate::store::LazyStore;
    use crate::store::fixtures::*;

    fn of(volume: &Volume, owner: &str) -> LazyStore {
        LazyStore::new(&volume.root, Some(owner.to_owned()), || true)
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
