//! Faults of the volume: each is named, what was good stays, and it goes on when the fault has passed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use outrigger::store::{LazyStore, Store, StoreError};

use crate::volume::{
    GRACE, again, assert_intact, copy_this_program, fill, install, is_again, later, name, on_a_volume, publish, sh,
    used,
};

/// A tree's directory.
fn at(volume: &Path, tree: &outrigger::digest::Digest) -> std::path::PathBuf {
    volume.join(outrigger::store::layout::tree_subpath(tree))
}

#[test]
fn wherever_the_space_ends_the_last_good_tree_stays_and_space_is_all_that_is_missing() {
    on_a_volume(
        "faults::wherever_the_space_ends_the_last_good_tree_stays_and_space_is_all_that_is_missing",
        "2m",
        |volume, real| {
            let store = Store::open(volume).unwrap();
            let good = install(&store, "good", 9000).unwrap().digest;
            let (mut failed, mut succeeded) = (0, 0);
            for left in (0..160 << 10).step_by(4096) {
                fill(real, left);
                match install(&store, &format!("{left:06}"), 65_000) {
                    Ok(tree) => {
                        succeeded += 1;
                        assert_intact(volume, &tree.digest);
                        store.link(&name(), &good).unwrap();
                    }
                    Err(StoreError::NoSpace { doing }) => {
                        failed += 1;
                        assert!(!doing.is_empty());
                    }
                    Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                        failed += 1
                    }
                    Err(error) => panic!("{left} bytes left: {error}"),
                }
                fs::remove_file(real.join("filler")).unwrap();
                assert_intact(volume, &good);
                // what succeeded makes room for the next
                store.collect(&used(good), later(100), GRACE).unwrap();
                store.collect(&used(good), later(300), GRACE).unwrap();
            }
            assert!(failed > 3 && succeeded > 3, "{failed} failed, {succeeded} succeeded");
        },
    );
}

#[test]
fn a_full_volume_is_swept_collected_and_read_and_opens_by_itself() {
    on_a_volume("faults::a_full_volume_is_swept_collected_and_read_and_opens_by_itself", "2m", |volume, real| {
        let store = Store::open(volume).unwrap();
        let good = install(&store, "good", 9000).unwrap().digest;
        let unused = publish(&store, "unused", 300_000).unwrap().digest;
        fill(real, 0);
        assert!(matches!(Store::open(volume), Err(StoreError::NoSpace { .. })), "it cannot even be tried out");

        // a start on a full volume: what is there is of use, and what is asked for says why not
        let lazy = LazyStore::new(volume, None, || true);
        let text = lazy.open().unwrap_err().to_string();
        assert!(text.ends_with("no space or no inode is left on the volume; enlarge it or remove unused extensions"));
        let store = lazy.get().unwrap();
        store.verify(&good).unwrap();
        assert_intact(volume, &good);
        // collection needs no room, and makes some
        assert_eq!(store.collect(&used(good), later(100), GRACE).unwrap().trashed, [unused]);
        assert_eq!(store.collect(&used(good), later(300), GRACE).unwrap().deleted, 1);
        lazy.open().unwrap();
        install(store, "next", 9000).unwrap();

        // unfinished work of a process that was killed is what fills the volume
        let staging = store.stage().unwrap();
        fs::remove_file(real.join("filler")).unwrap();
        fs::write(staging.path().join("large"), vec![0; 500_000]).unwrap();
        std::mem::forget(staging);
        fill(real, 0);
        let next = LazyStore::new(volume, None, || true);
        assert_eq!(next.open().unwrap().staging, 1);
    });
}

#[test]
fn a_read_only_volume_is_read_and_written_again_when_it_can_be() {
    on_a_volume("faults::a_read_only_volume_is_read_and_written_again_when_it_can_be", "2m", |volume, _| {
        let store = Store::open(volume).unwrap();
        let good = install(&store, "good", 9000).unwrap().digest;
        let staging = store.stage().unwrap();
        fs::write(staging.path().join("run.sh"), "half").unwrap();
        sh(&format!("mount -o remount,bind,ro {}", volume.display()));
        for error in [
            store.publish(staging, None).map(drop).unwrap_err(),
            publish(&store, "next", 10).map(drop).unwrap_err(),
            store.unlink(&name()).map(drop).unwrap_err(),
            store.keep_manifest(b"{}").map(drop).unwrap_err(),
            LazyStore::new(volume, None, || true).open().map(drop).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.ends_with("the volume is read-only; mount it read-write, with access mode ReadWriteMany"),
                "{text}"
            );
            assert!(error.is_transient() && !error.is_damage());
        }
        store.verify(&good).unwrap();
        let late = LazyStore::new(volume, None, || true);
        late.get().unwrap().verify(&good).unwrap();

        sh(&format!("mount -o remount,bind,rw {}", volume.display()));
        let next = install(&store, "next", 9000).unwrap().digest;
        assert_intact(volume, &next);
        late.open().unwrap();
    });
}

