//! The operator is killed at bad moments: nothing is half-installed, no script starts twice, every run ends.
//!
//! Each test kills or stops the operator, so they run one after the other.

use crate::Test;
use crate::harness::{NAMESPACE, World};
use crate::repositories::Repository;
use crate::runs::{probe, probe_with, run, running, slash};

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

/// Kills every replica at once.
fn kill_all(world: &World) {
    let selector = "app.kubernetes.io/component=operator";
    let killed = world.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", selector, "--force", "--grace-period=0"]);
    assert!(killed.success, "{}", killed.text);
}

fn scale(world: &World, replicas: u32) {
    let replicas = format!("--replicas={replicas}");
    assert!(world.kubectl(&["-n", NAMESPACE, "scale", "deployment/outrigger", &replicas]).success);
    if replicas == "--replicas=0" {
        let selector = "app.kubernetes.io/component=operator";
        world.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", selector, "--force", "--grace-period=0"]);
        let gone = world.kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "pods", "-l", selector, "--timeout=60s"]);
        assert!(gone.success, "{}", gone.text);
    } else {
        ready(world);
    }
}

fn ready(world: &World) {
    let rolled = world.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/outrigger", "--timeout=90s"]);
    assert!(rolled.success, "{}", rolled.text);
}

fn append(world: &World, file: &str, seconds: u32) -> String {
    format!("action: Append, parameters: {{url: '{}append/{file}', seconds: {seconds}}}", slash(&world.append))
}

fn line_of(world: &World, namespace: &str, file: &str) {
    world.wait(&format!("-n {namespace} arun/one"), "line of the script", |_| {
        (!world.appended(file).is_empty()).then_some(())
    });
}

fn a_killed_leader_is_followed_by_the_other_replica(world: &World) {
    probe(world, "leader");
    let lease = world.get(&format!("-n {NAMESPACE} lease/outrigger"));
    let leader = lease["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    let (pod, _) = leader.rsplit_once('_').unwrap();
    let killed = world.kubectl(&["-n", NAMESPACE, "delete", "pod", pod, "--force", "--grace-period=0"]);
    assert!(killed.success, "{}", killed.text);
    world.applied(&run("leader", "one", &append(world, "leader", 0)));
    let ended = world.finished("leader", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(world.appended("leader").len(), 1);
    let lease = world.get(&format!("-n {NAMESPACE} lease/outrigger"));
    assert_ne!(lease["spec"]["holderIdentity"], leader.as_str());
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
    world.applied(&run("before", "one", &append(world, "before", 0)));
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
    world.applied(&run("after", "one", &append(world, "after", 6)));
    running(world, "after", "one");
    kill_all(world);
    let ended = world.finished("after", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(world.appended("after").len(), 1);
    ready(world);
}

fn killed_before_the_report_the_runner_waits(world: &World) {
    probe(world, "report");
    world.applied(&run("report", "one", &append(world, "report", 4)));
    line_of(world, "report", "report");
    scale(world, 0);
    // the script ends while there is nobody to report to
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(world.get("-n report arun/one")["status"]["phase"], "Running");
    scale(world, 2);
    let ended = world.finished("report", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(ended["status"]["result"]["status"], "success");
    assert_eq!(world.appended("report").len(), 1);
}

fn a_claimed_run_whose_pod_vanishes_unseen(world: &World) {
    probe_with(world, "unknown", ", runtime: {terminationGracePeriodSeconds: 0}");
    world.applied(&run("unknown", "one", &append(world, "unknown", 600)));
    line_of(world, "unknown", "unknown");
    let label =
        format!("outrigger.dev/run-uid={}", world.get("-n unknown arun/one")["metadata"]["uid"].as_str().unwrap());
    scale(world, 0);
    let gone = world.kubectl(&["-n", NAMESPACE, "delete", "jobs,pods", "-l", &label, "--force", "--grace-period=0"]);
    assert!(gone.success, "{}", gone.text);
    // the object is gone at once, the runner only at the end of its pod's grace period: until then it would still report
    std::thread::sleep(std::time::Duration::from_secs(20));
    scale(world, 2);
    let ended = world.finished("unknown", "one");
    assert_eq!(ended["status"]["phase"], "OutcomeUnknown", "{ended}");
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
    let verified = world.kubectl(&[
        "-n",
        NAMESPACE,
        "exec",
        "deployment/outrigger",
        "--",
        "outrigger",
        "store",
        "verify",
        "--store",
        "/var/lib/outrigger",
    ]);
    assert!(verified.success, "{}", verified.text);
}

fn without_the_operator_no_run_is_created(world: &World) {
    probe(world, "alone");
    world.applied(&run("alone", "kept", &append(world, "alone", 0)));
    world.finished("alone", "kept");
    scale(world, 0);
    let refused = world.apply(&run("alone", "one", &append(world, "alone", 0)));
    assert!(!refused.success && refused.text.contains("webhook"), "{}", refused.text);
    let deleted = world.kubectl(&["-n", "alone", "delete", "arun", "kept", "--wait=false"]);
    assert!(deleted.success, "{}", deleted.text);
    scale(world, 2);
    world.wait("-n alone arun/kept", "end of the deletion", |run| run.is_null().then_some(()));
}
