//! Reading trees, and telling whether they still are what was published.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{Mode, OFlags};

use super::error::StoreError;
use super::layout::{STORE, listing_name, tree_digest, tree_name};
use super::listing::{Drift, Entry, Listing};
use super::tree;
use super::volume::{Directory, Store, is_no_directory};
use crate::archive::{RelativePath, beneath};
use crate::digest::Digest;
use crate::protocol::TREE_MARKER;

/// Bytes of a listing beyond which it cannot be one of ours.
const MAX_LISTING_BYTES: u64 = 256 << 20;

/// Bytes that are made room for, on the word of the volume alone.
const PREALLOCATED_BYTES: u64 = 1 << 20;

impl Store {
    /// Read the whole tree `digest` and compare it with what was published. A listing that was lost is written again
    /// if the tree is whole.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); what the volume refuses.
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        self.verify_in(&self.directory(STORE)?, digest)
    }

    pub(super) fn verify_in(&self, store: &Directory, digest: &Digest) -> Result<(), StoreError> {
        match check_in(store, digest)? {
            Some(lost) => self.put(store, &listing_name(digest), lost.to_string().as_bytes()),
            None => Ok(()),
        }
    }

    /// Read the whole tree `digest` and compare it with what was published; its listing, if that was lost and the tree is
    /// whole. Nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Drifted`] names the first entry that differs; [`StoreError::NoSuchTree`].
    pub fn check(&self, digest: &Digest) -> Result<Option<Listing>, StoreError> {
        check_in(&self.directory(STORE)?, digest)
    }

    /// What was published as `digest`. It is proven by the digest, so a change on the volume cannot forge it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTree`]; [`StoreError::Drifted`] if the listing is lost and the tree is not whole.
    pub fn listing(&self, digest: &Digest) -> Result<Listing, StoreError> {
        self.listing_in(&self.directory(STORE)?, digest)
    }

    fn listing_in(&self, store: &Directory, digest: &Digest) -> Result<Listing, StoreError> {
        if let Some(listing) = stored_listing(store, digest)? {
            return Ok(listing);
        }
        self.verify_in(store, digest)?;
        stored_listing(store, digest)?.ok_or(StoreError::NoSuchTree { digest: *digest })
    }

    /// The digest of the file at `path` in the tree `digest`, links within the tree followed, as it was published;
    /// `None` if there is no such file. A tree that is gone is not found by its listing: kubelet would make an empty
    /// directory in its place for the Job that mounts it.
    ///
    /// # Errors
    /// As for [`listing`](Self::listing); [`StoreError::Drifted`] if the tree has lost its marker.
    pub fn entrypoint_digest(&self, digest: &Digest, path: &RelativePath) -> Result<Option<Digest>, StoreError> {
        let store = self.directory(STORE)?;
        check_marker(&tree_in(&store, digest)?, digest)?;
        let listing = self.listing_in(&store, digest)?;
        Ok(match listing.resolve(path) {
            Some((_, Entry::File { digest, .. })) => Some(*digest),
            _ => None,
        })
    }

    /// The content of the file at `path` in the tree `digest`, links within the tree followed; `None` if there is no
    /// such file.
    ///
    /// # Errors
    /// [`StoreError::FileTooLarge`] beyond `limit` bytes; [`StoreError::Drifted`] if the file is not the one that was
    /// published; as for [`listing`](Self::listing).
    pub fn read_small(&self, digest: &Digest, path: &RelativePath, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let store = self.directory(STORE)?;
        let listing = self.listing_in(&store, digest)?;
        let Some((real, Entry::File { digest: expected, bytes, .. })) = listing.resolve(path) else {
            return Ok(None);
        };
        if *bytes > limit {
            let path = path.to_string();
            return Err(StoreError::FileTooLarge { digest: *digest, path, bytes: *bytes, limit });
        }
        let drifted = |drift| StoreError::Drifted { digest: *digest, drift };
        let content = read_entry(&tree_in(&store, digest)?, digest, real, limit)?;
        let content = content.ok_or_else(|| drifted(Drift::Missing(real.to_owned())))?;
        match Digest::of(&content) == *expected {
            true => Ok(Some(content)),
            false => Err(drifted(Drift::Changed(real.to_owned()))),
        }
    }

    /// The digests of all trees in the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn trees(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(self.directory(STORE)?.names()?.iter().filter_map(|name| tree_digest(name)).collect())
    }
}

