//! The effective manifest of each installed pair, beside its tree: what rollback needs besides the files.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use super::error::{StoreError, Troubles};
use super::layout::{STAGING, STORE, manifest_digest, manifest_name};
use super::publish::touch;
use super::step::Step;
use super::sweep::changed_since;
use super::trash::Used;
use super::tree;
use super::verify::read_or_lost;
use super::volume::{Directory, Store, random_name};
use crate::archive::beneath;
use crate::digest::Digest;

/// Bytes of a manifest beyond which it cannot be one of ours: status, which holds it too, has less room.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

impl Store {
    /// Keep `manifest` under its digest. One that is there already counts as kept now.
    ///
    /// # Errors
    /// If the volume cannot be written.
    pub fn keep_manifest(&self, manifest: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(manifest);
        let name = manifest_name(&digest);
        let store = self.directory(STORE)?;
        let writing = self.lock();
        if manifest_in(&store, &digest)?.is_some() {
            self.step(Step::Touch)?;
            touch(&store, &name)?;
            drop(writing);
            self.step(Step::SyncStore)?;
            // Another may have renamed it just now, without its name being on the disk yet.
            match self.syncing(&store)? {
                Some(group) => group.sync(group.begin()).map_err(|error| StoreError::io("sync", &store.path, error))?,
                None => store.sync()?,
            }
            return Ok(digest);
        }
        // A new file is not collected for a while: nothing needs to wait until the disk has it.
        drop(writing);
        self.put(&store, &name, manifest)?;
        Ok(digest)
    }

    /// The manifest `digest`; `None` if it is not kept, or is not what its digest says.
    ///
    /// # Errors
    /// If the volume cannot be read.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        manifest_in(&self.directory(STORE)?, digest)
    }

    /// The digests of all manifests that are kept.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn manifests(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(self.directory(STORE)?.names()?.iter().filter_map(|name| manifest_digest(name)).collect())
    }

    /// Write the file `name` of the directory `store`: whole, or not at all.
    pub(super) fn put(&self, store: &Directory, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let staging = self.directory(STAGING)?;
        let made = random_name()?;
        let put = || -> Result<(), StoreError> {
            self.write_staged(&staging, &made, content)?;
            self.clear_way(store, name)?;
            self.step(Step::RenameFile)?;
            staging.rename_over(&made, store, name)
        };
        if let Err(error) = put() {
            self.discard(&made);
            return Err(error);
        }
        self.step(Step::SyncFile)?;
        store.sync()
    }

    /// Write the file `name` of mode 0444 in the staging directory, to disk.
    pub(super) fn write_staged(&self, staging: &Directory, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::io("write", staging.path.join(name), error);
        self.step(Step::CreateFile)?;
        let mut file = File::from(beneath::create_file(&staging.fd, name).map_err(failed)?);
        self.step(Step::WriteFile)?;
        let mut write = || -> io::Result<()> {
            file.write_all(content)?;
            tree::set_mode(&file, 0o444)?;
            file.sync_all()
        };
        write().map_err(failed)
    }

    /// Move the manifests to the trash that are neither used nor kept within `grace`; how many.
    pub(super) fn collect_manifests(
        &self,
        used: &Used,
        now: SystemTime,
        grace: Duration,
        troubles: &mut Troubles,
    ) -> Result<usize, StoreError> {
        let store = self.directory(STORE)?;
        let mut collected = 0;
        for name in store.names()? {
            let Some(digest) = manifest_digest(&name) else { continue };
            if used.contains(&digest) || changed_since(&store, &name, now, grace)? {
                continue;
            }
            collected += usize::from(troubles.pass(self.move_to_trash(&store, &name, now))?.is_some());
        }
        Ok(collected)
    }
}

fn manifest_in(store: &Directory, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let content = read_or_lost(store, &manifest_name(digest), MAX_MANIFEST_BYTES)?;
    Ok(content.filter(|content| Digest::of(content) == *digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixtures::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn later(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_manifest_is_kept_under_its_digest_and_read_back() {
        let volume = volume();
        let digest = volume.store.keep_manifest(b"{}").unwrap();
        assert_eq!(digest, Digest::of("{}"));
        assert_eq!(volume.store.keep_manifest(b"{}").unwrap(), digest);
        assert_eq!(volume.store.manifest(&digest).unwrap().unwrap(), b"{}");
        assert_eq!(volume.store.manifest(&Digest::of("other")).unwrap(), None);
        assert!(volume.staging_is_empty() && volume.store.trees().unwrap().is_empty());
    }

    #[test]
    fn a_manifest_that_was_changed_from_outside_is_none_and_is_written_again() {
        let volume = volume();
        let digest = volume.store.keep_manifest(b"{}").unwrap();
        let file = volume.extensions().join(STORE).join(manifest_name(&digest));
        overwrite(&file, "{\"enabled\":true}");
        assert_eq!(volume.store.manifest(&digest).unwrap(), None);
        volume.store.keep_manifest(b"{}").unwrap();
        assert_eq!(volume.store.manifest(&digest).unwrap().unwrap(), b"{}");
    }

    #[test]
    fn a_manifest_that_nothing_needs_goes_slowly_and_comes_back_when_it_is_needed() {
        let volume = volume();
        let store = &volume.store;
        let (kept, dropped) = (store.keep_manifest(b"1").unwrap(), store.keep_manifest(b"2").unwrap());
        let keep = Used { kept: [kept].into(), ..Used::default() };
        assert_eq!(store.collect(&keep, later(1), GRACE).unwrap().manifests, 0, "within the grace");
        assert_eq!(store.collect(&keep, later(100), GRACE).unwrap().manifests, 1);
        assert!(store.manifest(&kept).unwrap().is_some() && store.manifest(&dropped).unwrap().is_none());
        store.collect(&Used { kept: [kept, dropped].into(), ..Used::default() }, later(101), GRACE).unwrap();
        assert_eq!(store.manifest(&dropped).unwrap().unwrap(), b"2");
        store.collect(&keep, later(100), GRACE).unwrap();
        assert_eq!(store.collect(&keep, later(200), GRACE).unwrap().deleted, 1);
        assert!(volume.trash().is_empty());
    }
}
