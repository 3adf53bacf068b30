//! The volume fails under the real controller: it runs beside the cluster, on a small file system in a mount namespace of
//! the test's own, which is filled, made read-only, taken away; and two controllers meet on one volume.

use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::beside::{is_busy, wait_for_work};
use crate::faulty::{Bench, OWN, script};
use crate::harness::{World, condition};

/// The tests. They end with the chart uninstalled.
pub const TESTS: &[Test] = &[
    ("a_full_volume_stops_upgrades_and_nothing_else", a_full_volume_stops_upgrades_and_nothing_else),
    ("a_read_only_volume_stops_upgrades_and_deletions_only", a_read_only_volume_stops_upgrades_and_deletions_only),
    ("a_volume_that_vanishes_loses_nothing", a_volume_that_vanishes_loses_nothing),
    ("what_is_in_the_way_is_named_until_it_is_moved", what_is_in_the_way_is_named_until_it_is_moved),
    ("a_leader_that_was_stopped_in_a_publish_does_no_harm_later", a_leader_that_was_stopped_in_a_publish_does_no_harm),
];

fn message(object: &Value, type_: &str) -> String {
    condition(object, type_).and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
}

/// The upgrade failed for this reason, and what was installed still is.
fn assert_kept(object: &Value, text: &str) {
    assert!(message(object, "Ready").ends_with(text), "{object}");
    assert_eq!(condition(object, "Installed").unwrap()["status"], "True", "{object}");
    assert_eq!(condition(object, "Reconciling").unwrap()["status"], "True", "{object}");
    assert!(condition(object, "Stalled").is_none(), "{object}");
}

fn a_full_volume_stops_upgrades_and_nothing_else(world: &World) {
    let text = "no space or no inode is left on the volume; enlarge it or remove unused extensions";
    let mut bench = Bench::new(world, "2m");
    bench.installed("full", "one");
    bench.volume.fill();
    bench.offer("full", "two", 200);
    assert_kept(&bench.reconciled("full", "Ready", "False", "StoreFailed"), text);
    bench.reads("full", "one");
    bench.nothing_stays_staged();
    bench.run("while-full", "full");
    // the runner is not on the volume yet, and finds no room
    bench.volume.sh("rm real/filler");
    bench.recovers("full", "two");
    bench.is_started("while-full");

    bench.volume.fill();
    bench.offer("full", "three", 200);
    assert_kept(&bench.reconciled("full", "Ready", "False", "StoreFailed"), text);
    bench.run("still-full", "full");
    bench.is_started("still-full");
    // a controller that starts on a full volume serves, says the same, and runs what is installed
    bench.restart("the store cannot be opened");
    assert_kept(&bench.reconciled("full", "Ready", "False", "StoreFailed"), text);
    bench.run("started-full", "full");
    bench.is_started("started-full");
    bench.volume.sh("rm real/filler");
    bench.recovers("full", "three");
    bench.end(&["full"]);
}

fn a_read_only_volume_stops_upgrades_and_deletions_only(world: &World) {
    let text = "the volume is read-only; mount it read-write, with access mode ReadWriteMany";
    let mut bench = Bench::new(world, "4m");
    bench.installed("closed", "one");
    bench.installed("leaving", "one");
    bench.run("before", "closed");
    bench.is_started("before");
    bench.volume.sh("mount -o remount,bind,ro seen");
    bench.offer("closed", "two", 4);
    assert_kept(&bench.reconciled("closed", "Ready", "False", "StoreFailed"), text);
    bench.run("while-closed", "closed");
    bench.is_started("while-closed");
    world.kubectl(&["delete", "oext", "leaving", "--wait=false"]);
    let waits = world.wait("oext/leaving", "reason why it stays", |object| {
        let ready = condition(object, "Ready")?;
        (ready["reason"] == "StoreFailed").then(|| message(object, "Ready"))
    });
    assert!(waits.starts_with("deletion waits for the volume") && waits.ends_with(text), "{waits}");
    bench.restart("the store cannot be opened");
    assert_kept(&bench.reconciled("closed", "Ready", "False", "StoreFailed"), text);
    bench.volume.sh("mount -o remount,bind,rw seen");
    bench.recovers("closed", "two");
    world.wait("oext/leaving", "end of the deletion", |object| object.is_null().then_some(()));
    assert!(!bench.volume.inside("seen/extensions/leaving").is_symlink());
    bench.end(&["closed"]);
}