fn check_in(store: &Directory, digest: &Digest) -> Result<Option<Listing>, StoreError> {
    let root = tree_in(store, digest)?;
    check_marker(&root, digest)?;
    let drifted = |drift| Err(StoreError::Drifted { digest: *digest, drift });
    let stored = stored_listing(store, digest)?;
    let found = match tree::list(&root.fd, &root.path) {
        Ok(found) => found,
        Err(StoreError::Unpublishable { path, .. } | StoreError::Unreadable { path, .. }) => {
            return drifted(match &stored {
                Some(listing) if listing.get(&path).is_none() => Drift::Added(path),
                _ => Drift::Changed(path),
            });
        }
        Err(error) => return Err(error),
    };
    match stored {
        Some(listing) => listing.drift(&found).map_or(Ok(None), drifted),
        None if found.digest() == *digest => Ok(Some(found)),
        None => drifted(Drift::Unknown),
    }
}

fn tree_in(store: &Directory, digest: &Digest) -> Result<Directory, StoreError> {
    let name = tree_name(digest);
    match beneath::open_directory(&store.fd, Some(&name)) {
        Ok(fd) => Ok(Directory { fd, path: store.path.join(name) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::NoSuchTree { digest: *digest }),
        Err(error) if is_no_directory(&error) || (is_closed(&error) && store.is_of_another(&name)?) => {
            Err(StoreError::Drifted { digest: *digest, drift: Drift::Replaced })
        }
        Err(error) => Err(StoreError::io("open", store.path.join(name), error)),
    }
}

/// The listing that is stored for `digest`, if it is the one of that digest.
fn stored_listing(store: &Directory, digest: &Digest) -> Result<Option<Listing>, StoreError> {
    let content = read_or_lost(store, &listing_name(digest), MAX_LISTING_BYTES)?;
    let content = content.filter(|content| Digest::of(content) == *digest);
    Ok(content.and_then(|content| String::from_utf8(content).ok()).and_then(|text| Listing::parse(&text)))
}

fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Refuse a tree without its marker.
fn check_marker(root: &Directory, digest: &Digest) -> Result<(), StoreError> {
    let drifted = |drift| Err(StoreError::Drifted { digest: *digest, drift });
    match read_entry(root, digest, TREE_MARKER, 128)? {
        None => drifted(Drift::Missing(TREE_MARKER.to_owned())),
        Some(content) if content != format!("{digest}\n").as_bytes() => drifted(Drift::Changed(TREE_MARKER.to_owned())),
        Some(_) => Ok(()),
    }
}

/// What [`read_file`] gives of the tree `digest`. Its entries are the operator's: one that may not be read was changed.
fn read_entry(root: &Directory, digest: &Digest, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    match read_file(root, path, limit) {
        Err(StoreError::Denied { .. }) => {
            Err(StoreError::Drifted { digest: *digest, drift: Drift::Changed(path.to_owned()) })
        }
        read => read,
    }
}

/// What [`read_file`] gives of a file that is written again where it is lost: one that may not be read is as good as lost.
pub(super) fn read_or_lost(directory: &Directory, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    match read_file(directory, path, limit) {
        Err(StoreError::Denied { .. }) => Ok(None),
        read => read,
    }
}

/// The first `limit` bytes and one more of the regular file at `path` in `directory`; `None` if there is none.
pub(super) fn read_file(directory: &Directory, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(beneath::open(&directory.fd, Some(path), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let most = limit.saturating_add(1);
        // one byte more, so that the end is met without growing
        let expected = metadata.len().saturating_add(1).min(most).min(PREALLOCATED_BYTES);
        let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
        file.take(most).read_to_end(&mut content)?;
        Ok(Some(content))
    };
    match read() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        read => read.map_err(|error| StoreError::io("read", directory.path.join(path), error)),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
