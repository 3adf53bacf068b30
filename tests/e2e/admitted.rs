//! What admission says of runs when they are made: what is wrong with them, who asked, and which target they may have.

use crate::Test;
use crate::harness::{TIMEOUT, World};
use crate::runs::{finished, probe, run};

/// The tests.
pub const TESTS: &[Test] = &[
    ("bad_requests_are_refused_at_apply", bad_requests_are_refused_at_apply),
    ("the_caller_is_who_created_the_run", the_caller_is_who_created_the_run),
    ("a_target_gives_details_to_the_namespaces_that_it_lists", a_target_gives_details_to_the_namespaces_that_it_lists),
];

fn bad_requests_are_refused_at_apply(world: &World) {
    probe(world, "refused");
    let refused = |spec: &str, texts: &[&str]| {
        let printed = world.apply(&run("refused", "bad", spec));
        assert!(!printed.success, "{spec} was taken: {}", printed.text);
        for text in texts {
            assert!(printed.text.contains(text), "{spec}: {text:?} is not in: {}", printed.text);
        }
        printed.text
    };
    refused("action: Ecko", &["Ecko", "Echo", "Fail", "getconsole"]);
    refused("action: Disabled", &["Disabled", "is disabled", "allowed are", "Echo", "getconsole"]);
    refused("action: Echo", &["text"]);
    // several problems come back together, and a password is not echoed
    let several = "action: Echo, parameters: {text: x, count: many, mode: medium, colour: red, secret: [swordfish-9]}";
    let told = refused(several, &["count", "many", "mode", "fast", "slow", "colour", "secret"]);
    assert!(!told.contains("swordfish"), "{told}");
    refused("action: Echo, parameters: {text: [1], count: many}", &["text: is a list", "many"]);
    // what is not there yet hides nothing
    let early =
        "targetRef: {name: not-there-yet}, parametersFrom: [{name: secret, secretKeyRef: {name: none, key: x}}]";
    refused(&format!("action: Ecko, {early}"), &["has no action", "getconsole"]);
    refused(&format!("action: Echo, parameters: {{text: x, count: many, colour: red}}, {early}"), &["many", "colour"]);
    let warned = world.apply(&run("refused", "open", "action: Echo, parameters: {text: x, secret: swordfish-9}"));
    assert!(warned.success && warned.text.contains("give it by spec.parametersFrom"), "{}", warned.text);
    refused("action: Echo, parameters: {text: x}, retries: 10", &["retries", "9"]);
    let both = "action: Echo, parameters: {text: x}, target: {name: node-9}, targetRef: {name: node-9}";
    refused(both, &["targetRef and target exclude each other"]);
    let printed =
        world.apply(&run("refused", "bad", &format!("action: Echo, parameters: {{text: {}}}", "x".repeat(9000))));
    assert!(!printed.success && printed.text.contains("8192"), "{}", printed.text);
}

fn the_caller_is_who_created_the_run(world: &World) {
    probe(world, "caller");
    let alice = ["--as=alice", "--as-group=system:masters"];
    let path = world.dir.path().join("caller.yaml");
    let create = |spec: &str| {
        std::fs::write(&path, run("caller", "one", spec)).unwrap();
        world.kubectl(&[&["create", "-f", &path.display().to_string()], &alice[..]].concat())
    };
    let forged = create("action: Payload, caller: {username: root, time: '2026-01-01T00:00:00Z', mac: aa}");
    assert!(!forged.success && forged.text.contains("remove spec.caller"), "{}", forged.text);
    let created = create("action: Payload");
    assert!(created.success, "{}", created.text);
    let ended = world.finished("caller", "one");
    assert_eq!(ended["spec"]["caller"]["username"], "alice", "{ended}");
    assert_eq!(ended["status"]["result"]["caller"]["name"], "alice", "{ended}");
    // a restored run carries a stamp that fits: it is kept, and never started
    let mut restored = ended.clone();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "finalizers"] {
        restored["metadata"].as_object_mut().unwrap().remove(field);
    }
    restored.as_object_mut().unwrap().remove("status");
    assert!(world.kubectl(&["-n", "caller", "delete", "arun", "one", TIMEOUT]).success);
    world.applied(&restored.to_string());
    let restored = world.finished("caller", "one");
    assert_eq!(restored["status"]["reason"], "Restored", "{restored}");
    assert!(restored["status"].get("attempts").is_none(), "{restored}");
}

fn a_target_gives_details_to_the_namespaces_that_it_lists(world: &World) {
    probe(world, "target");
    world.namespace("stranger");
    world.applied(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: target-host, namespace: outrigger-system}\nstringData: {password: \
         hunter2-hunter2}\n---\napiVersion: outrigger.dev/v1alpha1\nkind: ExtensionTarget\nmetadata: {name: \
         target}\nspec:\n  extensionRef: {name: target}\n  name: i-2-100-VM\n  id: 6f1c\n  host: {url: \
         https://bmc.example.com}\n  hostFrom: [{secretRef: {name: target-host}}]\n  virtualmachine: {slot: \
         '7'}\n  allowedNamespaces: {names: [target]}\n",
    );
    let ended = finished(world, "target", "one", "action: Payload, targetRef: {name: target}");
    let payload = &ended["status"]["result"];
    assert_eq!(payload["externaldetails"]["host"]["url"], "https://bmc.example.com", "{ended}");
    assert_eq!(payload["externaldetails"]["host"]["password"], "********", "{ended}");
    assert_eq!(payload["externaldetails"]["virtualmachine"]["slot"], "7");
    assert_eq!((&payload["virtualmachinename"], &payload["virtualmachineid"]), (&"i-2-100-VM".into(), &"6f1c".into()));
    let status = finished(world, "target", "power", "action: status, targetRef: {name: target}");
    assert_eq!(status["status"]["power"], "PowerOn", "{status}");
    world.wait("xtgt/target", "power state", |target| (target["status"]["powerState"] == "PowerOn").then_some(()));
    let foreign = run("stranger", "one", "action: Payload, targetRef: {name: target}")
        .replace("{name: stranger},", "{name: target},");
    let printed = world.apply(&foreign);
    assert!(!printed.success && printed.text.contains("allowedNamespaces"), "{}", printed.text);
}
