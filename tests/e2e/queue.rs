//! Limits, places in the queue, and how long finished runs are kept.

use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::harness::{TIMEOUT, World};
use crate::runs::{ENDLESS, append, cancel, finished, probe_with, run, running, too_late};

/// The tests.
pub const TESTS: &[Test] = &[
    ("runs_take_turns_where_their_extension_allows_one", runs_take_turns_where_their_extension_allows_one),
    ("a_raised_limit_lets_the_next_run_start", a_raised_limit_lets_the_next_run_start),
    ("a_queued_run_that_is_too_late_says_where_it_stood", a_queued_run_that_is_too_late_says_where_it_stood),
    ("finished_runs_are_collected_as_they_ask_for", finished_runs_are_collected_as_they_ask_for),
];

/// Waits until the run says that it has this place.
fn queued(world: &World, namespace: &str, name: &str, position: i64) -> Value {
    world.wait(&format!("-n {namespace} arun/{name}"), &format!("place {position}"), |run| {
        (run["status"]["queuePosition"] == position).then(|| run.clone())
    })
}

fn runs_take_turns_where_their_extension_allows_one(world: &World) {
    probe_with(world, "turns", ", runtime: {maxConcurrentRuns: 1}");
    // it lasts until both others have their places
    world.applied(&run("turns", "first", &append(world, "turns", ENDLESS)));
    world.lines("turns", 1);
    world.applied(&run("turns", "second", &append(world, "turns", ", seconds: 1")));
    let second = queued(world, "turns", "second", 1);
    let expected = "queued at position 1: extension \"turns\" runs 1 action at a time (spec.runtime.maxConcurrentRuns)";
    assert_eq!(second["status"]["message"], expected);
    assert_eq!(second["status"]["reason"], "Queued");
    world.applied(&run("turns", "third", &append(world, "turns", ", seconds: 1")));
    queued(world, "turns", "third", 2);
    cancel(world, "turns", "first");
    let ended = ["first", "second", "third"].map(|name| world.finished("turns", name));
    for (run, phase) in ended.iter().zip(["Canceled", "Succeeded", "Succeeded"]) {
        assert_eq!(run["status"]["phase"], phase, "{run}");
        assert!(run["status"].get("queuePosition").is_none(), "{run}");
    }
    for (before, after) in ended.iter().zip(&ended[1..]) {
        // whole seconds, so never later than the real end
        let end = before["status"]["completionTime"].as_str().unwrap().trim_end_matches('Z').to_owned();
        let decided = after["status"]["attempts"][0]["decidedAt"].as_str().unwrap();
        assert!(decided >= end.as_str(), "decided at {decided}, while another ran until {end}");
    }
    assert_eq!(world.appended("turns").len(), 3);
}

fn a_raised_limit_lets_the_next_run_start(world: &World) {
    probe_with(world, "raised", ", runtime: {maxConcurrentRuns: 1}");
    world.applied(&run("raised", "first", &append(world, "raised", ENDLESS)));
    running(world, "raised", "first");
    world.applied(&run("raised", "second", &append(world, "raised", ENDLESS)));
    queued(world, "raised", "second", 1);
    let patch = r#"{"spec":{"runtime":{"maxConcurrentRuns":2}}}"#;
    let patched = world.kubectl(&["patch", "oext", "raised", "--type=merge", "-p", patch]);
    assert!(patched.success, "{}", patched.text);
    running(world, "raised", "second");
    for name in ["first", "second"] {
        cancel(world, "raised", name);
        assert_eq!(world.finished("raised", name)["status"]["phase"], "Canceled");
    }
}

fn a_queued_run_that_is_too_late_says_where_it_stood(world: &World) {
    probe_with(world, "late", ", runtime: {maxConcurrentRuns: 1}");
    world.applied(&run("late", "first", &append(world, "late", ENDLESS)));
    world.lines("late", 1);
    too_late(world, "late", "second", &append(world, "late", ""), |message| {
        message.contains(" s: queued at position 1")
    });
    // one that is cancelled does not wait for its turn
    world.applied(&run("late", "third", &append(world, "late", "")));
    queued(world, "late", "third", 1);
    cancel(world, "late", "third");
    let third = world.finished("late", "third");
    assert_eq!(third["status"]["phase"], "Canceled", "{third}");
    assert!(third["status"].get("attempts").is_none(), "{third}");
    assert!(world.kubectl(&["-n", "late", "delete", "arun", "first", TIMEOUT]).success);
    assert_eq!(world.appended("late").len(), 1);
}

fn finished_runs_are_collected_as_they_ask_for(world: &World) {
    probe_with(world, "kept", ", runtime: {runHistoryLimit: 1}");
    let generated: Vec<String> = (0..3)
        .map(|number| {
            let path = world.dir.path().join(format!("kept-{number}.yaml"));
            let text =
                run("kept", "x", "action: Echo, parameters: {text: x}").replace("name: x,", "generateName: many-,");
            std::fs::write(&path, text).unwrap();
            let created = world.kubectl(&["create", "-o", "name", "-f", &path.display().to_string()]);
            assert!(created.success, "{}", created.text);
            let name = created.text.trim().rsplit('/').next().unwrap().to_owned();
            world.finished("kept", &name);
            // ends are noted in whole seconds, and the newest is to be one
            std::thread::sleep(Duration::from_secs(1));
            name
        })
        .collect();
    let spec = append(world, "kept", "");
    let fixed = finished(world, "kept", "fixed", &spec);
    let spec_with_ttl = format!("{}, ttlSecondsAfterFinished: 3600", append(world, "kept-ttl", ""));
    let with_ttl = finished(world, "kept", "with-ttl", &spec_with_ttl);
    // its end is not waited for: it may be gone before anybody has seen it
    let short = format!("{}, ttlSecondsAfterFinished: 2", append(world, "kept-short", ""));
    world.applied(&run("kept", "short", &short));
    let gone = |name: &str| {
        world.wait(&format!("-n kept arun/{name}"), "collection", |run| run.is_null().then_some(()));
    };
    gone("short");
    assert_eq!(world.appended("kept-short").len(), 1, "it has run");
    gone(&generated[0]);
    gone(&generated[1]);
    assert!(!world.get(&format!("-n kept arun/{}", generated[2])).is_null(), "the newest is kept");
    // what has a fixed name stays, and applied again it is the same run, not another
    let applied = world.apply(&run("kept", "fixed", &spec));
    assert!(applied.success && applied.text.contains("unchanged"), "{}", applied.text);
    assert_eq!(world.get("-n kept arun/fixed")["status"], fixed["status"]);
    assert_eq!(world.appended("kept").len(), 1);
    // so it is with a TTL, until that is over
    let applied = world.apply(&run("kept", "with-ttl", &spec_with_ttl));
    assert!(applied.success && applied.text.contains("unchanged"), "{}", applied.text);
    assert_eq!(world.get("-n kept arun/with-ttl")["status"], with_ttl["status"]);
    assert_eq!(world.appended("kept-ttl").len(), 1);
}