#[test]
fn a_volume_that_was_closed_to_the_user_is_named_and_opens_again() {
    const TEST: &str = "faults::a_volume_that_was_closed_to_the_user_is_named_and_opens_again";
    if !is_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = directory.path().join("tests");
        copy_this_program(&program);
        // the test's own program may lie where others have no right
        let user =
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
        let program = program.display().to_string();
        let script = format!("exec {program} --exact --nocapture {TEST}");
        let ran = again(TEST, "2m", directory.path(), &[&user[..], &["sh", "-c", &script]].concat());
        let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && output.contains("1 passed"), "{output}");
        return;
    }
    assert!(!rustix::process::geteuid().is_root());
    on_a_volume(TEST, "2m", |volume, _| {
        let store = Store::open(volume).unwrap();
        let good = install(&store, "good", 9000).unwrap().digest;
        let mode = |directory: &str, mode: u32| {
            fs::set_permissions(volume.join(directory), fs::Permissions::from_mode(mode)).unwrap();
        };
        for (directory, before) in [("extensions/.staging", 0o700), ("extensions/.store", 0o755), ("extensions", 0o755)]
        {
            mode(directory, 0o555);
            let error = install(&store, directory, 9000).unwrap_err();
            let denied = "permission denied; the volume must belong to the operator's user or fsGroup";
            assert!(error.to_string().ends_with(denied), "{directory}: {error}");
            // an operator that starts now
            let lazy = LazyStore::new(volume, None, || true);
            let opens = lazy.open().map(drop);
            assert_eq!(opens.is_err(), directory == "extensions/.staging", "{directory}: {opens:?}");
            assert_eq!(lazy.get().unwrap().linked(&name()).unwrap(), Some(good), "{directory}");
            mode(directory, before);
            assert_intact(volume, &good);
        }
        let next = install(&store, "next", 9000).unwrap().digest;
        assert_intact(volume, &next);
    });
}

#[test]
fn a_volume_that_vanishes_and_comes_back_is_found_again() {
    on_a_volume("faults::a_volume_that_vanishes_and_comes_back_is_found_again", "2m", |volume, real| {
        let store = Store::open(volume).unwrap();
        let good = install(&store, "good", 9000).unwrap().digest;
        let staging = store.stage().unwrap();
        fs::write(staging.path().join("run.sh"), "half").unwrap();
        sh(&format!("umount -l {}", volume.display()));
        for error in [
            store.publish(staging, None).map(drop).unwrap_err(),
            store.verify(&good).unwrap_err(),
            store.stage().map(drop).unwrap_err(),
            store.unlink(&name()).map(drop).unwrap_err(),
            store.collect(&Default::default(), later(500), GRACE).map(drop).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains("the volume is gone or does not answer") && text.contains("check its server"),
                "{text}"
            );
            assert!(error.is_transient() && !error.is_damage());
        }
        assert!(fs::read_dir(volume).unwrap().next().is_none(), "nothing is written where the volume was");

        sh(&format!("mount --bind {} {}", real.display(), volume.display()));
        store.verify(&good).unwrap();
        // this also removes what could not be removed
        let next = install(&store, "next", 9000).unwrap().digest;
        assert_intact(volume, &next);
    });
}

#[test]
fn what_lies_in_a_trees_place_is_moved_away_and_the_tree_published_again() {
    on_a_volume("faults::what_lies_in_a_trees_place_is_moved_away_and_the_tree_published_again", "2m", |volume, _| {
        let store = Store::open(volume).unwrap();
        let good = install(&store, "good", 9000).unwrap().digest;
        let tree = at(volume, &good);
        let list = tree.with_extension("list");
        for (put, text) in [
            ("rm -rf TREE; echo theirs > TREE", "its directory was replaced by something else on the volume"),
            ("rm -rf TREE; ln -s /etc TREE", "its directory was replaced by something else on the volume"),
            (
                "rm -rf TREE; mkdir -p TREE/lib; echo theirs > TREE/run.sh",
                "\".outrigger-tree\" was removed from the volume",
            ),
        ] {
            sh(&put.replace("TREE", &tree.display().to_string()));
            let error = store.verify(&good).unwrap_err();
            assert_eq!(error.to_string(), format!("verify tree {good}: {text}"));
            assert!(error.is_damage());
            assert_eq!(install(&store, "good", 9000).unwrap().digest, good);
            assert_intact(volume, &good);
        }
        // a listing can be written again from a tree that is whole
        sh(&format!("rm {0}; mkdir -p {0}/theirs", list.display()));
        store.verify(&good).unwrap();
        assert!(list.is_file());
        // nothing of it was deleted, only moved away
        assert_eq!(fs::read_dir(volume.join("extensions/.trash")).unwrap().count(), 4);
    });
}

#[test]
fn a_directory_of_the_store_that_is_no_directory_is_named() {
    on_a_volume("faults::a_directory_of_the_store_that_is_no_directory_is_named", "2m", |volume, _| {
        let store = Store::open(volume).unwrap();
        let good = install(&store, "good", 9000).unwrap().digest;
        sh(&format!("cd {}/extensions && rmdir .staging && echo theirs > .staging", volume.display()));
        let error = install(&store, "next", 9000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "open volume: extensions/.staging is in the way (no directory of the operator's) and was not made by outrigger; \
             move it away"
        );
        sh(&format!("cd {}/extensions && rm .staging && mkdir .staging", volume.display()));
        assert_intact(volume, &good);
        install(&store, "next", 9000).unwrap();
    });
}
