//! The trash: nothing is deleted that is in use, and what is used again comes back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::*;
use crate::store::Collected;
use crate::store::fixtures::*;

const GRACE: Duration = Duration::from_secs(60);

fn collect(volume: &Volume, kept: &[Digest], mounted: &[Digest], seconds: u64) -> Collected {
    let used = Used { kept: kept.iter().copied().collect(), mounted: mounted.iter().copied().collect() };
    volume.store.collect(&used, SystemTime::now() + Duration::from_secs(seconds), GRACE).unwrap()
}

#[test]
fn a_tree_that_drifted_stays_in_the_trash_as_long_as_an_action_has_it_mounted() {
    let volume = volume();
    let files = [("run", "x1"), ("d/f", "2")];
    let digest = publish(&volume.store, &files).digest;
    overwrite(&volume.tree(&digest).join("d/f"), "evil");
    assert!(!publish(&volume.store, &files).reused);
    assert_eq!(collect(&volume, &[digest], &[digest], 1000), Collected::default());
    assert_eq!(fs::read_to_string(volume.trash()[0].join("d/f")).unwrap(), "evil");
    assert_eq!(collect(&volume, &[digest], &[], 1000), Collected { deleted: 1, ..Collected::default() });
    volume.store.verify(&digest).unwrap();
}

#[test]
fn a_tree_that_drifted_is_not_lost_to_its_actions_by_a_crash_while_it_is_replaced() {
    let volume = volume();
    let files = [("run", "x1"), ("d/f", "2")];
    let digest = publish(&volume.store, &files).digest;
    overwrite(&volume.tree(&digest).join("d/f"), "evil");
    let snapshots = tempfile::tempdir().unwrap();
    let taken: Arc<Mutex<Vec<(Step, PathBuf)>>> = Arc::default();
    let (root, to, list) = (volume.root.clone(), snapshots.path().to_owned(), taken.clone());
    let store = Store::observed(&volume.root, move |step| {
        let mut list = list.lock().unwrap();
        let path = to.join(list.len().to_string());
        assert!(Command::new("cp").arg("-a").arg(&root).arg(&path).status()?.success());
        list.push((step, path));
        Ok(())
    });
    assert!(!publish(&store, &files).reused);
    for (step, path) in taken.lock().unwrap().iter() {
        let crashed = Volume::existing(path);
        crashed.store.recover().unwrap();
        collect(&crashed, &[digest], &[digest], 1000);
        let places = crashed.trash().into_iter().chain([crashed.tree(&digest)]);
        let evil = places.filter(|place| fs::read_to_string(place.join("d/f")).is_ok_and(|text| text == "evil"));
        assert_eq!(evil.count(), 1, "{step:?}");
    }
}

#[test]
fn a_start_deletes_nothing_that_may_be_in_use() {
    let volume = volume();
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    assert_eq!(collect(&volume, &[], &[], 100).trashed, [digest]);
    let old = volume.trash().remove(0);
    fs::rename(&old, old.with_file_name(format!("1-0-{}", tree_name(&digest)))).unwrap();
    volume.store.recover().unwrap();
    assert_eq!(volume.trash().len(), 1);
    assert_eq!(collect(&volume, &[], &[digest], 0).restored, [digest]);
}

#[test]
fn a_runner_stays_in_the_trash_while_any_action_may_run_it() {
    let volume = volume();
    let source = volume.root.join("built");
    fs::write(&source, "ELF").unwrap();
    let installed = volume.store.install_runner(&source).unwrap();
    overwrite(&volume.root.join(installed.subpath).join("outrigger-runner"), "evil");
    volume.store.install_runner(&source).unwrap();
    assert_eq!(collect(&volume, &[], &[Digest::of("any")], 1000), Collected::default());
    assert_eq!(collect(&volume, &[], &[], 1000).deleted, 1);
}

#[test]
fn what_a_deletion_that_was_cut_off_closed_to_others_comes_back_open() {
    let volume = volume();
    let digest = publish(&volume.store, &[("d/f", "1")]).digest;
    assert_eq!(collect(&volume, &[], &[], 100).trashed, [digest]);
    let trashed = volume.trash().remove(0);
    for directory in [trashed.clone(), trashed.join("d")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(collect(&volume, &[digest], &[], 100).restored, [digest]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(volume.tree(&digest)), mode(volume.tree(&digest).join("d"))), (0o555, 0o555));
}

#[test]
fn a_tree_in_the_trash_comes_back_to_where_an_empty_directory_was_made() {
    let volume = volume();
    let digest = publish(&volume.store, &[("d/f", "1")]).digest;
    assert_eq!(collect(&volume, &[], &[], 100).trashed, [digest]);
    fs::create_dir(volume.tree(&digest)).unwrap();
    assert_eq!(collect(&volume, &[digest], &[], 100).restored, [digest]);
    volume.store.verify(&digest).unwrap();
}

#[test]
fn what_is_no_tree_in_the_trash_does_not_end_a_collection() {
    let volume = volume();
    let (digest, unused) = (publish(&volume.store, &[("f", "1")]).digest, publish(&volume.store, &[("f", "2")]).digest);
    let trash = volume.extensions().join(TRASH);
    fs::write(trash.join(format!("1-0-{}", tree_name(&digest))), "theirs").unwrap();
    std::os::unix::fs::symlink("/etc", trash.join(format!("1-1-{}", tree_name(&digest)))).unwrap();
    fs::remove_dir_all(volume.tree(&digest)).unwrap();
    assert_eq!(collect(&volume, &[digest], &[], 100).trashed, [unused]);
}
