//! Opening a volume: what is made, and what is said when it cannot be.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;
use crate::store::fixtures::*;

#[test]
fn opening_makes_what_is_missing_and_can_be_repeated() {
    let volume = volume();
    let mode = |name: &str| fs::metadata(volume.extensions().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode(""), mode(STORE), mode(RUNNER), mode(STAGING), mode(TRASH)), (0o755, 0o755, 0o755, 0o700, 0o700));
    let digest = publish(&volume.store, &[("f", "1")]).digest;
    assert_eq!(Store::open(&volume.root).unwrap().trees().unwrap(), [digest]);
    assert!(volume.staging_is_empty());
}

#[test]
fn a_volume_that_is_not_there_or_goes_away_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = Store::open(&directory.path().join("none")).unwrap_err().to_string();
    assert!(text.starts_with("open volume ") && text.contains("/none: No such file"), "{text}");
    let volume = volume();
    let staging = stage(&volume.store, &[("f", "1")]);
    fs::rename(volume.extensions(), volume.root.join("away")).unwrap();
    let error = volume.store.publish(staging, None).unwrap_err();
    assert!(matches!(error, StoreError::Vanished { .. }) && error.is_transient(), "{error}");
    assert!(matches!(volume.store.stage(), Err(StoreError::Vanished { .. })));
    assert!(matches!(
        volume.store.collect(&Default::default(), std::time::SystemTime::now(), Default::default()),
        Err(StoreError::Vanished { .. })
    ));
}

#[test]
fn the_stores_own_directories_may_not_be_links() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), directory.path().join(EXTENSIONS)).unwrap();
    assert!(Store::open(directory.path()).is_err());
    assert!(fs::read_dir(elsewhere.path()).unwrap().next().is_none());
}

/// Runs as whoever runs the tests, and a second time without root's rights from the next test.
#[test]
fn a_tree_is_published_replaced_and_collected_by_any_user() {
    let volume = volume();
    let files = [("d/e/run", "x1"), ("d/f", "2"), ("l", ">d/f")];
    let tree =
        publish_below(&volume.store, &[("top/d/e/run", "x1"), ("top/d/f", "2"), ("top/l", ">d/f")], "top").unwrap();
    overwrite(&volume.tree(&tree.digest).join("d/f"), "evil");
    assert!(!publish(&volume.store, &files).reused);
    assert!(publish(&volume.store, &files).reused);
    let later = |seconds| std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
    let grace = std::time::Duration::from_secs(60);
    assert_eq!(volume.store.collect(&Default::default(), later(100), grace).unwrap().trashed, [tree.digest]);
    let keep = crate::store::Used { kept: [tree.digest].into(), ..Default::default() };
    assert_eq!(volume.store.collect(&keep, later(100), grace).unwrap().restored, [tree.digest]);
    volume.store.verify(&tree.digest).unwrap();
    volume.store.collect(&Default::default(), later(100), grace).unwrap();
    volume.store.collect(&Default::default(), later(300), grace).unwrap();
    assert!(volume.trash().is_empty() && volume.staging_is_empty());

    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(volume.extensions(), fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(volume.extensions().join(STAGING), fs::Permissions::from_mode(0o500)).unwrap();
        let error = Store::open(&volume.root).unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }), "{error}");
        assert!(matches!(volume.store.stage(), Err(StoreError::Denied { .. })));
        println!("ran without root's rights");
    }
}

#[test]
fn nothing_of_it_needs_the_rights_of_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A copy, because the build directory may be closed to others. Made by another process: while this one has a program
    // open for writing, whatever another test starts meanwhile has it open too, and it cannot be run ("text file busy").
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = directory.path().join("tests");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap().success());
    let ran = Command::new("setpriv")
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--bounding-set",
            "-all",
            "--inh-caps",
            "-all",
        ])
        .arg(&program)
        .args([
            "--exact",
            "--nocapture",
            "store::volume::tests::a_tree_is_published_replaced_and_collected_by_any_user",
        ])
        .env("TMPDIR", directory.path())
        .current_dir("/")
        .output();
    let Ok(ran) = ran else {
        eprintln!("skipped: setpriv is not installed");
        return;
    };
    let output = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && output.contains("ran without root's rights"),
        "{output}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// The volume that [`mounts_that_cannot_hold_the_store_are_refused`] made for this process, and how opening it fails.
const MOUNTED: &str = "OUTRIGGER_TEST_MOUNTED_VOLUME";

#[test]
fn the_mounted_volume_is_opened() {
    if let Some(root) = std::env::var_os(MOUNTED) {
        println!("opened: {:?}", Store::open(Path::new(&root)).map_err(|error| error.to_string()));
    }
}

#[test]
fn mounts_that_cannot_hold_the_store_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = |mounts: &str| {
        let root = directory.path();
        let script = format!("cd {} && {mounts} exec \"$0\" --exact --nocapture \"$@\"", root.display());
        let ran = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &script])
            .arg(std::env::current_exe().unwrap())
            .arg("store::volume::tests::the_mounted_volume_is_opened")
            .env(MOUNTED, root.join("v"))
            .output();
        ran.ok().filter(|ran| ran.status.success()).map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    fs::create_dir(directory.path().join("v")).unwrap();
    let Some(output) = open("mount -t tmpfs none v;") else {
        eprintln!("skipped: this user may not mount");
        return;
    };
    assert!(output.contains("opened: Ok("), "{output}");
    let below = "mount -t tmpfs none v; mkdir -p v/extensions/.staging v/extensions/.store;";
    for (mounts, text) in [
        ("mount -t tmpfs -o noexec none v;".to_owned(), "the volume is mounted noexec"),
        (format!("{below} mount -o remount,ro none v;"), "the volume is read-only"),
        (
            format!("{below} mount -t tmpfs none v/extensions/.staging;"),
            "the directories are on different file systems",
        ),
    ] {
        let output = open(&mounts).unwrap();
        assert!(output.contains("opened: Err(") && output.contains(text), "{output}");
    }
}
