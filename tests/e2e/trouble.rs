//! Runs that the cluster does not let start, or ends: each says what was in the way.

use crate::Test;
use crate::harness::{NAMESPACE, World};
use crate::runs::{finished, probe, probe_with, too_late};

/// It bounds what the operator's namespace may hold, so it runs alone.
pub const TESTS: &[Test] =
    &[("a_quota_that_is_used_up_ends_the_run_with_its_words", a_quota_that_is_used_up_ends_the_run)];

/// The others.
pub const BESIDE_OTHERS: &[Test] = &[
    ("a_pod_that_no_node_takes_ends_the_run_with_its_words", a_pod_that_no_node_takes_ends_the_run),
    ("a_full_scratch_directory_ends_the_run_with_kubelets_words", a_full_scratch_directory_ends_the_run),
    ("an_action_out_of_memory_ends_the_run", an_action_out_of_memory_ends_the_run),
];

const ECHO: &str = "action: Echo, parameters: {text: x}";

/// With no Job left to create, and with no pod left for a Job.
fn a_quota_that_is_used_up_ends_the_run(world: &World) {
    probe(world, "quota");
    for (name, bounded) in [("jobs", "count/jobs.batch: '0'"), ("pods", "pods: '1'")] {
        world.applied(&format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: e2e-{name}, namespace: {NAMESPACE}}}\nspec: {{hard: \
             {{{bounded}}}}}\n"
        ));
        let quota = format!("-n {NAMESPACE} resourcequota/e2e-{name}");
        world.wait(&quota, "count", |quota| quota["status"]["hard"].as_object().map(drop));
        too_late(world, "quota", name, ECHO, |message| message.contains(&format!("exceeded quota: e2e-{name}")));
        assert!(world.kubectl(&["-n", NAMESPACE, "delete", "resourcequota", &format!("e2e-{name}")]).success);
    }
    let run = finished(world, "quota", "free", ECHO);
    assert_eq!(run["status"]["phase"], "Succeeded", "{run}");
}

fn a_pod_that_no_node_takes_ends_the_run(world: &World) {
    probe_with(world, "nowhere", ", runtime: {nodeSelector: {outrigger.dev/no-such-node: anywhere}}");
    let is_told = |message: &str| message.contains("node") && message.contains("selector");
    too_late(world, "nowhere", "one", ECHO, is_told);
}

/// Kubelet looks at the limits of volumes every ten seconds or so. The script heeds its TERM, and the runner would tell that
/// the pod was told to end before kubelet says why.
fn a_full_scratch_directory_ends_the_run(world: &World) {
    probe(world, "scratch");
    let run = finished(world, "scratch", "one", "action: Fill");
    let status = &run["status"];
    assert_eq!((status["phase"].as_str(), status["reason"].as_str()), (Some("Failed"), Some("Evicted")), "{run}");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("while the action ran, ") && message.contains("256Mi"), "{message}");
}

fn an_action_out_of_memory_ends_the_run(world: &World) {
    probe_with(world, "memory", ", runtime: {resources: {limits: {memory: 64Mi}}}");
    let run = finished(world, "memory", "one", "action: Eat");
    let status = &run["status"];
    assert_eq!(status["phase"], "Failed", "{run}");
    // With version 2 of control groups kubelet has the whole container killed; with version 1 only the process that took the
    // memory dies, and the runner sees that it did.
    assert_eq!(status["reason"], "OOMKilled", "{run}");
}
