//! `outrigger store verify`, and the digest of a tree as its documentation computes it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use outrigger::digest::Digest;
use outrigger::store::Store;
use outrigger::store::layout::{link_target, manifest_name, tree_subpath};

use crate::volume::{install, on_a_volume, publish, sh};

/// Exit code, standard output, standard error.
fn verify(volume: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let ran = command.args(["store", "verify", "--store"]).arg(volume).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn a_volume_is_verified_without_a_write() {
    on_a_volume("command::a_volume_is_verified_without_a_write", "2m", |volume, _| {
        let store = Store::open(volume).unwrap();
        let tree = install(&store, "good", 100).unwrap().digest;
        let manifest = store.keep_manifest(b"{}").unwrap();
        fs::remove_file(volume.join(tree_subpath(&tree)).with_extension("list")).unwrap();
        sh(&format!("mount -o remount,bind,ro {}", volume.display()));
        let text = format!("{tree} ok\nmanifest {manifest} ok\nextensions/x ok\n");
        assert_eq!(verify(volume), (Some(0), text, String::new()));
    });
}

#[test]
fn whatever_is_not_as_it_must_be_is_named() {
    let volume = tempfile::tempdir().unwrap();
    let (volume, extensions) = (volume.path(), volume.path().join("extensions"));
    let store = Store::open(volume).unwrap();
    let tree = install(&store, "good", 100).unwrap().digest;
    let manifest = store.keep_manifest(b"{}").unwrap();
    let changed = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, "evil").unwrap();
    };
    changed(&volume.join(tree_subpath(&tree)).join("run.sh"));
    changed(&extensions.join(".store").join(manifest_name(&manifest)));
    let lost = Digest::of("lost");
    symlink(link_target(&lost), extensions.join("dangling")).unwrap();
    symlink("/etc", extensions.join("elsewhere")).unwrap();
    symlink(link_target(&tree), extensions.join("No_Name")).unwrap();
    let text = format!(
        "{tree} BAD: verify tree {tree}: \"run.sh\" was changed on the volume\n\
         manifest {manifest} BAD: it was changed on the volume\n\
         extensions/No_Name BAD: no extension can have this name\n\
         extensions/dangling BAD: it leads to {lost}, which is not in the store\n\
         extensions/elsewhere BAD: a link to elsewhere, which outrigger did not make\n\
         extensions/x ok\n"
    );
    let said = "outrigger: 5 of 6 trees, manifests and links are not as they must be\n".to_owned();
    assert_eq!(verify(volume), (Some(1), text, said));
    let (code, _, said) = verify(&volume.join("none"));
    assert_eq!(code, Some(1));
    assert!(said.starts_with("outrigger: reading the store at ") && said.contains("No such file"), "{said}");
}

#[test]
fn what_is_installed_meanwhile_is_no_damage() {
    let volume = tempfile::tempdir().unwrap();
    let (volume, store) = (volume.path(), Store::open(volume.path()).unwrap());
    for number in 0..20 {
        install(&store, &format!("before {number}"), 100_000).unwrap();
    }
    std::thread::scope(|scope| {
        let installing = scope.spawn(|| {
            for number in 0..200 {
                install(&store, &format!("meanwhile {number}"), 100).unwrap();
            }
        });
        while !installing.is_finished() {
            let (code, text, said) = verify(volume);
            assert_eq!(code, Some(0), "{text}{said}");
        }
    });
}

#[test]
fn the_documentation_computes_the_digest_of_a_tree() {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tree-digest.md");
    let documentation = fs::read_to_string(documentation).unwrap();
    let program = documentation.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let volume = tempfile::tempdir().unwrap();
    let store = Store::open(volume.path()).unwrap();
    let plain = publish(&store, "plain", 100).unwrap().digest;
    let staging = store.stage().unwrap();
    let root = staging.path().to_owned();
    for (path, content) in
        [("a/b", "x"), ("a-b", "y"), ("a b/ü", ""), ("run", "#!/bin/sh\n"), ("z/.outrigger-tree", "")]
    {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), content).unwrap();
    }
    fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o710)).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (link, target) in [("to-directory", "a"), ("a/to-file", "../run")] {
        symlink(target, root.join(link)).unwrap();
    }
    let other = store.publish(staging, None).unwrap().digest;
    for digest in [plain, other] {
        let tree = volume.path().join(tree_subpath(&digest));
        let ran = Command::new("python3").args(["-c", program]).arg(&tree).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(String::from_utf8_lossy(&ran.stdout).trim_end(), digest.to_string());
        let listing = tree.with_extension("list");
        assert_eq!(Digest::of(fs::read(listing).unwrap()), digest);
    }
}
