//! Sweeping: what a crash at any step leaves is put right, and what is used is never removed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::*;
use crate::store::fixtures::*;

const GRACE: Duration = Duration::from_secs(60);

fn later(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

fn keep(digests: &[Digest]) -> BTreeSet<Digest> {
    digests.iter().copied().collect()
}

#[test]
fn a_crash_at_any_step_leaves_a_store_that_recovers() {
    let volume = volume();
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
    let binary = volume.root.join("built");
    fs::write(&binary, "ELF").unwrap();
    let one = publish(&store, &[("d/run", "x1"), ("l", ">d/run")]).digest;
    store.link(&name("x"), &one).unwrap();
    let two = publish_below(&store, &[("top/d/run", "x2"), ("other", "")], "top").unwrap().digest;
    store.link(&name("x"), &two).unwrap();
    store.install_runner(&binary).unwrap();
    store.keep_manifest(b"{}").unwrap();
    assert_eq!(store.collect(&keep(&[]), later(100), GRACE).unwrap().trashed, [one]);
    assert_eq!(store.collect(&keep(&[]), later(200), GRACE).unwrap().deleted, 2);
    store.unlink(&name("x")).unwrap();

    let taken = taken.lock().unwrap();
    let steps: BTreeSet<Step> = taken.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps.len(), 19, "every step but the one for drifted trees: {steps:?}");
    for (step, path) in taken.iter() {
        let store = Store::open(path).unwrap();
        store.recover(SystemTime::now(), GRACE).unwrap();
        assert!(fs::read_dir(path.join("extensions/.staging")).unwrap().next().is_none(), "{step:?}");
        let trees = store.trees().unwrap();
        for digest in &trees {
            store.verify(digest).unwrap_or_else(|error| panic!("{step:?}: {error}"));
        }
        if let Some(digest) = store.linked(&name("x")).unwrap() {
            assert!(trees.contains(&digest), "{step:?}");
        }
        assert_eq!(store.recover(SystemTime::now(), GRACE).unwrap(), Recovered::default(), "{step:?}");
        assert_eq!(publish(&store, &[("d/run", "x1"), ("l", ">d/run")]).digest, one);
        store.install_runner(&binary).unwrap();
        drop(Volume::existing(path));
    }
}

#[test]
fn a_start_reports_dangling_links_and_what_is_not_its_own() {
    let volume = volume();
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    let at = |name: &str| volume.extensions().join(name);
    volume.store.link(&name("good"), &digest).unwrap();
    std::os::unix::fs::symlink(crate::store::layout::link_target(&Digest::of("x")), at("dangling")).unwrap();
    fs::create_dir(at("theirs")).unwrap();
    fs::write(at(".store/sha256-unrelated.list"), "").unwrap();
    fs::write(at(".store").join(listing_name(&Digest::of("x"))), "").unwrap();
    std::mem::forget(stage(&volume.store, &[("half", "done")]));
    let recovered = volume.store.recover(SystemTime::now(), GRACE).unwrap();
    let expected = Recovered {
        staging: 1,
        listings: 1,
        trash: 0,
        dangling: vec![name("dangling")],
        foreign: vec!["theirs".into()],
    };
    assert_eq!(recovered, expected);
    assert!(at("theirs").is_dir() && at("dangling").is_symlink() && at(".store/sha256-unrelated.list").exists());
}

#[test]
fn only_trees_that_nobody_uses_are_collected_and_only_slowly() {
    let volume = volume();
    let digest = |content: &str| publish(&volume.store, &[("f", content)]).digest;
    let (pinned, linked, unused) = (digest("1"), digest("2"), digest("3"));
    volume.store.link(&name("x"), &linked).unwrap();
    let collect = |seconds| volume.store.collect(&keep(&[pinned]), later(seconds), GRACE).unwrap();

    assert_eq!(collect(0), Collected::default(), "it was published just now");
    assert_eq!(collect(100), Collected { trashed: vec![unused], ..Collected::default() });
    assert_eq!(collect(150), Collected::default(), "it has not been in the trash for long");
    assert_eq!(volume.trash().len(), 1);
    assert_eq!(collect(170), Collected { deleted: 1, ..Collected::default() });
    assert!(volume.trash().is_empty());
    assert_eq!(keep(&volume.store.trees().unwrap()), keep(&[pinned, linked]));
}

#[test]
fn a_listing_whose_tree_did_not_get_into_its_place_is_collected() {
    let volume = volume();
    let full = |step| if step == Step::RenameTree { Err(rustix::io::Errno::NOSPC.into()) } else { Ok(()) };
    let store = Store::observed(&volume.root, full);
    assert!(store.publish(stage(&store, &[("f", "1")]), None).is_err());
    let listings = || fs::read_dir(volume.extensions().join(STORE)).unwrap().count();
    volume.store.collect(&keep(&[]), later(0), GRACE).unwrap();
    assert_eq!(listings(), 1, "its tree may be about to come");
    volume.store.collect(&keep(&[]), later(100), GRACE).unwrap();
    assert_eq!(listings(), 0);
}

#[test]
fn a_tree_that_is_published_again_is_young_again() {
    let volume = volume();
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    let listing = volume.extensions().join(STORE).join(listing_name(&digest));
    let old = fs::FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(1000));
    fs::File::open(&listing).unwrap().set_times(old).unwrap();
    assert!(publish(&volume.store, &[("f", "1")]).reused);
    assert_eq!(volume.store.collect(&keep(&[]), later(0), GRACE).unwrap(), Collected::default());
}

#[test]
fn a_tree_that_is_wanted_again_comes_back_from_the_trash() {
    let volume = volume();
    let digest = publish(&volume.store, &[("d/f", "1")]).digest;
    let collect = |wanted: &[Digest], seconds| volume.store.collect(&keep(wanted), later(seconds), GRACE).unwrap();
    assert_eq!(collect(&[], 100).trashed, [digest]);
    assert_eq!(collect(&[digest], 300), Collected { restored: vec![digest], ..Collected::default() });
    volume.store.verify(&digest).unwrap();

    assert_eq!(collect(&[], 500).trashed, [digest]);
    let trashed = volume.trash().remove(0);
    overwrite(&trashed.join("d/f"), "evil");
    assert_eq!(collect(&[digest], 510), Collected::default(), "it is no longer what its digest says");
}
