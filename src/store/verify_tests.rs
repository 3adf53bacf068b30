//! Verifying: whatever changed on the volume is named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::store::fixtures::*;

fn drift_after(change: impl FnOnce(&Path)) -> Drift {
    let volume = volume();
    let digest = publish(&volume.store, &[("a", "1"), ("d/run", "x2"), ("l", ">a")]).digest;
    let root = volume.tree(&digest);
    for directory in [&root, &root.join("d")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    change(&root);
    match volume.store.verify(&digest) {
        Err(StoreError::Drifted { drift, .. }) => drift,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_change_is_named_by_its_path() {
    let changed = |path: &str| Drift::Changed(path.to_owned());
    assert_eq!(drift_after(|root| overwrite(&root.join("a"), "3")), changed("a"));
    assert_eq!(drift_after(|root| overwrite(&root.join("a"), "")), changed("a"));
    let no_longer_executable =
        |root: &Path| fs::set_permissions(root.join("d/run"), fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(drift_after(no_longer_executable), changed("d/run"));
    assert_eq!(drift_after(|root| fs::remove_file(root.join("d/run")).unwrap()), Drift::Missing("d/run".into()));
    assert_eq!(drift_after(|root| fs::write(root.join("d/new"), "").unwrap()), Drift::Added("d/new".into()));
    assert_eq!(drift_after(|root| fs::write(root.join("d/a\nb"), "").unwrap()), Drift::Added("d/a\nb".into()));
    assert_eq!(drift_after(|root| fs::create_dir(root.join("new")).unwrap()), Drift::Added("new".into()));
    let retarget = |root: &Path| {
        fs::remove_file(root.join("l")).unwrap();
        std::os::unix::fs::symlink("d/run", root.join("l")).unwrap();
    };
    assert_eq!(drift_after(retarget), changed("l"));
    assert_eq!(drift_after(|root| overwrite(&root.join(TREE_MARKER), "sha256:0\n")), changed(TREE_MARKER));
    assert_eq!(drift_after(|root| remove_file(&root.join(TREE_MARKER))), Drift::Missing(TREE_MARKER.into()));
    let text = StoreError::Drifted { digest: Digest::of("x"), drift: changed("d/run") }.to_string();
    assert!(
        text.starts_with("verify tree sha256:") && text.ends_with(": \"d/run\" was changed on the volume"),
        "{text}"
    );
}

#[test]
fn a_lost_or_forged_listing_is_written_again_from_a_whole_tree() {
    let volume = volume();
    let digest = publish(&volume.store, &[("a", "1")]).digest;
    let listing = volume.extensions().join(STORE).join(listing_name(&digest));
    let whole = fs::read(&listing).unwrap();
    remove_file(&listing);
    volume.store.verify(&digest).unwrap();
    assert_eq!(fs::read(&listing).unwrap(), whole);
    let forged = String::from_utf8(whole.clone()).unwrap().replace('1', "2");
    overwrite(&listing, &forged);
    assert_eq!(volume.store.listing(&digest).unwrap().digest(), digest);
    assert_eq!(fs::read(&listing).unwrap(), whole);
    overwrite(&listing, &forged);
    overwrite(&volume.tree(&digest).join("a"), "2");
    let text = volume.store.verify(&digest).unwrap_err().to_string();
    assert!(text.ends_with("the tree was changed on the volume, and so was its listing"), "{text}");
}

#[test]
fn files_are_read_through_links_of_the_tree_and_up_to_a_size() {
    let volume = volume();
    let files = [("manifest.yaml", ">etc/m.yaml"), ("etc/m.yaml", "name: x"), ("run", "xgo")];
    let digest = publish(&volume.store, &files).digest;
    let read = |text: &str, limit| volume.store.read_small(&digest, &path(text), limit);
    assert_eq!(read("manifest.yaml", 7).unwrap().unwrap(), b"name: x");
    assert_eq!(read("nothing", 7).unwrap(), None);
    assert_eq!(read("etc", 7).unwrap(), None);
    assert_eq!(
        read("manifest.yaml", 6).unwrap_err().to_string(),
        format!("read \"manifest.yaml\" of tree {digest}: it has 7 bytes; at most 6 are allowed")
    );
    let entrypoint = |text: &str| volume.store.entrypoint_digest(&digest, &path(text)).unwrap();
    assert_eq!(entrypoint("run"), Some(Digest::of("go")));
    assert_eq!(entrypoint("manifest.yaml"), Some(Digest::of("name: x")));
    assert_eq!((entrypoint("etc"), entrypoint("nothing")), (None, None));

    overwrite(&volume.tree(&digest).join("etc/m.yaml"), "name: y");
    assert!(matches!(read("manifest.yaml", 7), Err(StoreError::Drifted { drift: Drift::Changed(_), .. })));
    let secret = volume.root.join("secret");
    fs::write(&secret, "name: x").unwrap();
    remove_file(&volume.tree(&digest).join("etc/m.yaml"));
    std::os::unix::fs::symlink(&secret, volume.tree(&digest).join("etc/m.yaml")).unwrap();
    assert!(matches!(read("manifest.yaml", 7), Err(StoreError::Drifted { drift: Drift::Missing(_), .. })));
}

#[test]
fn a_tree_that_is_not_there_is_named() {
    let volume = volume();
    let digest = Digest::of("nothing");
    let text = format!("find tree {digest}: it is not in the store");
    assert_eq!(volume.store.verify(&digest).unwrap_err().to_string(), text);
    assert_eq!(volume.store.listing(&digest).unwrap_err().to_string(), text);
}
