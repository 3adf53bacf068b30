//! Directories that kubelet makes, empty and root's, where a Job mounts a tree or a runner that is gone: the operator, which
//! is another user, goes on as if nothing was there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use outrigger::digest::Digest;
use outrigger::store::layout::{runner_subpath, tree_subpath};
use outrigger::store::{LazyStore, RelativePath, Store, StoreError, Used};

use crate::volume::{GRACE, copy_this_program, install, later, name, publish, used};

const TEST: &str = "kubelet::a_directory_that_kubelet_made_holds_up_nothing";
/// In the test's other processes: the volume, and which part of the test they are.
const VOLUME: &str = "OUTRIGGER_TEST_KUBELET_VOLUME";
const PART: &str = "OUTRIGGER_TEST_KUBELET_PART";
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
    assert!(!rustix::process::geteuid().is_root());
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
    if let Some(volume) = std::env::var_os(VOLUME) {
        return operate(Path::new(&volume), &std::env::var(PART).unwrap());
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make what is root's");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (volume, program) = (directory.path().join("volume"), directory.path().join("tests"));
    fs::create_dir(&volume).unwrap();
    for path in [directory.path(), &volume] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    copy_this_program(&program);
    let operate = |part: &str| {
        let ran = Command::new("setpriv")
            .args(["--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
            .arg(&program)
            .args(["--exact", "--nocapture", TEST])
            .env(VOLUME, &volume)
            .env(PART, part)
            .env("TMPDIR", directory.path())
            .current_dir("/")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && output.contains("1 passed"), "{part}: {output}");
    };
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
