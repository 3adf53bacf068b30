//! Power loss: what the kernel is asked to write to disk, before which rename, seen from outside with strace.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use outrigger::digest::Digest;
use outrigger::store::Store;

use crate::volume::{again, again_untrusted, install, is_again, on_a_volume};

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
    });
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
    assert!(written.iter().any(|path| path.ends_with("/tree/lib/large")) && written.len() >= 7, "{written:?}");
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
    let whole = calls[again..].iter().any(|call| call.contains(" syncfs("));
    assert!(whole || synced(&store, again, calls.len()), "the manifest's name, of one that was there");
}
