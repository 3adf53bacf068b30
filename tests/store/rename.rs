//! A volume that knows `rename` alone, as NFS does: neither can names be exchanged, nor is a rename refused where something
//! lies already. strace stands between, and refuses every rename with a flag.

use std::fs;
use std::path::Path;

use outrigger::store::{Store, Used};

use crate::volume::{GRACE, again, assert_intact, install, is_again, later, name, on_a_volume, publish, sh, used};

#[test]
fn where_names_cannot_be_exchanged_trees_are_published_repaired_collected_and_restored() {
    let test = "rename::where_names_cannot_be_exchanged_trees_are_published_repaired_collected_and_restored";
    if is_again() {
        return on_a_volume(test, "2m", |volume, _| work(&Store::open(volume).unwrap(), volume));
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    let log_path = log.display().to_string();
    let refused = ["-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL"];
    let ran = again(test, "2m", directory.path(), &[&["strace", "-f", "-o", &log_path], &refused[..]].concat());
    let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && output.contains("1 passed"), "strace is needed (apt-get install strace): {output}");
    let calls = fs::read_to_string(log).unwrap();
    for flag in ["RENAME_NOREPLACE", "RENAME_EXCHANGE"] {
        let refused = |call: &&str| call.contains(flag) && call.contains("EINVAL") && call.contains("(INJECTED)");
        assert!(calls.lines().any(|call| refused(&call)), "{flag}: {calls}");
    }
}

fn work(store: &Store, volume: &Path) {
    let one = install(store, "one", 9000).unwrap().digest;
    assert_intact(volume, &one);
    assert_eq!(install(store, "one", 9000).unwrap().digest, one, "used again");
    let two = install(store, "two", 9000).unwrap().digest;
    assert_intact(volume, &two);

    let trash = || fs::read_dir(volume.join("extensions/.trash")).unwrap().count();
    for damage in ["chmod u+w run.sh; echo evil > run.sh", "chmod u+w . lib; rm -r lib"] {
        let before = trash();
        sh(&format!("cd {}/extensions/x/ && {damage}", volume.display()));
        store.verify(&two).unwrap_err();
        assert_eq!(install(store, "two", 9000).unwrap().digest, two);
        assert_intact(volume, &two);
        assert_eq!(trash(), before + 1, "the damaged one is kept for whoever has it mounted");
    }

    assert_eq!(store.collect(&used(two), later(100), GRACE).unwrap().trashed, [one]);
    assert_eq!(store.collect(&used(one), later(110), GRACE).unwrap().restored, [one]);
    store.verify(&one).unwrap();
    assert_intact(volume, &two);

    // killed after the damaged tree was moved away, and before the whole one was in its place
    let moved = volume.join("extensions/.trash").join(format!("{}-0-sha256-{}", u32::MAX, two.hex()));
    sh(&format!("mv {}/extensions/.store/sha256-{} {}", volume.display(), two.hex(), moved.display()));
    let store = Store::open(volume).unwrap();
    assert_eq!(store.linked(&name()).unwrap(), Some(two), "the link waits for its tree");
    assert!(store.collect(&used(two), later(120), GRACE).unwrap().restored.contains(&two));
    assert_intact(volume, &two);

    let manifest = store.keep_manifest(b"{}").unwrap();
    assert_eq!(store.keep_manifest(b"{}").unwrap(), manifest);
    store.install_runner(Path::new("/bin/true")).unwrap();
    store.install_runner(Path::new("/bin/true")).unwrap();
    publish(&store, "three", 10).unwrap();
    store.unlink(&name()).unwrap();
    assert_eq!(store.linked(&name()).unwrap(), None);
    store.collect(&Used::default(), later(300), GRACE).unwrap();
    store.collect(&Used::default(), later(600), GRACE).unwrap();
    assert!(store.trees().unwrap().is_empty());
    assert_eq!(trash(), 0);
}
