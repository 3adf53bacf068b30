//! Retries, and targets given in place.

use serde_json::Value;

use crate::Test;
use crate::harness::{World, condition};
use crate::outputs::{eventually, output};
use crate::rights::{bind, payload, refused, taken};
use crate::runs::{cancel, finished, probe, run};

/// The tests.
pub const TESTS: &[Test] = &[
    ("an_attempt_that_fails_is_repeated_until_it_succeeds", an_attempt_that_fails_is_repeated_until_it_succeeds),
    ("a_run_cancelled_between_attempts_starts_no_other", a_run_cancelled_between_attempts_starts_no_other),
    ("a_target_in_place_needs_a_right_of_its_own", a_target_in_place_needs_a_right_of_its_own),
];

fn flaky(world: &World, file: &str, succeeds: u32, retries: u32) -> String {
    let url = world.append_url(file);
    format!("action: Flaky, retries: {retries}, parameters: {{url: '{url}', succeeds: {succeeds}}}")
}

fn attempts(run: &Value) -> usize {
    run["status"]["attempts"].as_array().map_or(0, Vec::len)
}

fn paused(world: &World, namespace: &str, name: &str) -> Value {
    world.wait(&format!("-n {namespace} arun/{name}"), "pause", |run| {
        (run["status"]["reason"] == "Retrying").then(|| run.clone())
    })
}

fn an_attempt_that_fails_is_repeated_until_it_succeeds(world: &World) {
    probe(world, "flaky");
    world.applied(&run("flaky", "one", &flaky(world, "flaky", 3, 2)));
    let waiting = paused(world, "flaky", "one");
    assert_eq!(waiting["status"]["phase"], "Pending", "{waiting}");
    let message = waiting["status"]["message"].as_str().unwrap();
    // the first pause, or the second
    let failed = attempts(&waiting);
    let expected = format!("attempt {failed} of 3 failed, attempt {} starts at ", failed + 1);
    assert!(message.starts_with(&expected), "{message}");
    assert!(message.contains(&format!("not yet, this is attempt {failed}")), "{message}");
    assert_eq!(condition(&waiting, "Complete").unwrap()["status"], "False");
    // two pauses, of about 10 and 20 s
    let ended = world.finished("flaky", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(ended["status"]["result"]["attempt"], "3");
    let attempts = ended["status"]["attempts"].as_array().unwrap();
    let ends: Vec<_> = attempts.iter().map(|attempt| (&attempt["exitCode"], &attempt["reason"])).collect();
    let expected = [(11, "ActionFailed"), (12, "ActionFailed"), (0, "Succeeded")]
        .map(|(code, reason)| (Value::from(code), Value::from(reason)));
    assert!(ends.into_iter().eq(expected.iter().map(|(code, reason)| (code, reason))), "{ended}");
    let uid = ended["metadata"]["uid"].as_str().unwrap();
    // what each attempt printed is kept
    let first = || output(world, "flaky/one", &["--attempt", "1", "--stream", "stderr"]);
    eventually(first, |printed| printed.text == "not yet, this is attempt 1\n");
    let last = || output(world, "flaky/one", &["--stream", "stdout"]);
    eventually(last, |printed| printed.text.contains("\"attempt\":\"3\""));
    assert_eq!(world.appended("flaky"), [format!("1 {uid}"), format!("2 {uid}"), format!("3 {uid}")]);
}

fn a_run_cancelled_between_attempts_starts_no_other(world: &World) {
    probe(world, "paused");
    // a pause is short: where the next attempt was faster than the word that there is to be none, another run is tried
    let met = (1..=5).find(|turn| {
        let name = format!("run-{turn}");
        world.applied(&run("paused", &name, &flaky(world, &format!("paused-{turn}"), 99, 9)));
        let failed = attempts(&paused(world, "paused", &name));
        cancel(world, "paused", &name);
        let ended = world.finished("paused", &name);
        assert_eq!(ended["status"]["phase"], "Canceled", "{ended}");
        attempts(&ended) == failed
    });
    let turn = met.unwrap_or_else(|| panic!("no run was cancelled between two attempts"));
    let attempt = &world.get(&format!("-n paused arun/run-{turn}"))["status"]["attempts"][0];
    assert_eq!(attempt["reason"], "ActionFailed", "{attempt}");
    let lines = world.appended(&format!("paused-{turn}"));
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(world.appended(&format!("paused-{turn}")), lines);
}

fn a_target_in_place_needs_a_right_of_its_own(world: &World) {
    probe(world, "inplace");
    bind(world, "inplace", "outrigger-tenant");
    let inplace = |name: &str| {
        run("inplace", name, "action: Open, target: {name: i-2-9-VM, id: 6f1c, host: {url: https://lab.example.com}}")
    };
    refused(
        world,
        "inplace",
        &inplace("one"),
        &["may not give a target in place to extension \"inplace\"", "freeformtargets.outrigger.dev \"inplace\""],
    );
    world.applied(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: free-form, namespace: inplace}\nrules: [{apiGroups: \
         [outrigger.dev], resources: [freeformtargets], resourceNames: [inplace], verbs: [use]}]\n---\napiVersion: \
         rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: free-form, namespace: inplace}\nroleRef: {apiGroup: \
         rbac.authorization.k8s.io, kind: Role, name: free-form}\nsubjects: [{kind: ServiceAccount, name: tenant, namespace: \
         inplace}]\n",
    );
    taken(world, "inplace", &inplace("one"));
    let found = payload(world, "inplace", "one");
    assert_eq!(found["externaldetails"]["host"]["url"], "https://lab.example.com");
    assert_eq!((&found["virtualmachinename"], &found["virtualmachineid"]), (&"i-2-9-VM".into(), &"6f1c".into()));
    // an administrator needs no further right
    let power = finished(world, "inplace", "power", "action: status, target: {name: i-2-9-VM}");
    assert_eq!(power["status"]["power"], "PowerOn", "{power}");
}
