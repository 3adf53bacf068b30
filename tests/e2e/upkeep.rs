//! Keeping what is installed: upgrades, rollbacks and repairs, with and without running actions.

use crate::extensions::{extension, reconcile_now};
use crate::harness::{World, condition};
use crate::repositories::Repository;
use crate::runs::{run, running};

/// See the name.
pub fn a_rollback_restores_the_pair_of_tree_and_manifest(world: &World) {
    let repository = Repository::probe(world, "rollback");
    let source = format!("source: {{url: {}}}", repository.url);
    world.applied(&extension("rollback", &format!("{{{source}}}")));
    world.condition("oext/rollback", "Ready", "True");
    let first = world.get("oext/rollback")["status"].clone();
    repository.write("probe.sh", "#!/bin/sh\necho two\n");
    repository.replace("manifest.yaml", "minVersion: 4.20", "minVersion: 4.21").push("second");
    reconcile_now(world, "rollback", "upgrade");
    let second = world.get("oext/rollback")["status"].clone();
    assert_ne!(second["resolved"], first["resolved"]);

    // the source is not needed: what is kept lies on the volume
    std::fs::rename(world.dir.path().join("git/rollback.git"), world.dir.path().join("git/away.git")).unwrap();
    let tree = first["artifact"]["treeDigest"].as_str().unwrap();
    world.applied(&extension("rollback", &format!("{{{source}, revision: '{tree}'}}")));
    let ready = world.condition("oext/rollback", "Ready", "True");
    assert!(ready["message"].as_str().unwrap().contains("which spec.revision pins"), "{ready}");
    let back = world.get("oext/rollback")["status"].clone();
    assert_eq!(world.volume("readlink rollback").trim(), format!(".store/{}", tree.replace(':', "-")));
    for field in ["treeDigest", "manifestDigest", "revision"] {
        assert_eq!(back["artifact"][field], first["artifact"][field]);
    }
    assert_eq!(back["resolved"], first["resolved"]);
    assert_eq!(back["history"][0]["treeDigest"], second["artifact"]["treeDigest"]);

    let unknown = format!("sha256:{}", "0".repeat(64));
    world.applied(&extension("rollback", &format!("{{{source}, revision: '{unknown}'}}")));
    let stalled = world.condition("oext/rollback", "Stalled", "True");
    assert_eq!(stalled["reason"], "RevisionNotKept", "{stalled}");
    assert!(stalled["message"].as_str().unwrap().contains(tree), "{stalled}");
    assert_eq!(condition(&world.get("oext/rollback"), "Installed").unwrap()["status"], "True");

    std::fs::rename(world.dir.path().join("git/away.git"), world.dir.path().join("git/rollback.git")).unwrap();
    world.applied(&extension("rollback", &format!("{{{source}}}")));
    world.condition("oext/rollback", "Ready", "True");
    let newest = world.get("oext/rollback")["status"].clone();
    assert_eq!(newest["artifact"]["treeDigest"], second["artifact"]["treeDigest"]);
    assert_eq!(newest["resolved"], second["resolved"]);
}

/// See the name.
pub fn a_failed_upgrade_keeps_what_is_installed(world: &World) {
    let repository = Repository::probe(world, "keeps");
    world.applied(&extension("keeps", &format!("{{source: {{url: {}}}}}", repository.url)));
    world.condition("oext/keeps", "Ready", "True");
    let before = world.get("oext/keeps");
    repository.replace("manifest.yaml", "minVersion: 4.20", "minVersion: 99.0").push("too new");
    reconcile_now(world, "keeps", "upgrade");
    let after = world.get("oext/keeps");
    assert_eq!(condition(&after, "Ready").unwrap()["reason"], "Incompatible", "{after}");
    assert_eq!(condition(&after, "Installed").unwrap()["status"], "True");
    assert_eq!(after["status"]["artifact"], before["status"]["artifact"]);
    let tree = before["status"]["artifact"]["treeDigest"].as_str().unwrap().replace(':', "-");
    assert_eq!(world.volume("readlink keeps").trim(), format!(".store/{tree}"));
}

/// See the name.
pub fn a_changed_tree_is_repaired_within_the_interval(world: &World) {
    // three trees of their own, damaged together, so that one interval is enough for all
    let cases = [
        (
            "drift-changed",
            "chmod u+w probe.sh && echo '# changed' >> probe.sh",
            "! grep -q '# changed' probe.sh",
            "probe.sh",
        ),
        ("drift-missing", "chmod u+w . && rm README", "test -f README", "README"),
        ("drift-added", "chmod u+w . && echo x > added", "! test -e added", "added"),
    ];
    let repository = Repository::probe(world, "drift");
    for (name, ..) in cases {
        repository.write("README", name).push(name);
        let url = repository.archive(world, &format!("{name}.tar.gz"));
        let source = format!("{{type: archive, url: {url}}}");
        world.applied(&extension(name, &format!("{{source: {source}, interval: 10s}}")));
    }
    for (name, damage, ..) in cases {
        world.condition(&format!("oext/{name}"), "Ready", "True");
        // whether it is mended already is not asked: a look may come at any moment
        assert_eq!(world.volume(&format!("cd {name}/ && {damage} && echo damaged")).trim(), "damaged", "{name}");
    }
    // nobody asks for it
    for (name, _, mended, file) in cases {
        world.wait(&format!("oext/{name}"), "repair", |_| {
            let is_mended = world.volume(&format!("cd {name}/ && if {mended}; then echo mended; fi"));
            (is_mended.trim() == "mended").then_some(())
        });
        world.condition(&format!("oext/{name}"), "Ready", "True");
        world.described(&format!("oext {name}"), &["Drifted", file]);
    }
}

/// See the name.
pub fn an_upgrade_leaves_running_actions_their_tree(world: &World) {
    let repository = Repository::probe(world, "upgraded");
    let gate = world.append_url("upgraded-gate");
    let script = format!(
        "#!/bin/sh\necho began >&2\nuntil [ -n \"$(curl -fsS {gate})\" ]; do sleep 0.2; done\ncat \"${{0%/*}}/README\"\n"
    );
    repository.write("probe.sh", &script).write("README", "old tree").push("old");
    world.namespace("upgraded");
    world.applied(&extension("upgraded", &format!("{{source: {{url: {}}}, revisionHistoryLimit: 0}}", repository.url)));
    world.condition("oext/upgraded", "Ready", "True");
    let old = world.get("oext/upgraded")["status"]["artifact"]["treeDigest"].clone();
    world.applied(&run("upgraded", "one", "action: Noise"));
    running(world, "upgraded", "one");
    repository.write("README", "new tree").push("new");
    reconcile_now(world, "upgraded", "upgrade");
    let status = world.get("oext/upgraded")["status"].clone();
    assert_ne!(status["artifact"]["treeDigest"], old);
    assert!(status["history"].is_null(), "revisionHistoryLimit is 0: {status}");
    assert_eq!(world.volume("cat upgraded/README").trim(), "new tree");
    world.open("upgraded-gate");
    let ended = world.finished("upgraded", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(ended["status"]["revision"]["treeDigest"], old);
    assert!(ended["status"]["stdoutTail"].as_str().unwrap().contains("old tree"), "{ended}");
}
