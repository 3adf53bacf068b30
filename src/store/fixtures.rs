//! What the tests of the store share: a volume, and trees on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::layout::{EXTENSIONS, ExtensionName, STAGING, TRASH, tree_subpath};
use super::{RelativePath, Staging, Store, StoreError, Tree};
use crate::digest::Digest;

/// A store on a volume that goes away with it.
pub(super) struct Volume {
    pub(super) store: Store,
    pub(super) root: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

pub(super) fn volume() -> Volume {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    Volume { store: Store::open(&root).unwrap(), root, _directory: Some(directory) }
}

impl Volume {
    /// A volume that somebody else removes, once it was dropped.
    pub(super) fn existing(root: &Path) -> Self {
        Self { store: Store::open(root).unwrap(), root: root.to_owned(), _directory: None }
    }

    pub(super) fn tree(&self, digest: &Digest) -> PathBuf {
        self.root.join(tree_subpath(digest))
    }

    pub(super) fn extensions(&self) -> PathBuf {
        self.root.join(EXTENSIONS)
    }

    pub(super) fn staging_is_empty(&self) -> bool {
        fs::read_dir(self.extensions().join(STAGING)).unwrap().next().is_none()
    }
}

impl Volume {
    pub(super) fn trash(&self) -> Vec<PathBuf> {
        fs::read_dir(self.extensions().join(TRASH)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        make_writable(&self.root);
    }
}

/// Sealed directories cannot be emptied by a user without root's rights.
fn make_writable(directory: &Path) {
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o755));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// Write files to a new staging directory. A content that begins with `>` is a link's target, with `x` an executable's.
pub(super) fn stage(store: &Store, files: &[(&str, &str)]) -> Staging {
    let staging = store.stage().unwrap();
    write(staging.path(), files);
    staging
}

pub(super) fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = content.strip_prefix('>') {
            std::os::unix::fs::symlink(target, path).unwrap();
            continue;
        }
        let mode = if content.starts_with('x') { 0o700 } else { 0o600 };
        fs::write(&path, content.strip_prefix('x').unwrap_or(content)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

pub(super) fn publish(store: &Store, files: &[(&str, &str)]) -> Tree {
    store.publish(stage(store, files), None).unwrap()
}

pub(super) fn publish_below(store: &Store, files: &[(&str, &str)], below: &str) -> Result<Tree, StoreError> {
    store.publish(stage(store, files), Some(&path(below)))
}

pub(super) fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

pub(super) fn name(text: &str) -> ExtensionName {
    ExtensionName::parse(text).unwrap()
}

/// Change a file of a sealed tree, as its owner can.
pub(super) fn overwrite(path: &Path, content: &str) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o644));
    allow_change(path);
    fs::write(path, content).unwrap();
}

/// Remove a file of a sealed tree, as its owner can.
pub(super) fn remove_file(path: &Path) {
    allow_change(path);
    fs::remove_file(path).unwrap();
}

fn allow_change(path: &Path) {
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
}
