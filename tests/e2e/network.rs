//! How actions' pods and the operator reach each other: CAs that follow one another, and policies of the network.

use crate::Test;
use crate::harness::{NAMESPACE, TIMEOUT, World};
use crate::runs::{append, finished, gated, probe, probe_with, run, running};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a_run_outlasts_the_ca_that_its_job_pins", a_run_outlasts_the_ca_that_its_job_pins),
    ("an_extensions_network_policy_comes_before_its_jobs", an_extensions_network_policy_comes_before_its_jobs),
];

fn a_run_outlasts_the_ca_that_its_job_pins(world: &World) {
    probe(world, "rotation");
    world.applied(&run("rotation", "long", &append(world, "rotation", &gated(world, "rotation-gate"))));
    running(world, "rotation", "long");
    let secret = format!("-n {NAMESPACE} secret/outrigger-tls");
    let old = world.get(&secret)["data"]["ca.crt"].clone();
    let annotate = ["-n", NAMESPACE, "annotate", "secret", "outrigger-tls", "outrigger.dev/rotate-ca=now"];
    assert!(world.kubectl(&annotate).success);
    let new = world.wait(&secret, "a new CA beside the old one", |secret| {
        (secret["data"]["old-ca.crt"] == old).then(|| secret["data"]["ca.crt"].clone())
    });
    assert_ne!(new, old);
    let short = finished(world, "rotation", "short", "action: Echo, parameters: {text: new}");
    assert_eq!(short["status"]["phase"], "Succeeded", "{short}");
    world.open("rotation-gate");
    let long = world.finished("rotation", "long");
    assert_eq!(long["status"]["phase"], "Succeeded", "{long}");
}

fn an_extensions_network_policy_comes_before_its_jobs(world: &World) {
    let policy = format!("-n {NAMESPACE} networkpolicy/outrigger-action-walled");
    let gone = |object: &serde_json::Value| object.is_null().then_some(());
    probe_with(world, "walled", ", runtime: {networkPolicy: {egress: [{cidr: 192.0.2.0/24, ports: [{port: 443}]}]}}");
    let ended = finished(world, "walled", "one", "action: Echo, parameters: {text: walled}");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    let spec = world.get(&policy)["spec"].clone();
    assert_eq!(spec["podSelector"]["matchLabels"]["outrigger.dev/extension"], "walled");
    let egress = spec["egress"].as_array().unwrap();
    assert_eq!(egress.last().unwrap()["to"][0]["ipBlock"]["cidr"], "192.0.2.0/24");

    let open = ["patch", "oext/walled", "--type=merge", "-p", r#"{"spec": {"runtime": {"networkPolicy": null}}}"#];
    assert!(world.kubectl(&open).success);
    world.wait(&policy, "end of the policy", gone);

    let close = ["patch", "oext/walled", "--type=merge", "-p", r#"{"spec": {"runtime": {"networkPolicy": {}}}}"#];
    assert!(world.kubectl(&close).success);
    world.condition("oext/walled", "Ready", "True");
    let ended = finished(world, "walled", "two", "action: Echo, parameters: {text: walled}");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert!(!world.get(&policy).is_null());
    assert!(world.kubectl(&["delete", "oext/walled", TIMEOUT]).success);
    world.wait(&policy, "end of the policy", gone);
}
