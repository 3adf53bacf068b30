//! The operator is killed at bad moments: nothing is half-installed, no script starts twice, every run ends.
//!
//! Each test kills or stops the operator, so they run one after the other.

use serde_json::Value;

use crate::Test;
use crate::harness::{NAMESPACE, TIMEOUT, World, condition};
use crate::nodes;
use crate::repositories::Repository;
use crate::runs::{ENDLESS, append, finished, gated, patch_status, probe, probe_with, run, running};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a_killed_leader_is_followed_by_the_other_replica", a_killed_leader_is_followed_by_the_other_replica),
    ("killed_before_the_claim_the_script_starts_once", killed_before_the_claim_the_script_starts_once),
    ("killed_after_the_claim_the_outcome_still_arrives", killed_after_the_claim_the_outcome_still_arrives),
    ("killed_before_the_report_the_runner_waits_for_the_next_leader", killed_before_the_report_the_runner_waits),
    ("a_claimed_run_whose_pod_vanishes_unseen_is_of_unknown_outcome", a_claimed_run_whose_pod_vanishes_unseen),
    ("killed_during_an_install_nothing_is_left_half_done", killed_during_an_install_nothing_is_left_half_done),
    ("without_the_operator_no_run_is_created_but_runs_can_be_deleted", without_the_operator_no_run_is_created),
];

/// Label of the operator's pods.
pub const REPLICAS: &str = "app.kubernetes.io/component=operator";

/// Kills every replica at once.
fn kill_all(world: &World) {
    let killed = world.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", REPLICAS, "--force", "--grace-period=0"]);
    assert!(killed.success, "{}", killed.text);
}

/// With 0, it returns when no replica runs any more: one whose pod is gone from the API may still take a report.
fn scale(world: &World, replicas: u32) {
    let count = format!("--replicas={replicas}");
    assert!(world.kubectl(&["-n", NAMESPACE, "scale", "deployment/outrigger", &count]).success);
    if replicas > 0 {
        return ready(world);
    }
    let names = nodes::pods(world, REPLICAS);
    world.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", REPLICAS, "--grace-period=1", "--wait=false"]);
    let gone = world.kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "pods", "-l", REPLICAS, TIMEOUT]);
    assert!(gone.success, "{}", gone.text);
    nodes::stopped(world, &names);
}

/// Waits until all replicas are ready, and as the Deployment says. What its status says alone may be about pods that are gone.
pub fn ready(world: &World) {
    let rolled = world.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/outrigger", TIMEOUT]);
    assert!(rolled.success, "{}", rolled.text);
    let wanted = world.get(&format!("-n {NAMESPACE} deployment/outrigger"))["spec"]["replicas"].as_u64().unwrap();
    world.wait(&format!("-n {NAMESPACE} pods -l {REPLICAS}"), "readiness", |pods| {
        let pods = pods["items"].as_array()?;
        let is_ready = |pod: &Value| {
            let is_up = condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
            is_up && pod["metadata"]["deletionTimestamp"].is_null()
        };
        (pods.len() as u64 == wanted && pods.iter().all(is_ready)).then_some(())
    });
}

fn a_killed_leader_is_followed_by_the_other_replica(world: &World) {
    probe(world, "leader");
    let lease = world.get(&format!("-n {NAMESPACE} lease/outrigger"));
    let leader = lease["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    let (pod, _) = leader.rsplit_once('_').unwrap();
    let killed = world.kubectl(&["-n", NAMESPACE, "delete", "pod", pod, "--force", "--grace-period=0"]);
    assert!(killed.success, "{}", killed.text);
    let ended = finished(world, "leader", "one", &append(world, "leader", ""));
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(world.appended("leader").len(), 1);
    world.wait(&format!("-n {NAMESPACE} lease/outrigger"), "other holder", |lease| {
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        (!holder.is_empty() && holder != leader).then_some(())
    });
    ready(world);
}

fn killed_before_the_claim_the_script_starts_once(world: &World) {
    let repository = Repository::probe(world, "before");
    world.namespace("before");
    // no node has the label yet, so the pod cannot start before the test lets it
    world.applied(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: before}}\nspec:\n  source: \
         {{url: {}}}\n  runtime: {{nodeSelector: {{outrigger.dev/test-gate: open}}}}\n",
        repository.url
    ));
    world.condition("oext/before", "Ready", "True");
    world.applied(&run("before", "one", &append(world, "before", "")));
    world.wait("-n before arun/one", "attempt", |run| run["status"]["attempts"][0]["job"].as_str().map(drop));
    kill_all(world);
    let node = world.kubectl(&["get", "nodes", "-o", "name"]).text.lines().next().unwrap_or_default().to_owned();
    assert!(world.kubectl(&["label", "--overwrite", &node, "outrigger.dev/test-gate=open"]).success);
    let ended = world.finished("before", "one");
    world.kubectl(&["label", &node, "outrigger.dev/test-gate-"]);
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(world.appended("before").len(), 1);
    ready(world);
}