fn a_volume_that_vanishes_loses_nothing(world: &World) {
    let bench = Bench::new(world, "4m");
    bench.installed("away", "one");
    bench.run("before", "away");
    bench.is_started("before");
    bench.volume.sh("umount -l seen");
    bench.offer("away", "two", 4);
    let object = bench.reconciled("away", "Ready", "False", "StoreFailed");
    let text = message(&object, "Ready");
    assert!(text.contains("the volume is gone or does not answer") && text.contains("/seen/extensions"), "{text}");
    let installed = condition(&object, "Installed").unwrap();
    assert_eq!((&installed["status"], &installed["reason"]), (&"Unknown".into(), &"StoreFailed".into()), "{object}");
    assert!(object["status"]["artifact"]["treeDigest"].is_string(), "{object}");
    bench.run("while-away", "away");
    let waits = world.wait(&format!("-n {OWN} arun/while-away"), "reason why it waits", |run| {
        run["status"]["message"].as_str().filter(|message| message.contains("the volume is gone")).map(str::to_owned)
    });
    assert!(!waits.is_empty());
    assert_eq!(bench.volume.sh("ls -A seen"), "", "nothing is written where the volume was");
    bench.volume.sh("mount --bind real seen");
    bench.recovers("away", "two");
    bench.is_started("while-away");
    bench.end(&["away"]);
}

fn what_is_in_the_way_is_named_until_it_is_moved(world: &World) {
    let bench = Bench::new(world, "4m");
    bench.installed("way", "one");
    bench.volume.sh("cd seen/extensions; rm way; mkdir way; echo theirs > way/file");
    bench.offer("way", "two", 4);
    let object = bench.reconciled("way", "Ready", "False", "StoreFailed");
    assert_kept(
        &object,
        "link extension: extensions/way is in the way (a directory) and was not made by outrigger; move it away",
    );
    assert_eq!(bench.volume.sh("cat seen/extensions/way/file"), "theirs\n");
    bench.volume.sh("mv seen/extensions/way seen/theirs");
    bench.recovers("way", "two");

    // in the place of a tree, which is the operator's own
    bench
        .volume
        .sh("cd seen/extensions/.store; tree=$(basename $(readlink ../way)); rm -rf $tree; echo theirs > $tree");
    bench.reconciled("way", "Ready", "True", "Succeeded");
    bench.recovers("way", "two");
    world.wait("events", "word of what was replaced", |events| {
        let words = "its directory was replaced by something else on the volume";
        events.to_string().contains(words).then_some(())
    });
    bench.end(&["way"]);
}

fn a_leader_that_was_stopped_in_a_publish_does_no_harm(world: &World) {
    let mut bench = Bench::new(world, "64m");
    bench.installed("late", "one");
    let mut old = bench.controller.take().unwrap();
    let mut standby = bench.another(1);
    let leader = || world.get(&format!("-n {OWN} lease/outrigger"))["spec"]["holderIdentity"].clone();
    let first = leader();

    // the old leader is stopped while unfinished work of it is on the volume
    let volume = bench.volume.inside("seen");
    let stopped = (0..20).any(|turn| {
        bench.offer("late", &format!("old-{turn}"), 2000);
        world.ask_for_look("late", &turn.to_string());
        wait_for_work(&volume);
        std::thread::sleep(Duration::from_millis(40 * turn));
        old.signal("STOP");
        let stopped = is_busy(&volume);
        if !stopped {
            old.signal("CONT");
        }
        stopped
    });
    assert!(stopped, "the leader could not be stopped in a publish");

    bench.offer("late", "new", 4);
    standby.wait_for("the store is open");
    let second = leader();
    assert_ne!(second, first);
    world.wait("oext/late", "upgrade by the new leader", |_| {
        let read = std::fs::read_to_string(bench.volume.inside("seen/extensions/late/run.sh")).ok()?;
        (read == script("new")).then_some(())
    });
    // the link comes before the word that it is there
    bench.reconciled("late", "Ready", "True", "Succeeded");
    bench.recovers("late", "new");
    let before = (world.get("oext/late")["status"].clone(), bench.volume.assert_intact("late"));

    old.signal("CONT");
    assert_eq!(old.ended().code(), Some(1), "the old leader ends itself");
    old.wait_for("the Lease was lost: another replica writes now");
    std::thread::sleep(Duration::from_secs(3));
    bench.recovers("late", "new");
    assert_eq!((world.get("oext/late")["status"].clone(), bench.volume.assert_intact("late")), before);
    assert_eq!(leader(), second);
    bench.controller = Some(standby);
    bench.end(&["late"]);
}
