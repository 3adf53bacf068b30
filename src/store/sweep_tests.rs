//! Sweeping: what a crash leaves is put right, and what is used is never removed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::*;
use crate::store::fixtures::*;

const GRACE: Duration = Duration::from_secs(60);

fn later(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

fn keep(digests: &[Digest]) -> Used {
    Used { kept: set(digests), ..Used::default() }
}

fn set(digests: &[Digest]) -> BTreeSet<Digest> {
    digests.iter().copied().collect()
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
    let recovered = volume.store.recover().unwrap();
    let expected =
        Recovered { staging: 1, listings: 1, dangling: vec![name("dangling")], foreign: vec!["theirs".into()] };
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
    assert_eq!(set(&volume.store.trees().unwrap()), set(&[pinned, linked]));
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

#[test]
fn a_start_writes_only_what_a_crash_left_unsealed() {
    let volume = volume();
    let digests = ["1", "2"].map(|content| publish(&volume.store, &[("f", content)]).digest);
    let sealed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = sealed.clone();
    let store = Store::observed(&volume.root, move |step| {
        seen.fetch_add(usize::from(step == Step::SealRoot), std::sync::atomic::Ordering::SeqCst);
        Ok(())
    });
    store.recover().unwrap();
    assert_eq!(sealed.load(std::sync::atomic::Ordering::SeqCst), 0);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(volume.tree(&digests[0]), open).unwrap();
    store.recover().unwrap();
    assert_eq!(sealed.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn the_trash_is_emptied_while_others_write() {
    let volume = volume();
    publish(&volume.store, &[("f", "1")]);
    assert_eq!(volume.store.collect(&Used::default(), later(100), GRACE).unwrap().trashed.len(), 1);
    let (itself, emptied) = (Arc::new(OnceLock::<Store>::new()), Arc::new(AtomicBool::new(false)));
    let store = Store::observed(&volume.root, {
        let (itself, emptied) = (itself.clone(), emptied.clone());
        move |step| {
            if step == Step::EmptyTrash {
                assert!(!itself.get().unwrap().is_locked());
                emptied.store(true, Ordering::SeqCst);
            }
            Ok(())
        }
    });
    itself.set(store.clone()).unwrap();
    assert_eq!(store.collect(&Used::default(), later(200), GRACE).unwrap().deleted, 1);
    assert!(emptied.load(Ordering::SeqCst));
}