fn killed_after_the_claim_the_outcome_still_arrives(world: &World) {
    probe(world, "after");
    world.applied(&run("after", "one", &append(world, "after", &gated(world, "after-gate"))));
    running(world, "after", "one");
    kill_all(world);
    world.open("after-gate");
    let ended = world.finished("after", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(world.appended("after").len(), 1);
    ready(world);
}

fn killed_before_the_report_the_runner_waits(world: &World) {
    probe(world, "report");
    world.applied(&run("report", "one", &append(world, "report", &gated(world, "report-gate"))));
    world.lines("report", 1);
    scale(world, 0);
    // the script ends while there is nobody to report to
    world.open("report-gate");
    world.lines("report-gate", 2);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(world.get("-n report arun/one")["status"]["phase"], "Running");
    scale(world, 2);
    let ended = world.finished("report", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(ended["status"]["result"]["status"], "success");
    assert_eq!(world.appended("report").len(), 1);
}

fn a_claimed_run_whose_pod_vanishes_unseen(world: &World) {
    probe_with(world, "unknown", ", runtime: {terminationGracePeriodSeconds: 0}");
    world.applied(&run("unknown", "one", &append(world, "unknown", ENDLESS)));
    world.lines("unknown", 1);
    let label =
        format!("outrigger.dev/run-uid={}", world.get("-n unknown arun/one")["metadata"]["uid"].as_str().unwrap());
    scale(world, 0);
    let names = nodes::pods(world, &label);
    let gone = world.kubectl(&["-n", NAMESPACE, "delete", "jobs,pods", "-l", &label, "--grace-period=1", TIMEOUT]);
    assert!(gone.success, "{}", gone.text);
    // a runner that is left would still report
    nodes::stopped(world, &names);
    scale(world, 2);
    let ended = world.finished("unknown", "one");
    assert_eq!(ended["status"]["phase"], "OutcomeUnknown", "{ended}");
    let again = patch_status(world, "unknown", "one", "\"phase\":\"Pending\"");
    assert!(!again.success && again.text.contains("never starts again"), "{}", again.text);
    assert_eq!(world.appended("unknown").len(), 1, "and it is never repeated");
}

fn killed_during_an_install_nothing_is_left_half_done(world: &World) {
    let repository = Repository::probe(world, "install");
    let names: Vec<_> = (0..6).map(|number| format!("install-{number}")).collect();
    for name in &names {
        repository.write("README", name).push(name);
        let url = repository.archive(world, &format!("{name}.tar.gz"));
        world.applied(&format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: {name}}}\nspec: {{source: \
             {{type: archive, url: {url}}}}}\n"
        ));
        if name.ends_with(['1', '4']) {
            kill_all(world);
        }
    }
    for name in &names {
        world.condition(&format!("oext/{name}"), "Ready", "True");
    }
    ready(world);
    world.nothing_stays_staged();
    let verified = world.exec(&["outrigger", "store", "verify", "--store", "/var/lib/outrigger"]);
    assert!(verified.success, "{}", verified.text);
}

fn without_the_operator_no_run_is_created(world: &World) {
    probe(world, "alone");
    finished(world, "alone", "kept", &append(world, "alone", ""));
    scale(world, 0);
    let refused = world.apply_once(&run("alone", "one", &append(world, "alone", "")));
    assert!(!refused.success && refused.text.contains("webhook"), "{}", refused.text);
    let deleted = world.kubectl(&["-n", "alone", "delete", "arun", "kept", "--wait=false"]);
    assert!(deleted.success, "{}", deleted.text);
    scale(world, 2);
    world.wait("-n alone arun/kept", "end of the deletion", |run| run.is_null().then_some(()));
}
