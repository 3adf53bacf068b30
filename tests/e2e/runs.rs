//! Runs: from `kubectl apply` of an ActionRun to its outcome, and every way in which one can end.

use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::harness::{NAMESPACE, Printed, TIMEOUT, World, condition, until};
use crate::repositories::Repository;

/// The tests.
pub const TESTS: &[Test] = &[
    // mostly waits: begun first, it does so beside others
    ("an_image_that_cannot_be_pulled_ends_the_run", an_image_that_cannot_be_pulled_ends_the_run),
    ("a_run_succeeds_with_its_result", a_run_succeeds_with_its_result),
    ("the_payload_is_what_cloudstack_would_write", the_payload_is_what_cloudstack_would_write),
    ("a_failing_script_fails_the_run_with_its_words", a_failing_script_fails_the_run_with_its_words),
    ("output_without_json_is_kept_as_tails", output_without_json_is_kept_as_tails),
    ("a_timeout_reaches_every_process", a_timeout_reaches_every_process),
    ("a_cancelled_run_is_stopped", a_cancelled_run_is_stopped),
    ("a_deleted_run_leaves_nothing", a_deleted_run_leaves_nothing),
    ("a_deleted_job_or_pod_ends_the_run", a_deleted_job_or_pod_ends_the_run),
    ("a_job_or_pod_deleted_before_the_claim_is_made_again", a_job_or_pod_deleted_before_the_claim_is_made_again),
    ("a_finished_run_is_not_run_again", a_finished_run_is_not_run_again),
    ("a_run_waits_for_its_extension_until_the_deadline", a_run_waits_for_its_extension_until_the_deadline),
    ("deleting_an_extension_waits_for_its_run", deleting_an_extension_waits_for_its_run),
];

/// Installs the probe extension under a name of the test's own, and makes its namespace.
pub fn probe(world: &World, name: &str) {
    probe_with(world, name, "");
}

/// The same, with more fields of the extension's spec: `, runtime: {…}`.
pub fn probe_with(world: &World, name: &str, more: &str) {
    install(world, name, &Repository::probe(world, &format!("runs-{name}")), more);
}

/// Installs what a repository holds under a name of the test's own, and makes its namespace.
pub fn install(world: &World, name: &str, repository: &Repository, more: &str) {
    world.namespace(name);
    world.applied(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: {name}}}\nspec: {{source: \
         {{url: {}}}{more}}}\n",
        repository.url
    ));
    world.condition(&format!("oext/{name}"), "Ready", "True");
}

/// An ActionRun of the extension that has the namespace's name.
pub fn run(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: ActionRun\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{extensionRef: {{name: {namespace}}}, {spec}}}\n"
    )
}

/// Applies a run and waits for its end.
pub fn finished(world: &World, namespace: &str, name: &str, spec: &str) -> Value {
    world.applied(&run(namespace, name, spec));
    world.finished(namespace, name)
}

/// The spec of a run whose script adds a line to a file, and does then what `more` says; nothing, if that is empty.
pub fn append(world: &World, file: &str, more: &str) -> String {
    format!("action: Append, parameters: {{url: '{}'{more}}}", world.append_url(file))
}

/// For [`append`]: until somebody ends it.
pub const ENDLESS: &str = ", seconds: 1200";

/// For [`append`]: until a gate is opened.
pub fn gated(world: &World, gate: &str) -> String {
    format!(", gate: '{}'", world.append_url(gate))
}

/// Cancels a run.
pub fn cancel(world: &World, namespace: &str, name: &str) {
    let patch = ["patch", "arun", name, "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#];
    let patched = world.kubectl(&[&["-n", namespace], &patch[..]].concat());
    assert!(patched.success, "{}", patched.text);
}

/// Changes a field of a run's status, as an administrator.
pub fn patch_status(world: &World, namespace: &str, name: &str, field: &str) -> Printed {
    let patch = format!("{{\"status\":{{{field}}}}}");
    let arguments = ["patch", "arun", name, "--subresource=status", "--type=merge", "-p", &patch];
    world.kubectl(&[&["-n", namespace], &arguments[..]].concat())
}

/// A run that does not start before its deadline, which is long enough for its message to be `told`: the first of several
/// that is, since a slow machine needs time to find out what is in the way.
pub fn too_late(world: &World, namespace: &str, name: &str, spec: &str, told: impl Fn(&str) -> bool) -> Value {
    let mut ended = Value::Null;
    for seconds in [8, 30, 120] {
        let spec = format!("{spec}, startDeadlineSeconds: {seconds}");
        ended = finished(world, namespace, &format!("{name}-{seconds}"), &spec);
        assert_eq!(ended["status"]["phase"], "Failed", "{ended}");
        assert_eq!(ended["status"]["reason"], "StartDeadlineExceeded", "{ended}");
        assert!(ended["status"].get("startTime").is_none(), "{ended}");
        let message = ended["status"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("within {seconds} s")), "{message}");
        if told(message) {
            return ended;
        }
    }
    panic!("{ended}");
}

