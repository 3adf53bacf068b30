//! Power loss: what the kernel is asked to write to disk, before which rename, seen from outside with strace.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use outrigger::digest::Digest;
use outrigger::store::{Store, Used};

use crate::volume::{GRACE, again, again_untrusted, install, is_again, later, name, on_a_volume, used};

#[test]
fn everything_is_on_disk_before_a_name_leads_to_it() {
    let test = "power::everything_is_on_disk_before_a_name_leads_to_it";
    if is_again() {
        return install_and_keep(test);
    }
    let directory = tempfile::tempdir().unwrap();
    let calls = traced(directory.path(), |wrapper| again(test, "2m", directory.path(), wrapper));
    check(&calls, &directory.path().join("seen/extensions"));
}

#[test]
fn where_each_file_is_synced_for_itself_everything_is_on_disk_before_a_name_leads_to_it() {
    let test = "power::where_each_file_is_synced_for_itself_everything_is_on_disk_before_a_name_leads_to_it";
    if is_again() {
        return install_and_keep(test);
    }
    let directory = tempfile::tempdir().unwrap();
    let calls = traced(directory.path(), |wrapper| again_untrusted(test, "2m", directory.path(), wrapper));
    assert!(!calls.contains(" syncfs("), "{calls}");
    check(&calls, &directory.path().join("seen/extensions"));
}

/// The manifest that is kept, and what is printed before it is kept once more.
const MANIFEST: &str = "{}";
const AGAIN: &str = "KEPT AGAIN";

fn install_and_keep(test: &str) {
    on_a_volume(test, "2m", |volume, _| {
        let store = Store::open(volume).unwrap();
        println!("DIGEST {}", install(&store, "good", 9000).unwrap().digest.hex());
        store.keep_manifest(MANIFEST.as_bytes()).unwrap();
        println!("{AGAIN}");
        store.keep_manifest(MANIFEST.as_bytes()).unwrap();
        later_changes(&store, volume);
    });
}

/// What changes a volume later, each part after its name.
fn later_changes(store: &Store, volume: &Path) {
    println!("REPAIR");
    let changed = volume.join("extensions/x/run.sh");
    std::fs::set_permissions(&changed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(changed, "evil").unwrap();
    let tree = install(store, "good", 9000).unwrap().digest;
    println!("REUSE");
    install(store, "good", 9000).unwrap();
    println!("UNLINK");
    store.unlink(&name()).unwrap();
    println!("COLLECT");
    assert_eq!(store.collect(&Used::default(), later(100), GRACE).unwrap().trashed, [tree]);
    println!("RESTORE");
    assert_eq!(store.collect(&used(tree), later(100), GRACE).unwrap().restored, [tree]);
    println!("RUNNER");
    store.install_runner(Path::new("/bin/true")).unwrap();
    println!("END");
}

/// The system calls that matter here, one per line.
fn traced(directory: &Path, run: impl Fn(&[&str]) -> Output) -> String {
    let log = directory.join("calls");
    let log_path = log.display().to_string();
    let calls = "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2,write";
    let ran = run(&["strace", "-f", "-y", "-s", "200", "-e", calls, "-o", &log_path]);
    let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "strace is needed (apt-get install strace): {output}");
    std::fs::read_to_string(log).unwrap()
}

