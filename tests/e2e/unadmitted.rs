//! Runs that are created while the operator's webhooks are not registered: nobody knows who asked, so none ever starts.
//!
//! Other tests need the webhooks, so this one runs alone.

use serde_json::Value;

use crate::Test;
use crate::harness::{World, until};
use crate::runs::{probe, run};

/// The tests.
pub const TESTS: &[Test] = &[("a_run_that_was_not_admitted_never_starts", a_run_that_was_not_admitted_never_starts)];

const KINDS: [&str; 2] = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"];

/// The configurations as they were; put back when this is dropped, also by a test that fails.
struct TakenAway<'a> {
    world: &'a World,
    saved: Vec<Value>,
}

impl<'a> TakenAway<'a> {
    fn new(world: &'a World) -> Self {
        let saved = KINDS.map(|kind| {
            let mut configuration = world.get(&format!("{kind}/outrigger"));
            for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
                configuration["metadata"].as_object_mut().unwrap().remove(field);
            }
            configuration
        });
        let taken_away = Self { world, saved: saved.to_vec() };
        for kind in KINDS {
            assert!(world.kubectl(&["delete", kind, "outrigger"]).success);
        }
        taken_away
    }
}

impl Drop for TakenAway<'_> {
    fn drop(&mut self) {
        for configuration in &self.saved {
            println!("{}", self.world.apply(&configuration.to_string()).text.trim());
        }
    }
}

/// Waits until the API server, which learns of webhooks from a watch, lets both judge a run, or none. Nothing is created:
/// one of the runs is as it should be, and gets its stamp; the other is refused.
pub fn judged(world: &World, namespace: &str, is_wanted: bool) {
    let path = world.dir.path().join("tried.yaml");
    let tried = |action: &str| {
        std::fs::write(&path, run(namespace, "tried", &format!("action: {action}"))).unwrap();
        let file = path.display().to_string();
        world.kubectl(&["create", "--dry-run=server", "-o", "jsonpath={.spec.caller.username}", "-f", &file])
    };
    until("webhooks as they are registered", || {
        let (good, bad) = (tried("Payload"), tried("Ecko"));
        let is_stamped = good.success && !good.text.trim().is_empty();
        let is_so = if is_wanted { is_stamped && !bad.success } else { !is_stamped && good.success && bad.success };
        if is_so { Ok(()) } else { Err(format!("{}\n{}", good.text, bad.text)) }
    });
}

fn a_run_that_was_not_admitted_never_starts(world: &World) {
    probe(world, "unadmitted");
    let away = TakenAway::new(world);
    judged(world, "unadmitted", false);
    world.applied(&run("unadmitted", "bare", "action: Payload"));
    let caller = "caller: {username: root, groups: ['system:masters'], time: '2026-01-01T00:00:00Z', mac: aa}";
    world.applied(&run("unadmitted", "forged", &format!("action: Payload, {caller}")));
    for (name, expected) in [("bare", "spec.caller is missing"), ("forged", "spec.caller does not fit the run")] {
        let ended = world.finished("unadmitted", name);
        assert_eq!((&ended["status"]["phase"], &ended["status"]["reason"]), (&"Failed".into(), &"NotAdmitted".into()));
        assert!(ended["status"]["message"].as_str().unwrap().starts_with(expected), "{ended}");
        assert!(ended["status"].get("attempts").is_none(), "{ended}");
    }
    // what admission says first, the definition of the resource says without it
    let patched = |spec: &str| {
        let patch = format!("{{\"spec\":{{{spec}}}}}");
        world.kubectl(&["-n", "unadmitted", "patch", "arun", "bare", "--type=merge", "-p", &patch])
    };
    assert!(patched("\"cancel\":true").success);
    for (change, refusal) in [
        ("\"cancel\":false", "cancel cannot be taken back"),
        ("\"cancel\":null", "cancel cannot be taken back"),
        ("\"action\":\"Open\"", "spec is immutable but for cancel"),
        ("\"timeoutSeconds\":7", "spec is immutable but for cancel"),
    ] {
        let printed = patched(change);
        assert!(!printed.success && printed.text.contains(refusal), "{change}: {}", printed.text);
    }
    drop(away);
    judged(world, "unadmitted", true);
}