/// Waits until the script of a run has been claimed.
pub fn running(world: &World, namespace: &str, name: &str) -> Value {
    world.wait(&format!("-n {namespace} arun/{name}"), "claim", |run| {
        (run["status"]["phase"] == "Running").then(|| run.clone())
    })
}

fn uid(run: &Value) -> &str {
    run["metadata"]["uid"].as_str().unwrap()
}

/// What of a run is left in the operator's namespace.
fn leftovers(world: &World, run: &Value) -> String {
    let label = format!("outrigger.dev/run-uid={}", uid(run));
    let names = ["jobs", "pods"].map(|kind| world.get(&format!("-n {NAMESPACE} {kind} -l {label}"))["items"].clone());
    let names = names.iter().flat_map(|items| items.as_array().into_iter().flatten());
    names.map(|object| object["metadata"]["name"].to_string()).collect()
}

fn a_run_succeeds_with_its_result(world: &World) {
    probe(world, "succeeds");
    let spec = "action: Echo, parameters: {text: hello, count: 3, secret: swordfish-9, mode: fast}";
    let run = finished(world, "succeeds", "one", spec);
    let status = &run["status"];
    assert_eq!(status["phase"], "Succeeded", "{status}");
    assert_eq!(status["exitCode"], 0);
    assert_eq!(status["result"]["text"], "hello");
    assert_eq!(status["result"]["count"], 3);
    assert_eq!(status["result"]["timeout"], "60");
    assert_eq!(status["timeoutSeconds"], 60);
    assert_eq!(status["message"], "Echo of probe did it");
    assert!(status["stderrTail"].as_str().unwrap().contains("working on it"));
    assert!(status["stderrTail"].as_str().unwrap().contains("the secret is ********"), "{status}");
    assert_eq!(status["revision"]["treeDigest"], world.get("oext/succeeds")["status"]["artifact"]["treeDigest"]);
    assert_eq!(condition(&run, "Succeeded").unwrap()["status"], "True");
    assert_eq!(condition(&run, "Ready").unwrap()["status"], "True");
    // the Job is gone once its outcome is stored
    world.wait(
        &format!("-n {NAMESPACE} job/{}", status["attempts"][0]["job"].as_str().unwrap()),
        "end of the Job",
        |job| job.is_null().then_some(()),
    );
    let waited = world.kubectl(&["-n", "succeeds", "wait", "--for=condition=Succeeded", "arun/one", TIMEOUT]);
    assert!(waited.success, "{}", waited.text);
    let described = world.kubectl(&["-n", "succeeds", "describe", "arun", "one"]).text;
    assert!(described.contains("Succeeded") && !described.contains("is swordfish-9"), "{described}");
}

fn the_payload_is_what_cloudstack_would_write(world: &World) {
    probe_with(world, "payload", ", details: {region: north}");
    let run = finished(world, "payload", "one", "action: Payload");
    let payload = &run["status"]["result"];
    assert_eq!(payload["action"], "Payload", "{run}");
    assert_eq!(payload["externaldetails"]["extension"]["region"], "north");
    assert!(payload["caller"]["name"].is_string(), "{payload}");
    assert!(payload.get("parameters").is_none(), "{payload}");
    let seen = &payload["seen"];
    assert!(seen["path"].as_str().unwrap().starts_with("/run/outrigger/payload/"), "{seen}");
    assert_eq!((&seen["home"], &seen["user"], &seen["mode"]), (&"/tmp".into(), &"65532".into(), &"400".into()));
    let environment = "OUTRIGGER_ATTEMPT OUTRIGGER_IDEMPOTENCY_KEY";
    assert_eq!(seen["environment"], environment, "nothing of the runner's configuration reaches the script");
}