fn check(calls: &str, extensions: &Path) {
    let digest: String = calls.split("DIGEST ").nth(1).unwrap().chars().take_while(char::is_ascii_hexdigit).collect();
    let calls: Vec<_> = calls.lines().collect();
    let (extensions, tree) = (extensions.display().to_string(), format!("sha256-{digest}"));
    let position = |what: &str, found: &dyn Fn(&str) -> bool| {
        calls.iter().position(|call| found(call)).unwrap_or_else(|| panic!("no {what}:\n{}", calls.join("\n")))
    };
    let rename_to = |name: &str| {
        position(&format!("rename to {name}"), &|call| {
            call.contains("rename") && call.contains(&format!(", \"{name}\""))
        })
    };
    let synced = |path: &str, from: usize, to: usize| {
        let of = format!("<{path}>)");
        calls[from..to]
            .iter()
            .any(|call| (call.contains(" fsync(") || call.contains(" fdatasync(")) && call.contains(&of))
    };
    let (listing, published, linked) = (rename_to(&format!("{tree}.list")), rename_to(&tree), rename_to("x"));
    assert!(listing < published && published < linked, "the listing, then the tree, then the link");

    let volume = Path::new(&extensions).parent().unwrap().display().to_string();
    assert!(synced(&volume, 0, published), "the name of the directory of extensions");

    // all that is written in staging, with the directories that hold it
    let staging = format!("{extensions}/.staging/");
    let (mut written, mut last) = (BTreeSet::new(), 0);
    for (index, call) in calls[..published].iter().enumerate() {
        let Some(path) = call.split("write(").nth(1).and_then(|rest| rest.split(['<', '>']).nth(1)) else { continue };
        if path.starts_with(&staging) && !path.contains("/probe-") {
            let directories = Path::new(path).ancestors().map(|path| path.display().to_string());
            last = index;
            written.extend(directories.take_while(|path| path.starts_with(&staging)));
        }
    }
    assert!(written.iter().any(|path| path.ends_with("/lib/large")) && written.len() >= 6, "{written:?}");
    let whole = calls[last..listing]
        .iter()
        .any(|call| call.contains(" syncfs(") && call.contains(staging.trim_end_matches('/')));
    let missing: Vec<_> = written.iter().filter(|path| !whole && !synced(path, 0, listing)).collect();
    assert!(missing.is_empty(), "not on disk before the rename: {missing:?}\n{}", calls.join("\n"));
    assert!(synced(&format!("{extensions}/.store"), published, linked), "the tree's name, before a link leads to it");
    assert!(synced(&extensions, linked, calls.len()), "the link's name");

    let store = format!("{extensions}/.store");
    let manifest = format!("sha256-{}", Digest::of(MANIFEST).hex());
    let kept = position("rename to the manifest", &|call| call.contains("rename") && call.contains(&manifest));
    let made = calls[kept].split('"').nth(1).unwrap();
    assert!(synced(&format!("{staging}{made}"), linked, kept), "the manifest: {}", calls[kept]);
    let again = position("second manifest", &|call| call.contains(AGAIN));
    assert!(synced(&store, kept, again), "the manifest's name");
    let repair = position("repair", &|call| call.contains("\"REPAIR"));
    let whole = calls[again..repair].iter().any(|call| call.contains(" syncfs("));
    assert!(whole || synced(&store, again, repair), "the manifest's name, of one that was there");
    check_later(&calls, &extensions, &tree);
}

fn check_later(calls: &[&str], extensions: &str, tree: &str) {
    let marker = |name: &str| {
        let said = format!("\"{name}\\n");
        calls.iter().position(|call| call.contains(" write(1<") && call.contains(&said)).unwrap()
    };
    let part = |from: &str, to: &str| &calls[marker(from)..marker(to)];
    let store = format!("{extensions}/.store");
    let trash = format!("{extensions}/.trash");
    // where `part` renames from one directory to another, and what it syncs before and after
    let rename = |part: &[&str], from: &str, to: &str| {
        let is_it = |call: &&str| {
            let at = |path: &str| call.find(&format!("<{path}>, \""));
            call.contains(" rename") && at(from).is_some() && at(from) < at(to)
        };
        part.iter().position(is_it).unwrap_or_else(|| panic!("{from} to {to}:\n{}", part.join("\n")))
    };
    let synced = |part: &[&str], path: &str| {
        let of = format!("<{path}>)");
        let is_it = |call: &&str| (call.contains(" fsync(") || call.contains(" fdatasync(")) && call.contains(&of);
        assert!(part.iter().any(is_it), "{path} is not synced:\n{}", part.join("\n"));
    };

    let repair = part("REPAIR", "REUSE");
    let exchanged = rename(repair, &trash, &store);
    assert!(repair[exchanged].contains("RENAME_EXCHANGE") && repair[exchanged].contains(tree), "{}", repair[exchanged]);
    synced(&repair[exchanged..], &trash);
    synced(&repair[exchanged..], &store);

    synced(part("REUSE", "UNLINK"), &store);
    synced(part("UNLINK", "COLLECT"), extensions);

    let collect = part("COLLECT", "RESTORE");
    let collected = rename(collect, &store, &trash);
    synced(&collect[collected..], &trash);
    synced(&collect[collected..], &store);

    let restore = part("RESTORE", "RUNNER");
    let listed = rename(restore, &format!("{extensions}/.staging"), &store);
    let restored = rename(restore, &trash, &store);
    assert!(listed < restored, "the listing, then the tree");
    synced(&restore[listed..restored], &store);
    synced(&restore[restored..], &store);

    let runner = part("RUNNER", "END");
    let placed = rename(runner, &format!("{extensions}/.staging"), &format!("{extensions}/.runner"));
    let made = format!("{extensions}/.staging/{}", runner[placed].split('"').nth(1).unwrap());
    synced(&runner[..placed], &format!("{made}/outrigger-runner"));
    synced(&runner[..placed], &made);
    synced(&runner[placed..], &format!("{extensions}/.runner"));
}
