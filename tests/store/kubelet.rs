//! Directories that kubelet makes, empty and root's, where a Job mounts a tree or a runner that is gone: the operator, which
//! is another user, goes on as if nothing was there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use outrigger::digest::Digest;
use outrigger::store::layout::{runner_subpath, tree_subpath};
use outrigger::store::{LazyStore, RelativePath, Store, StoreError, Used};

use crate::volume::{GRACE, Shared, install, later, name, operated, publish, used};

const TEST: &str = "kubelet::a_directory_that_kubelet_made_holds_up_nothing";
const UNUSED: &str = "unused";
const GOOD: &str = "good";

fn digests(store: &Store) -> [Digest; 2] {
    let scratch = tempfile::tempdir().unwrap();
    let scratch = Store::open(scratch.path()).unwrap();
    assert!(store.root() != scratch.root());
    [GOOD, UNUSED].map(|content| publish(&scratch, content, 100).unwrap().digest)
}

/// What the operator does, as its own user.
fn operate(volume: &Path, part: &str) {
    let built = volume.join("built");
    if part == "install" {
        fs::write(&built, "ELF").unwrap();
        let store = Store::open(volume).unwrap();
        install(&store, GOOD, 100).unwrap();
        publish(&store, UNUSED, 100).unwrap();
        store.install_runner(&built).unwrap();
        return;
    }
    let store = match part {
        "start" => Store::reading(volume),
        _ => Store::open(volume).unwrap(),
    };
    let [good, unused] = digests(&store);
    let run = RelativePath::parse("run.sh").unwrap();
    match part {
        "pin" => {
            let error = store.entrypoint_digest(&good, &run).unwrap_err();
            assert!(error.is_damage(), "{error}");
        }
        "start" => {
            let lazy = LazyStore::new(volume, None, || true);
            lazy.open().unwrap();
            assert_eq!(store.trees().unwrap(), []);
            lazy.get().unwrap().stage().unwrap().remove();
        }
        "repair" => {
            assert_eq!(install(&store, GOOD, 100).unwrap().digest, good);
            publish(&store, UNUSED, 100).unwrap();
            store.verify(&good).unwrap();
            store.entrypoint_digest(&good, &run).unwrap().unwrap();
            let runner = store.install_runner(&built).unwrap();
            assert!(store.has_runner(&runner).unwrap());
        }
        "collect" => {
            assert_eq!(store.collect(&used(good), later(100), GRACE).unwrap().trashed, [unused]);
        }
        "restore" => {
            publish(&store, UNUSED, 100).unwrap();
            assert_eq!(store.collect(&used(good), later(100), GRACE).unwrap().trashed, [unused]);
            fs::create_dir(volume.join(tree_subpath(&unused))).unwrap();
            let wanted = Used { kept: [good, unused].into(), ..Used::default() };
            assert_eq!(store.collect(&wanted, later(100), GRACE).unwrap().restored, [unused]);
        }
        "full" => {
            // root's, with something in it: that directory stays, and nothing else has to wait for it
            let third = publish(&store, "third", 100).unwrap().digest;
            let error = store.collect(&used(good), later(100), GRACE).unwrap_err();
            assert!(matches!(error, StoreError::Denied { .. }), "{error}");
            assert!(!store.trees().unwrap().contains(&third));
            LazyStore::new(volume, None, || true).open().unwrap();
            assert_eq!(store.linked(&name()).unwrap(), Some(good));
        }
        other => panic!("{other}"),
    }
    assert_eq!(fs::read_dir(volume.join("extensions/.staging")).unwrap().count(), 0);
}

#[test]
fn a_directory_that_kubelet_made_holds_up_nothing() {
    if let Some((volume, part)) = operated() {
        return operate(&volume, &part);
    }
    let Some(shared) = Shared::new(TEST) else { return };
    let (volume, operate) = (shared.volume(), |part: &str| shared.operate(part));
    operate("install");
    let scratch = tempfile::tempdir().unwrap();
    let [good, unused] = digests(&Store::open(scratch.path()).unwrap());
    let trees = [tree_subpath(&good), tree_subpath(&unused)].map(|path| volume.join(path));
    let runner = volume.join(runner_subpath(&Digest::of("ELF")));
    let make = |places: &[&Path], mode: u32| {
        for place in places {
            let _ = fs::remove_dir_all(place);
            fs::create_dir(place).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let all = [&*trees[0], &*trees[1], &*runner];
    for mode in [0o755, 0o750] {
        make(&all, mode);
        operate("pin");
        operate("start");
        operate("repair");
        make(&all, mode);
        operate("repair");
        make(&[&trees[1]], mode);
        operate("collect");
    }
    operate("restore");
    make(&[&trees[1]], 0o755);
    fs::write(trees[1].join("theirs"), "").unwrap();
    operate("full");
    assert!(trees[1].join("theirs").exists());
}
