//! Every step of all that changes the volume: a crash before it, a failure of it, and a Lease that was lost before it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use super::fixtures::*;
use super::layout::{
    EXTENSIONS, RUNNER, RUNNER_BINARY, STAGING, STORE, TRASH, listing_name, manifest_name, runner_subpath, tree_subpath,
};
use super::step::Step;
use super::{Recovered, Store, StoreError, Used};
use crate::digest::Digest;

type Files = &'static [(&'static str, &'static str)];

const GRACE: Duration = Duration::from_secs(60);
const ONE: Files = &[("d/run", "x1"), ("l", ">d/run")];
const TWO: Files = &[("d/run", "x2")];
const TWO_BELOW: Files = &[("top/d/run", "x2"), ("other", "")];
const THREE: Files = &[("run", "x3")];
const MANIFEST: &[u8] = b"{}";
const BINARY: &str = "ELF";

static DIGESTS: LazyLock<[Digest; 3]> = LazyLock::new(|| {
    let scratch = volume();
    [ONE, TWO, THREE].map(|files| publish(&scratch.store, files).digest)
});

/// Something that changes the volume, and what happens to that before.
struct Act {
    name: &'static str,
    prepare: fn(&Path),
    act: fn(&Store) -> Result<(), StoreError>,
}

/// All that changes the volume, in an order in which each finds what it needs.
const ACTS: &[Act] = &[
    Act {
        name: "open",
        prepare: |_| {},
        act: |store| {
            store.make_directories()?;
            store.claim("somebody")?;
            store.try_out()
        },
    },
    Act {
        name: "recover",
        prepare: |root| {
            write(&root.join(EXTENSIONS).join(STAGING), &[("left/f", ""), ("too/f", "")]);
            write(&root.join(EXTENSIONS).join(STORE), &[(&listing_name(&Digest::of("lone")), "")]);
        },
        act: |store| store.recover().map(drop),
    },
    Act { name: "install", prepare: |_| {}, act: |store| install(store, ONE, None, 0) },
    Act { name: "upgrade", prepare: |_| {}, act: |store| install(store, TWO_BELOW, Some("top"), 1) },
    Act { name: "publish again", prepare: |root| set_mode(&tree(root, 0), 0o755), act: |store| put(store, ONE, None) },
    Act {
        name: "recover what is not sealed",
        prepare: |root| set_mode(&tree(root, 0), 0o755),
        act: |store| store.recover().map(drop),
    },
    Act {
        name: "repair",
        prepare: |root| overwrite(&tree(root, 1).join("d/run"), "evil"),
        act: |store| put(store, TWO_BELOW, Some("top")),
    },
    Act {
        name: "replace an empty directory",
        prepare: |root| empty(&tree(root, 0)),
        act: |store| put(store, ONE, None),
    },
    Act {
        name: "write a listing again",
        prepare: |root| fs::remove_file(tree(root, 0).with_extension("list")).unwrap(),
        act: |store| store.verify(&DIGESTS[0]),
    },
    Act {
        name: "keep a manifest in the place of a directory",
        prepare: |root| {
            let place = root.join(EXTENSIONS).join(STORE).join(manifest_name(&Digest::of(MANIFEST)));
            write(&place, &[("theirs", "")]);
        },
        act: |store| store.keep_manifest(MANIFEST).map(drop),
    },
    Act { name: "keep a manifest", prepare: |_| {}, act: |store| store.keep_manifest(MANIFEST).map(drop) },
    Act { name: "install the runner", prepare: |root| fs::write(root.join("built"), BINARY).unwrap(), act: runner },
    Act { name: "replace the runner", prepare: |root| overwrite(&binary(root), "evil"), act: runner },
    Act { name: "publish what nobody uses", prepare: |_| {}, act: |store| put(store, THREE, None) },
    Act { name: "collect", prepare: |_| {}, act: |store| collect(store, Used::default(), 100) },
    Act { name: "restore", prepare: |_| {}, act: |store| collect(store, used(), 110) },
    Act {
        name: "collect listings",
        prepare: |root| write(&root.join(EXTENSIONS).join(STORE), &[(&listing_name(&Digest::of("lone")), "")]),
        act: |store| collect(store, used(), 120),
    },
    Act { name: "empty the trash", prepare: |_| {}, act: |store| collect(store, used(), 300) },
    Act { name: "unlink", prepare: |_| {}, act: |store| store.unlink(&name("x")).map(drop) },
];

fn put(store: &Store, files: Files, below: Option<&str>) -> Result<(), StoreError> {
    let staging = store.stage()?;
    write(staging.path(), files);
    store.publish(staging, below.map(path).as_ref()).map(drop)
}