fn a_failing_script_fails_the_run_with_its_words(world: &World) {
    probe(world, "fails");
    let run = finished(world, "fails", "one", "action: Fail");
    let status = &run["status"];
    assert_eq!(status["phase"], "Failed", "{status}");
    assert_eq!(status["exitCode"], 7);
    assert_eq!(status["reason"], "ActionFailed");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("no luck with Fail") && message.contains("the disk is on fire"), "{message}");
    assert_eq!(condition(&run, "Complete").unwrap()["status"], "True");
    assert_eq!(condition(&run, "Succeeded").unwrap()["status"], "False");
    assert_eq!(condition(&run, "Stalled").unwrap()["status"], "True", "kstatus sees a failure: {run}");
}

fn output_without_json_is_kept_as_tails(world: &World) {
    probe(world, "noise");
    let run = finished(world, "noise", "one", "action: Noise");
    assert_eq!(run["status"]["phase"], "Succeeded", "{run}");
    assert!(run["status"].get("result").is_none(), "{run}");
    assert_eq!(run["status"]["stdoutTail"], "connecting…\nno JSON at all");
}

fn a_timeout_reaches_every_process(world: &World) {
    probe_with(world, "timeout", ", runtime: {terminationGracePeriodSeconds: 1}");
    let run = finished(world, "timeout", "one", "action: Children");
    assert_eq!(run["status"]["phase"], "Failed", "{run}");
    assert_eq!(run["status"]["reason"], "Timeout");
    assert!(run["status"]["message"].as_str().unwrap().contains("3 s"), "{run}");
    until("end of every process, with Job and pod", || {
        let left = leftovers(world, &run);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn a_cancelled_run_is_stopped(world: &World) {
    probe(world, "cancel");
    world.applied(&run("cancel", "one", &append(world, "cancelled", ENDLESS)));
    running(world, "cancel", "one");
    cancel(world, "cancel", "one");
    let ended = world.finished("cancel", "one");
    assert_eq!(ended["status"]["phase"], "Canceled", "{ended}");
    let back =
        world.kubectl(&["-n", "cancel", "patch", "arun", "one", "--type=merge", "-p", "{\"spec\":{\"cancel\":false}}"]);
    assert!(!back.success && back.text.contains("cancel"), "{}", back.text);
}

fn a_deleted_run_leaves_nothing(world: &World) {
    probe(world, "deleted");
    world.applied(&run("deleted", "one", &append(world, "deleted", ENDLESS)));
    let run = running(world, "deleted", "one");
    let deleted = world.kubectl(&["-n", "deleted", "delete", "arun", "one", TIMEOUT]);
    assert!(deleted.success, "{}", deleted.text);
    assert_eq!(leftovers(world, &run), "");
}

fn a_deleted_job_or_pod_ends_the_run(world: &World) {
    probe(world, "torn");
    for (name, kind) in [("job", "jobs"), ("pod", "pods")] {
        world.applied(&run("torn", name, &append(world, &format!("torn-{name}"), ENDLESS)));
        let started = running(world, "torn", name);
        world.lines(&format!("torn-{name}"), 1);
        let label = format!("outrigger.dev/run-uid={}", uid(&started));
        let deleted = world.kubectl(&["-n", NAMESPACE, "delete", kind, "-l", &label, "--wait=false"]);
        assert!(deleted.success, "{}", deleted.text);
        let ended = world.finished("torn", name);
        // the runner hears TERM, stops the script and reports
        assert_eq!(ended["status"]["reason"], "PodDeleted", "{ended}");
        assert_eq!(ended["status"]["phase"], "Failed", "{ended}");
        assert_eq!(world.appended(&format!("torn-{name}")).len(), 1, "started once");
    }
}

/// No node has the label until both are gone, so that no pod can claim before that.
fn a_job_or_pod_deleted_before_the_claim_is_made_again(world: &World) {
    probe_with(world, "unclaimed", ", runtime: {nodeSelector: {outrigger.dev/test-unclaimed: open}}");
    let names = ["jobs", "pods"];
    for kind in names {
        world.applied(&run("unclaimed", kind, &append(world, &format!("unclaimed-{kind}"), "")));
    }
    for kind in names {
        let label = format!("outrigger.dev/run-uid={}", uid(&world.get(&format!("-n unclaimed arun/{kind}"))));
        let pods = format!("-n {NAMESPACE} pods -l {label}");
        let pod = world.wait(&pods, "pod", |pods| pods["items"].get(0).cloned());
        let deleted = world.kubectl(&["-n", NAMESPACE, "delete", kind, "-l", &label, "--wait=false"]);
        assert!(deleted.success, "{}", deleted.text);
        // the pod of a deleted Job is deleted a little later
        world.wait(&pods, "deletion of the pod", |pods| {
            let is_it = |other: &Value| uid(other) == uid(&pod) && other["metadata"]["deletionTimestamp"].is_null();
            (!pods["items"].as_array()?.iter().any(is_it)).then_some(())
        });
    }
    let node = world.kubectl(&["get", "nodes", "-o", "name"]).text.lines().next().unwrap_or_default().to_owned();
    assert!(world.kubectl(&["label", "--overwrite", &node, "outrigger.dev/test-unclaimed=open"]).success);
    let ended = names.map(|kind| world.finished("unclaimed", kind));
    world.kubectl(&["label", &node, "outrigger.dev/test-unclaimed-"]);
    for (kind, ended) in names.iter().zip(&ended) {
        assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
        assert_eq!(ended["status"]["attempts"].as_array().unwrap().len(), 1, "{ended}");
        assert_eq!(world.appended(&format!("unclaimed-{kind}")).len(), 1, "started once");
    }
}

fn a_finished_run_is_not_run_again(world: &World) {
    probe(world, "again");
    let spec = append(world, "again", "");
    let first = finished(world, "again", "one", &spec);
    assert_eq!(first["status"]["phase"], "Succeeded", "{first}");
    let applied = world.apply(&run("again", "one", &spec));
    assert!(applied.success && applied.text.contains("unchanged"), "{}", applied.text);
    let changed = world.apply(&run("again", "one", &spec.replace("again'", "other'")));
    assert!(!changed.success && changed.text.contains("immutable"), "{}", changed.text);
    // nor does anybody rewrite how it ended, an administrator included
    let (ended, kept) = ("a finished run stays as it ended", "of a finished run stay as they are");
    for (field, refusal) in [
        ("\"phase\":\"Pending\"", ended),
        ("\"phase\":\"Failed\"", ended),
        ("\"exitCode\":3", kept),
        ("\"reason\":\"Forged\"", kept),
        ("\"message\":\"forged\"", kept),
        ("\"completionTime\":null", kept),
    ] {
        let printed = patch_status(world, "again", "one", field);
        assert!(!printed.success && printed.text.contains(refusal), "{field}: {}", printed.text);
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.get("-n again arun/one")["status"], first["status"]);
    assert_eq!(world.appended("again").len(), 1);
}

fn an_image_that_cannot_be_pulled_ends_the_run(world: &World) {
    probe_with(world, "image", ", runtime: {image: 'localhost/no-such-image:1'}");
    let is_named = |message: &str| message.contains("no-such-image");
    too_late(world, "image", "one", "action: Echo, parameters: {text: x}", is_named);
}

fn a_run_waits_for_its_extension_until_the_deadline(world: &World) {
    world.namespace("early");
    world.applied(&run("early", "late", "action: Echo, parameters: {text: x}, startDeadlineSeconds: 3"));
    let ended = world.finished("early", "late");
    assert_eq!(ended["status"]["phase"], "Failed", "{ended}");
    assert!(ended["status"]["message"].as_str().unwrap().contains("early"), "{ended}");
    // applied together with its extension, a run starts as soon as that is installed
    world.applied(&run("early", "one", "action: Echo, parameters: {text: x}"));
    probe(world, "early");
    assert_eq!(world.finished("early", "one")["status"]["phase"], "Succeeded");
}

fn deleting_an_extension_waits_for_its_run(world: &World) {
    probe(world, "busy");
    world.applied(&run("busy", "one", &append(world, "busy", &gated(world, "busy-gate"))));
    running(world, "busy", "one");
    assert!(world.kubectl(&["delete", "oext", "busy", "--wait=false"]).success);
    let waiting = world.wait("oext/busy", "waiting deletion", |object| {
        condition(object, "Ready").filter(|ready| ready["reason"] == "WaitingForRuns").cloned()
    });
    assert!(waiting["message"].as_str().unwrap().contains("busy/one"), "{waiting}");
    world.open("busy-gate");
    let ended = world.finished("busy", "one");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    world.wait("oext/busy", "end of the extension", |object| object.is_null().then_some(()));
    assert!(!world.volume("ls").lines().any(|line| line == "busy"));
}
