//! A namespace is deleted with everything in it: nothing may be created in it any more, and nothing keeps it.

use crate::Test;
use crate::harness::{NAMESPACE, TIMEOUT, World};
use crate::runs::{ENDLESS, append, finished, probe_with, run, running};

/// The tests.
pub const TESTS: &[Test] = &[("a_namespace_goes_with_its_runs", a_namespace_goes_with_its_runs)];

fn a_namespace_goes_with_its_runs(world: &World) {
    probe_with(world, "leaving", ", runtime: {maxConcurrentRuns: 1}");
    let ended = finished(world, "leaving", "ended", "action: getconsole");
    let secret = ended["status"]["resultRef"]["name"].as_str().unwrap();
    assert!(world.get(&format!("-n leaving secret/{secret}")).is_object(), "{ended}");
    let append = append(world, "leaving", ENDLESS);
    world.applied(&run("leaving", "running", &append));
    let running = running(world, "leaving", "running");
    world.lines("leaving", 1);
    world.applied(&run("leaving", "queued", &append));
    world.wait("-n leaving arun/queued", "queue", |run| (run["status"]["reason"] == "Queued").then_some(()));
    let deleted = world.kubectl(&["delete", "namespace", "leaving", TIMEOUT]);
    assert!(deleted.success, "{}", deleted.text);
    assert_eq!(world.appended("leaving").len(), 1, "the queued one never started");
    let label = format!("outrigger.dev/run-uid={}", running["metadata"]["uid"].as_str().unwrap());
    for kind in ["jobs", "pods"] {
        world.wait(&format!("-n {NAMESPACE} {kind} -l {label}"), "end", |list| {
            list["items"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
}