fn install(store: &Store, files: Files, below: Option<&str>, number: usize) -> Result<(), StoreError> {
    put(store, files, below)?;
    store.link(&name("x"), &DIGESTS[number])
}

fn runner(store: &Store) -> Result<(), StoreError> {
    store.install_runner(&store.root().join("built")).map(drop)
}

fn collect(store: &Store, used: Used, seconds: u64) -> Result<(), StoreError> {
    store.collect(&used, SystemTime::now() + Duration::from_secs(seconds), GRACE).map(drop)
}

fn used() -> Used {
    Used { kept: [DIGESTS[0], Digest::of(MANIFEST)].into(), ..Used::default() }
}

fn tree(root: &Path, number: usize) -> PathBuf {
    root.join(tree_subpath(&DIGESTS[number]))
}

fn binary(root: &Path) -> PathBuf {
    root.join(runner_subpath(&Digest::of(BINARY))).join(RUNNER_BINARY)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn empty(path: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(path).status().unwrap().success());
    fs::create_dir(path).unwrap();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The trees that are not what their digests say.
fn damaged(root: &Path) -> BTreeSet<Digest> {
    let store = Store::reading(root);
    store.trees().unwrap().into_iter().filter(|digest| store.check(digest).is_err()).collect()
}

/// What must hold at any moment: what can be seen is whole, unless it was `damaged` before.
fn assert_sound(root: &Path, damaged_before: &BTreeSet<Digest>, when: &str) {
    let store = Store::reading(root);
    let damaged = damaged(root);
    assert!(damaged.is_subset(damaged_before), "{when}: {damaged:?}");
    for link in store.links().unwrap() {
        assert!(store.trees().unwrap().contains(&link.tree.unwrap()), "{when}: {} dangles", link.name);
    }
    for manifest in store.manifests().unwrap() {
        let is_file = root.join(EXTENSIONS).join(STORE).join(manifest_name(&manifest)).is_file();
        assert!(!is_file || store.manifest(&manifest).unwrap().is_some(), "{when}: {manifest}");
    }
}

/// What all of it comes to.
fn state(root: &Path) -> String {
    let store = Store::reading(root);
    let listings: BTreeSet<_> =
        names(&root.join(EXTENSIONS).join(STORE)).into_iter().filter(|name| name.ends_with(".list")).collect();
    let runner = names(&root.join(EXTENSIONS).join(RUNNER)).len();
    let binary = fs::read_to_string(binary(root)).ok();
    format!(
        "{:?} {:?} {:?} {listings:?} {runner} {binary:?}",
        store.trees().unwrap(),
        store.links().unwrap(),
        store.manifests().unwrap()
    )
}

/// The volume before and what it comes to after each act.
struct Stage {
    act: &'static Act,
    before: PathBuf,
    after: String,
}

/// What was acted, the step that a crash came before, and the volume then.
type Crash = (&'static Act, Step, PathBuf);

/// Acts once, undisturbed.
fn stages(directory: &Path, observe: impl Fn(&'static Act, &Path, Step) + Send + Sync + 'static) -> Vec<Stage> {
    let root = directory.join("volume");
    fs::create_dir(&root).unwrap();
    drop(Volume::existing(&root));
    let acting: Arc<Mutex<&'static Act>> = Arc::new(Mutex::new(&ACTS[0]));
    let store = {
        let (acting, root) = (acting.clone(), root.clone());
        Store::observed(&root.clone(), move |step| {
            observe(*acting.lock().unwrap(), &root, step);
            Ok(())
        })
    };
    let mut stages = Vec::new();
    for (number, act) in ACTS.iter().enumerate() {
        *acting.lock().unwrap() = act;
        (act.prepare)(&root);
        let before = directory.join(format!("before-{number}"));
        copy(&root, &before);
        (act.act)(&store).unwrap_or_else(|error| panic!("{}: {error}", act.name));
        assert_sound(&root, &BTreeSet::new(), act.name);
        stages.push(Stage { act, before, after: state(&root) });
    }
    drop(Volume::existing(&root));
    stages
}

#[test]
fn a_crash_at_any_step_leaves_a_store_that_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let taken: Arc<Mutex<Vec<Crash>>> = Arc::default();
    let (list, to) = (taken.clone(), directory.path().to_owned());
    let stages = stages(directory.path(), move |act, root, step| {
        let mut list = list.lock().unwrap();
        let path = to.join(format!("crash-{}", list.len()));
        copy(root, &path);
        list.push((act, step, path));
    });
    let taken = taken.lock().unwrap();
    let visited: BTreeSet<Step> = taken.iter().map(|(_, step, _)| *step).collect();
    let missed: Vec<_> = Step::ALL.iter().filter(|step| !visited.contains(step)).collect();
    assert!(missed.is_empty(), "no crash came before {missed:?}");
    for (act, step, path) in taken.iter() {
        let when = format!("{}, before {step:?}", act.name);
        if *step == Step::EmptyTrash {
            // the crash that comes in the middle of a deletion
            for entry in names(&path.join(EXTENSIONS).join(TRASH)) {
                set_mode(&path.join(EXTENSIONS).join(TRASH).join(&entry), 0o700);
                let _ = fs::remove_dir_all(path.join(EXTENSIONS).join(TRASH).join(entry).join("d"));
            }
        }
        let before = damaged(path);
        let store = Store::open(path).unwrap();
        store.recover().unwrap();
        assert!(names(&path.join(EXTENSIONS).join(STAGING)).is_empty(), "{when}");
        assert_sound(path, &before, &when);
        assert_eq!(store.recover().unwrap(), Recovered::default(), "{when}");
        (act.act)(&store).unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_sound(path, &BTreeSet::new(), &when);
        let stage = stages.iter().find(|stage| stage.act.name == act.name).unwrap();
        assert_eq!(state(path), stage.after, "{when}");
        drop(Volume::existing(path));
    }
}

#[test]
fn a_step_that_fails_leaves_the_old_or_the_new_and_the_next_try_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let mut visited = BTreeSet::new();
    for Stage { act, before, after } in stages(directory.path(), |_, _, _| {}) {
        for failing in 0.. {
            let root = directory.path().join("failing");
            copy(&before, &root);
            let (old, damaged) = (names(&root.join(EXTENSIONS).join(STAGING)), damaged(&root));
            let failed: Arc<Mutex<(usize, Option<Step>)>> = Arc::default();
            let seen = failed.clone();
            let store = Store::observed(&root, move |step| {
                let mut seen = seen.lock().unwrap();
                seen.0 += 1;
                if seen.0 - 1 != failing {
                    return Ok(());
                }
                seen.1 = Some(step);
                Err(rustix::io::Errno::NOSPC.into())
            });
            let acted = (act.act)(&store);
            let step = failed.lock().unwrap().1;
            let when = format!("{}, at {step:?}, the {failing}th", act.name);
            if let Some(step) = step {
                visited.insert(step);
                // one thing that cannot be put right keeps no start from going on
                let goes_on = act.name.starts_with("recover") && acted.is_ok();
                assert!(goes_on || matches!(acted, Err(StoreError::NoSpace { .. })), "{when}: {acted:?}");
                assert!(names(&root.join(EXTENSIONS).join(STAGING)).is_subset(&old), "{when}");
                assert_sound(&root, &damaged, &when);
                (act.act)(&store).unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            assert_sound(&root, &BTreeSet::new(), &when);
            assert_eq!(state(&root), after, "{when}");
            drop(Volume::existing(&root));
            fs::remove_dir_all(&root).unwrap();
            if step.is_none() {
                break;
            }
        }
    }
    let missed: Vec<_> = Step::ALL.iter().filter(|step| !visited.contains(step)).collect();
    assert!(missed.is_empty(), "nothing failed at {missed:?}");
}

/// Everything on a volume but its staging directory: paths, modes, sizes, times.
fn everything(root: &Path) -> Vec<String> {
    fn visit(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, stat) = (entry.path(), entry.metadata().unwrap());
            if path.ends_with(Path::new(EXTENSIONS).join(STAGING)) {
                continue;
            }
            let (mode, size, inode) = (stat.mode(), stat.size(), stat.ino());
            let changed = (stat.ctime(), stat.ctime_nsec());
            found.push(format!("{} {mode:o} {size} {inode} {changed:?}", path.display()));
            if stat.is_dir() {
                visit(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    visit(root, &mut found);
    found.sort();
    found
}

#[test]
fn whoever_may_no_longer_write_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for Stage { act, before, .. } in stages(directory.path(), |_, _, _| {}) {
        let store = Store::fenced(&before, || false, || Ok(()));
        let (as_it_was, staged) = (everything(&before), names(&before.join(EXTENSIONS).join(STAGING)));
        let acted = (act.act)(&store);
        assert!(matches!(acted, Err(StoreError::Fenced { .. })), "{}: {acted:?}", act.name);
        assert_eq!(everything(&before), as_it_was, "{}", act.name);
        assert_eq!(names(&before.join(EXTENSIONS).join(STAGING)), staged, "{}", act.name);
        drop(Volume::existing(&before));
    }
}
