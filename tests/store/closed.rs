//! Trees in which something is closed to the operator's user, by somebody's chmod or because root put it there: they are
//! damaged like others, and replaced without anything of their inside being read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use outrigger::store::layout::{listing_name, tree_subpath};
use outrigger::store::{RelativePath, Store, StoreError};

use crate::volume::{GRACE, Shared, install, later, operated, used};

const TEST: &str = "closed::what_the_operator_may_not_read_in_a_tree_is_damage_and_is_replaced";
const CONTENT: &str = "good";
const MARKER: &str = ".outrigger-tree";

/// What the operator does, as its own user.
fn operate(volume: &Path, part: &str) {
    let store = Store::open(volume).unwrap();
    if part == "install" {
        install(&store, CONTENT, 100).unwrap();
        return;
    }
    let digest = store.trees().unwrap()[0];
    let (tree, store_directory) = (volume.join(tree_subpath(&digest)), volume.join("extensions/.store"));
    let close = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    let damaged = |expected: &str| {
        let error = store.verify(&digest).unwrap_err();
        assert!(error.is_damage() && error.to_string().ends_with(expected), "{error}");
    };
    let repaired = || {
        assert!(!install(&store, CONTENT, 100).unwrap().reused);
        store.verify(&digest).unwrap();
    };
    match part {
        "own" => {
            for path in ["run.sh", "lib", "lib/small", MARKER] {
                close(&tree.join(path));
                damaged(&format!("{path:?} was changed on the volume"));
                repaired();
            }
            close(&tree.join("run.sh"));
            let path = RelativePath::parse("run.sh").unwrap();
            let error = store.read_small(&digest, &path, 100).unwrap_err();
            assert!(error.is_damage(), "{error}");
            repaired();
            // what is closed to its owner can still be deleted
            assert_eq!(store.collect(&used(digest), later(100), GRACE).unwrap().deleted, 5);
        }
        "kept" => {
            let manifest = store.keep_manifest(b"{}").unwrap();
            for entry in fs::read_dir(&store_directory).unwrap().flatten() {
                if entry.path().is_file() {
                    close(&entry.path());
                }
            }
            store.verify(&digest).unwrap();
            assert!(fs::read(store_directory.join(listing_name(&digest))).is_ok());
            assert_eq!(store.manifest(&manifest).unwrap(), None);
            store.keep_manifest(b"{}").unwrap();
            assert_eq!(store.manifest(&manifest).unwrap().unwrap(), b"{}");
        }
        "added" => {
            damaged("\"theirs\" was added on the volume");
            repaired();
        }
        "undeletable" => {
            let deleted = |seconds| store.collect(&used(digest), later(seconds), GRACE);
            let error = deleted(100).unwrap_err();
            assert!(matches!(error, StoreError::Denied { .. }), "{error}");
            // said once, and in nobody's way
            fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o000)).unwrap();
            repaired();
            assert_eq!(deleted(100).unwrap().deleted, 1);
            deleted(200).unwrap();
            assert_eq!(fs::read_dir(volume.join("extensions/.trash")).unwrap().count(), 1);
        }
        other => panic!("{other}"),
    }
    assert_eq!(fs::read_dir(volume.join("extensions/.staging")).unwrap().count(), 0);
}

#[test]
fn what_the_operator_may_not_read_in_a_tree_is_damage_and_is_replaced() {
    if let Some((volume, part)) = operated() {
        return operate(&volume, &part);
    }
    let Some(shared) = Shared::new(TEST) else { return };
    for part in ["install", "own", "kept"] {
        shared.operate(part);
    }
    let volume = shared.volume();
    let theirs = volume.join("extensions/x/theirs");
    fs::write(&theirs, "").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).unwrap();
    shared.operate("added");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("secret"), "").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o700)).unwrap();
    shared.operate("added");
    shared.operate("undeletable");
}
