//! A node is lost: kubelet says nothing more, and what ran there is gone. Every run says how it ended, within its deadline.
//!
//! With `OUTRIGGER_SOAK=1` only, and on the local cluster: it takes two minutes until others believe that a node is lost.

use crate::Test;
use crate::disruption::ready;
use crate::harness::{NAMESPACE, World, cluster, condition, is_ours, run as command};
use crate::runs::{ENDLESS, append, finished, probe_with, run, running};

/// The tests.
pub const TESTS: &[Test] =
    &[("every_run_of_a_lost_node_says_how_it_ended", every_run_of_a_lost_node_says_how_it_ended)];

/// Finds the node again when this is dropped, also by a test that fails.
struct Lost;

impl Lost {
    /// Kubelet stands still, and the processes of a pod are gone.
    fn with(pod: &str) -> Self {
        command(&mut cluster(&["lose-node", pod])).unwrap();
        Self
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if let Err(problem) = command(&mut cluster(&["find-node"])) {
            println!("{problem}");
        }
    }
}

fn every_run_of_a_lost_node_says_how_it_ended(world: &World) {
    if std::env::var_os("OUTRIGGER_SOAK").is_none() {
        return println!("skipped: OUTRIGGER_SOAK is not set");
    }
    if !is_ours() {
        return println!("skipped: the cluster is not the local one");
    }
    probe_with(world, "lost", ", runtime: {terminationGracePeriodSeconds: 1}");
    let long = format!("{}, timeoutSeconds: 90", append(world, "lost-claimed", ENDLESS));
    world.applied(&run("lost", "claimed", &long));
    world.lines("lost-claimed", 1);
    let claimed = running(world, "lost", "claimed");
    let label = format!("outrigger.dev/run-uid={}", claimed["metadata"]["uid"].as_str().unwrap());
    // kubelet said so, which a node that does not answer does no more
    let pod = world.wait(&format!("-n {NAMESPACE} pods -l {label}"), "readiness", |pods| {
        let ready = condition(&pods["items"][0], "Ready")?;
        (ready["status"] == "True").then(|| pods["items"][0]["metadata"]["uid"].as_str().map(str::to_owned))?
    });

    let node = Lost::with(&pod);
    // the scheduler does not know yet
    let short = format!("{}, startDeadlineSeconds: 100", append(world, "lost-unclaimed", ""));
    world.applied(&run("lost", "unclaimed", &short));
    let unclaimed = world.finished("lost", "unclaimed");
    assert_eq!(unclaimed["status"]["phase"], "Failed", "{unclaimed}");
    assert_eq!(unclaimed["status"]["reason"], "StartDeadlineExceeded", "{unclaimed}");
    let ended = world.finished("lost", "claimed");
    assert_eq!(ended["status"]["phase"], "OutcomeUnknown", "{ended}");
    let message = ended["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("the action started, and no report came in time (the pod's node "), "{message}");

    drop(node);
    ready(world);
    for kind in ["jobs", "pods"] {
        world.wait(&format!("-n {NAMESPACE} {kind} -l outrigger.dev/run-uid"), "end", |list| {
            list["items"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
    assert_eq!(world.appended("lost-claimed").len(), 1, "and it is never repeated");
    assert_eq!(world.appended("lost-unclaimed").len(), 0, "it never started");
    let after = finished(world, "lost", "after", &append(world, "lost-after", ""));
    assert_eq!(after["status"]["phase"], "Succeeded", "{after}");
}
