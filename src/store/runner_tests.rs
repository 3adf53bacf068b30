//! The runner's binary: under its digest, whole or not at all.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::store::fixtures::*;

#[test]
fn the_runner_is_installed_once_under_its_digest() {
    let volume = volume();
    let source = volume.root.join("built");
    fs::write(&source, "ELF").unwrap();
    let installed = volume.store.install_runner(&source).unwrap();
    assert_eq!(installed.digest, Digest::of("ELF"));
    let binary = volume.root.join(&installed.subpath).join(RUNNER_BINARY);
    let before = fs::metadata(&binary).unwrap();
    assert_eq!(before.mode() & 0o7777, 0o555);
    assert_eq!(volume.store.install_runner(&source).unwrap(), installed);
    assert_eq!(fs::metadata(&binary).unwrap().ino(), before.ino());
    assert!(volume.staging_is_empty());
}

#[test]
fn a_damaged_runner_is_replaced() {
    let volume = volume();
    let source = volume.root.join("built");
    fs::write(&source, "ELF").unwrap();
    let installed = volume.store.install_runner(&source).unwrap();
    let binary = volume.root.join(&installed.subpath).join(RUNNER_BINARY);
    overwrite(&binary, "evil");
    volume.store.install_runner(&source).unwrap();
    assert_eq!(fs::read_to_string(&binary).unwrap(), "ELF");
    remove_file(&binary);
    volume.store.install_runner(&source).unwrap();
    assert_eq!(fs::read_to_string(&binary).unwrap(), "ELF");
    assert_eq!(volume.trash().len(), 1, "an empty directory is nothing to keep");
}

#[test]
fn a_runner_that_cannot_be_read_or_written_leaves_nothing() {
    let volume = volume();
    let text = volume.store.install_runner(&volume.root.join("missing")).unwrap_err().to_string();
    assert!(text.starts_with("read ") && text.contains("missing: "), "{text}");
    let source = volume.root.join("built");
    fs::write(&source, "ELF").unwrap();
    let full = Box::new(|_| Err(rustix::io::Errno::NOSPC.into()));
    let error = Store::observed(&volume.root, full).install_runner(&source).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(volume.staging_is_empty());
}
