//! Publishing: what a tree looks like on the volume, and what a crash at any step leaves.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::store::fixtures::*;

#[test]
fn a_published_tree_is_read_only_marked_and_named_by_its_digest() {
    let volume = volume();
    let tree = publish(&volume.store, &[("run.sh", "x#!/bin/sh\n"), ("lib/a.py", "print()\n"), ("link", ">lib/a.py")]);
    let root = volume.tree(&tree.digest);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("run.sh"), mode("lib/a.py"), mode("lib"), mode("")), (0o555, 0o444, 0o555, 0o555));
    assert_eq!(fs::read_to_string(root.join(TREE_MARKER)).unwrap(), format!("{}\n", tree.digest));
    assert_eq!(mode(TREE_MARKER), 0o444);
    assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "print()\n");
    assert_eq!((tree.files, tree.bytes, tree.reused), (2, 18, false));
    assert!(volume.staging_is_empty());
    volume.store.verify(&tree.digest).unwrap();
}
