//! Publishing: what a tree looks like on the volume, and what it is made from.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::archive::LinkFault;
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

#[test]
fn the_digest_is_the_one_that_its_documentation_describes() {
    let volume = volume();
    let tree = publish(&volume.store, &[("b", "x#!\n"), ("a b/ü", ""), ("l", ">b")]);
    let listing = "d\ta b\n\
        f\ta b/ü\te3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\t0\n\
        x\tb\t26a66825c1fc56bd2ed71a51d320cd8be68af137ff91b978b66695af5666f560\t3\n\
        l\tl\tb\n";
    assert_eq!(tree.digest, Digest::of(listing));
    let stored = volume.extensions().join(STORE).join(listing_name(&tree.digest));
    assert_eq!(fs::read_to_string(stored).unwrap(), listing);
}

#[test]
fn the_same_content_is_published_once() {
    let volume = volume();
    let files = [("run", "x1"), ("d/f", "2")];
    let first = publish(&volume.store, &files);
    let inode = |digest: &Digest| fs::metadata(volume.tree(digest)).unwrap().ino();
    let before = inode(&first.digest);
    let again = publish(&volume.store, &files);
    assert_eq!(again, Tree { reused: true, ..first.clone() });
    assert_eq!(inode(&first.digest), before);
    for other in [[("run", "1"), ("d/f", "2")], [("run", "x1"), ("d/g", "2")], [("run", "x1"), ("d/f", "3")]] {
        assert_ne!(publish(&volume.store, &other).digest, first.digest, "{other:?}");
    }
    assert!(volume.staging_is_empty());
}

#[test]
fn a_tree_that_was_changed_on_the_volume_is_replaced() {
    let volume = volume();
    let files = [("run", "x1"), ("d/f", "2")];
    let first = publish(&volume.store, &files);
    overwrite(&volume.tree(&first.digest).join("d/f"), "evil");
    let again = publish(&volume.store, &files);
    assert_eq!(again, first);
    volume.store.verify(&first.digest).unwrap();
    assert_eq!(volume.trash().len(), 1);
}

#[test]
fn only_the_chosen_directory_is_published() {
    let volume = volume();
    let files = [("README", "no"), ("a/b/run", "x1"), ("a/b/l", ">run"), ("a/other", "no")];
    let tree = publish_below(&volume.store, &files, "a/b").unwrap();
    let same = publish(&volume.store, &[("run", "x1"), ("l", ">run")]);
    assert_eq!((tree.files, tree.digest), (1, same.digest));
    assert!(same.reused);
    assert!(!volume.tree(&tree.digest).join("README").exists());
    assert!(volume.staging_is_empty());
}

#[test]
fn a_chosen_directory_must_be_one() {
    let volume = volume();
    for below in ["nothing", "file", "link", "link/sub"] {
        let files = [("file", ""), ("dir/sub/f", ""), ("link", ">dir")];
        let error = publish_below(&volume.store, &files, below).unwrap_err();
        assert_eq!(error.to_string(), format!("publish: {below:?} is no directory of the source; check source.path"));
    }
    assert!(volume.staging_is_empty());
}

#[test]
fn links_must_not_lead_out_of_what_is_published() {
    let volume = volume();
    let error = publish_below(&volume.store, &[("a/l", ">../secret"), ("a/f", ""), ("secret", "s")], "a").unwrap_err();
    assert!(matches!(error, StoreError::Link { fault: LinkFault::Escapes, .. }), "{error}");
    assert!(error.to_string().starts_with("publish: symbolic link \"l\" to \"../secret\": the target is outside"));
    assert!(!error.is_transient());
    assert!(volume.store.trees().unwrap().is_empty());
}

#[test]
fn what_is_no_extension_is_not_published() {
    let volume = volume();
    let store = &volume.store;
    let refused = |staging| store.publish(staging, None).unwrap_err().to_string();
    assert_eq!(refused(stage(store, &[])), "publish: \".\": the directory holds no file");
    let text = refused(stage(store, &[(".outrigger-tree", "sha256:0")]));
    assert_eq!(text, "publish: \".outrigger-tree\": the name is reserved for the marker of an installed tree");
    let staging = stage(store, &[("f", "")]);
    let made = std::process::Command::new("mkfifo").arg(staging.path().join("pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(refused(staging), "publish: \"pipe\": it is no file, directory or symbolic link");
    assert!(volume.staging_is_empty() && store.trees().unwrap().is_empty());
}

#[test]
fn a_failure_at_any_step_leaves_no_tree_and_can_be_repeated() {
    let steps = [
        Step::Seal,
        Step::WriteMarker,
        Step::WriteListing,
        Step::SyncTree,
        Step::RenameListing,
        Step::RenameTree,
        Step::SealRoot,
        Step::SyncStore,
    ];
    for failing in steps {
        let volume = volume();
        let full = move |step| if step == failing { Err(rustix::io::Errno::NOSPC.into()) } else { Ok(()) };
        let store = Store::observed(&volume.root, full);
        let error = store.publish(stage(&store, &[("d/run", "x1")]), None).unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(volume.staging_is_empty(), "{failing:?}");
        for digest in volume.store.trees().unwrap() {
            assert!(failing > Step::RenameTree, "{failing:?}");
            volume.store.verify(&digest).unwrap();
        }
        let tree = publish(&volume.store, &[("d/run", "x1")]);
        volume.store.verify(&tree.digest).unwrap();
        assert_eq!(fs::metadata(volume.tree(&tree.digest)).unwrap().mode() & 0o777, 0o555);
    }
}

#[test]
fn a_drifted_tree_stays_until_a_whole_one_takes_its_place() {
    for failing in [None, Some(Step::SyncTree), Some(Step::ExchangeTree)] {
        let volume = volume();
        let digest = publish(&volume.store, &[("run", "x1")]).digest;
        volume.store.link(&name("x"), &digest).unwrap();
        let linked = volume.extensions().join("x/run");
        overwrite(&linked, "evil");
        let seen = linked.clone();
        let store = Store::observed(&volume.root, move |step| {
            assert!(seen.exists(), "{step:?}");
            if Some(step) == failing { Err(rustix::io::Errno::NOSPC.into()) } else { Ok(()) }
        });
        let published = store.publish(stage(&store, &[("run", "x1")]), None);
        assert_eq!(published.is_err(), failing.is_some(), "{failing:?}");
        assert_eq!(fs::read_to_string(&linked).unwrap(), if failing.is_some() { "evil" } else { "1" });
        assert!(volume.staging_is_empty());
        assert_eq!(volume.trash().len(), usize::from(failing.is_none()));
    }
}

#[test]
fn the_same_tree_is_published_from_many_threads() {
    let volume = volume();
    let reused = std::thread::scope(|scope| {
        let publish = || publish(&volume.store, &[("a/b", "1"), ("c", "x2")]);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(publish)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().reused).collect::<Vec<_>>()
    });
    assert_eq!(reused.iter().filter(|reused| !**reused).count(), 1);
    let [digest] = volume.store.trees().unwrap()[..] else { panic!("one tree") };
    volume.store.verify(&digest).unwrap();
    assert!(volume.staging_is_empty());
}

#[test]
fn what_is_dropped_is_removed_when_the_next_work_begins() {
    let volume = volume();
    let dropped = stage(&volume.store, &[("half", "done")]);
    let path = dropped.path().to_owned();
    drop(dropped);
    assert!(path.exists(), "whoever drops it does not wait for the volume");
    volume.store.stage().unwrap().remove();
    assert!(volume.staging_is_empty());
}
