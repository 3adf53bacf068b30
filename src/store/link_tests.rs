//! Links: swapped in one step, never over what somebody else put there.

use std::fs;

use super::*;
use crate::store::fixtures::*;

#[test]
fn a_link_is_relative_and_swapped() {
    let volume = volume();
    let (one, two) = (publish(&volume.store, &[("f", "1")]).digest, publish(&volume.store, &[("f", "2")]).digest);
    let name = name("orchestrator");
    assert_eq!(volume.store.linked(&name).unwrap(), None);
    for (digest, content) in [(one, "1"), (two, "2"), (two, "2"), (one, "1")] {
        volume.store.link(&name, &digest).unwrap();
        assert_eq!(volume.store.linked(&name).unwrap(), Some(digest));
        assert_eq!(fs::read_to_string(volume.extensions().join("orchestrator/f")).unwrap(), content);
    }
    let target = fs::read_link(volume.extensions().join("orchestrator")).unwrap();
    assert_eq!(target.to_str().unwrap(), format!(".store/sha256-{}", one.hex()));
    assert!(volume.store.unlink(&name).unwrap());
    assert!(!volume.store.unlink(&name).unwrap());
    assert!(volume.staging_is_empty());
    volume.store.verify(&one).unwrap();
}

#[test]
fn a_name_always_leads_somewhere_while_its_link_is_swapped() {
    let volume = volume();
    let digests = [publish(&volume.store, &[("f", "1")]).digest, publish(&volume.store, &[("f", "2")]).digest];
    let name = name("x");
    volume.store.link(&name, &digests[0]).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..200 {
                volume.store.link(&name, &digests[turn % 2]).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            fs::read_to_string(volume.extensions().join("x/f")).unwrap();
        }
    });
}

#[test]
fn what_somebody_else_put_there_is_named_and_left_alone() {
    let volume = volume();
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    let at = |name: &str| volume.extensions().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("file"), "mine").unwrap();
    std::os::unix::fs::symlink("/etc", at("link")).unwrap();
    std::os::unix::fs::symlink(".store/../../x", at("sly")).unwrap();
    for (other, what) in [
        ("directory", "a directory"),
        ("file", "a file"),
        ("link", "a link to elsewhere"),
        ("sly", "a link to elsewhere"),
    ] {
        let text = format!(
            "link extension: extensions/{other} is in the way ({what}) and was not made by outrigger; move it away"
        );
        let before = fs::symlink_metadata(at(other)).unwrap().modified().unwrap();
        assert_eq!(volume.store.link(&name(other), &digest).unwrap_err().to_string(), text);
        assert_eq!(volume.store.unlink(&name(other)).unwrap_err().to_string(), text);
        assert_eq!(volume.store.linked(&name(other)).unwrap_err().to_string(), text);
        assert_eq!(fs::symlink_metadata(at(other)).unwrap().modified().unwrap(), before);
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "mine");
    assert!(volume.staging_is_empty());
}

#[test]
fn a_file_that_appears_while_a_link_is_made_is_not_replaced() {
    let volume = volume();
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    let at = volume.extensions().join("x");
    let there = at.clone();
    let store =
        Store::observed(
            &volume.root,
            move |step| if step == Step::RenameLink { fs::write(&there, "mine") } else { Ok(()) },
        );
    assert!(store.link(&name("x"), &digest).is_err());
    assert_eq!(fs::read_to_string(at).unwrap(), "mine");
    assert!(volume.staging_is_empty());
}

#[test]
fn a_link_needs_its_tree() {
    let volume = volume();
    let digest = Digest::of("nothing");
    let error = volume.store.link(&name("x"), &digest).unwrap_err();
    assert_eq!(error.to_string(), format!("find tree {digest}: it is not in the store"));
}

#[test]
fn a_sync_that_failed_is_made_up_for_by_the_next_try() {
    let volume = volume();
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    let syncs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = syncs.clone();
    let store = Store::observed(&volume.root, move |step| {
        let is_first =
            step == Step::SyncLink && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2);
        if is_first { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
    });
    let count = || syncs.load(std::sync::atomic::Ordering::SeqCst);
    assert!(store.link(&name("x"), &digest).is_err());
    store.link(&name("x"), &digest).unwrap();
    assert_eq!(count(), 2, "the link was there, and perhaps not on the disk");
    store.link(&name("x"), &digest).unwrap();
    assert_eq!(count(), 2, "what is on the disk costs nothing");
    assert!(store.unlink(&name("x")).is_err());
    assert!(!store.unlink(&name("x")).unwrap());
    assert_eq!(count(), 4);
}
