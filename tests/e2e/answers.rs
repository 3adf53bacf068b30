//! What scripts may answer, and where each kind of answer is found afterwards.

use serde_json::{Value, json};

use crate::Test;
use crate::harness::{NAMESPACE, TIMEOUT, World, until};
use crate::rights::bind;
use crate::runs::{finished, probe, run, running};

/// The tests.
pub const TESTS: &[Test] = &[
    ("every_kind_of_answer_has_its_place", every_kind_of_answer_has_its_place),
    ("what_a_running_action_prints_is_read_without_secrets", what_a_running_action_prints_is_read_without_secrets),
];

/// Entries of the Secret that a run names, sorted, as `key=value`.
fn secret(world: &World, run: &Value) -> String {
    let name = run["status"]["resultRef"]["name"].as_str().unwrap_or_else(|| panic!("no Secret: {run}"));
    let template = "go-template={{range $key, $value := .data}}{{$key}}={{$value | base64decode}} {{end}}";
    let printed = world.kubectl(&["-n", "answers", "get", "secret", name, "-o", template]);
    assert!(printed.success, "{}", printed.text);
    printed.text.trim().to_owned()
}

/// All of them side by side.
fn every_kind_of_answer_has_its_place(world: &World) {
    probe(world, "answers");
    world.applied(
        "apiVersion: outrigger.dev/v1alpha1\nkind: ExtensionTarget\nmetadata: {name: answers}\nspec: {extensionRef: {name: \
         answers}, name: i-2-1-VM, allowedNamespaces: {names: [answers]}}\n",
    );
    let target = "targetRef: {name: answers}";
    let actions = ["getconsole", "prepare", "statuses", "Print", "Large", "Noisy", "Binary"];
    let spec = |action: &str| match action {
        "getconsole" | "prepare" => format!("action: {action}, {target}"),
        _ => format!("action: {action}"),
    };
    let all = actions.map(|action| run("answers", &action.to_lowercase(), &spec(action)));
    world.applied(&all.join("---\n"));
    let [console, prepared, statuses, printed, large, noisy, binary] = actions.map(|action| {
        let run = world.finished("answers", &action.to_lowercase());
        assert_eq!(run["status"]["phase"], "Succeeded", "{run}");
        run
    });

    assert_eq!(console["status"]["console"], json!({"protocol": "vnc"}));
    let shown = console.to_string();
    assert!(!shown.contains("hunter2-console") && !shown.contains("console-7"), "{shown}");
    let expected = "host=console-7.example.com password=hunter2-console port=5901 protocol=vnc";
    assert_eq!(secret(world, &console), expected);

    assert!(!prepared.to_string().contains("hunter2-prepared"), "{prepared}");
    assert!(secret(world, &prepared).contains("hunter2-prepared"));
    let created = finished(world, "answers", "create", &format!("action: create, {target}"));
    let details = &created["status"]["result"]["cloudstack.vm.details"]["details"];
    assert_eq!(details["slot"], "9", "what prepare answered reaches later actions: {created}");

    let states = json!({"i-2-1-VM": "PowerOn", "i-2-2-VM": "PowerUnknown"});
    assert_eq!(statuses["status"]["result"]["power_state"], states);
    let message = json!([{"disk": "sda", "size": 3}]);
    assert_eq!(
        (&printed["status"]["result"]["message"], &printed["status"]["result"]["printmessage"]),
        (&message, &json!("True"))
    );

    assert_eq!((&large["status"]["reason"], &large["status"]["result"]), (&json!("ResultTooLarge"), &Value::Null));
    assert!(secret(world, &large).len() > 102_400, "the result is in the Secret, whole");
    assert_eq!((&noisy["status"]["reason"], &noisy["status"]["result"]), (&json!("ResultTooLarge"), &Value::Null));
    let note = "bytes at the beginning of the output were dropped; no result is kept";
    assert!(noisy["status"]["message"].as_str().unwrap().contains(note), "{noisy}");
    assert!(noisy["status"]["stdoutTail"].as_str().unwrap().ends_with("{\"status\": \"success\"}"), "{noisy}");
    assert_eq!(binary["status"]["result"], Value::Null, "{binary}");
    assert!(binary["status"]["stdoutTail"].as_str().unwrap().ends_with(" no text at all"), "{binary}");

    let name = console["status"]["resultRef"]["name"].as_str().unwrap();
    assert!(world.kubectl(&["-n", "answers", "delete", "arun", "getconsole", TIMEOUT]).success);
    world.wait(&format!("-n answers secret/{name}"), "end of the Secret", |secret| secret.is_null().then_some(()));
}

/// By a tenant in its run, and by an administrator in the log of the pod.
fn what_a_running_action_prints_is_read_without_secrets(world: &World) {
    probe(world, "tails");
    bind(world, "tails", "outrigger-tenant");
    let gate = world.append_url("tails-gate");
    let spec = format!("action: Slow, parameters: {{gate: '{gate}', secret: hunter2-tails}}");
    world.applied(&run("tails", "one", &spec));
    let half = "half way, the secret is ********";
    let read = ["-n", "tails", "get", "arun", "one", "-o", "jsonpath={.status.phase} {.status.stdoutTail}"];
    until("tail of a running action, as the tenant reads it", || {
        let printed = world.kubectl(&[&read[..], &["--as=system:serviceaccount:tails:tenant"]].concat());
        if printed.text.trim_end() == format!("Running {half}") { Ok(()) } else { Err(printed.text) }
    });
    // an administrator reads the same in the log of its pod, while it runs
    let label =
        format!("outrigger.dev/run-uid={}", running(world, "tails", "one")["metadata"]["uid"].as_str().unwrap());
    let log = until("line in the log", || {
        let log = world.kubectl(&["-n", NAMESPACE, "logs", "-l", &label, "--tail=-1"]).text;
        if log.contains(half) { Ok(log) } else { Err(log) }
    });
    assert!(!log.contains("hunter2-tails") && !log.contains("all the way"), "{log}");
    assert_eq!(world.get("-n tails arun/one")["status"]["phase"], "Running");
    world.open("tails-gate");
    let ended = world.finished("tails", "one");
    let tail = ended["status"]["stdoutTail"].as_str().unwrap().trim_end();
    assert_eq!(tail, format!("{half}\nall the way"), "{ended}");
}
