//! Runs that are created while the operator's webhooks are not registered: nobody knows who asked, so none ever starts.
//!
//! Other tests need the webhooks, so this one runs alone.

use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::harness::World;
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

/// Tries until the API server, which learns of configurations from a watch, does what is wanted.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..40 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("{what}: not within 10 s");
}

/// Whether the API server would let admission stamp a run now. Nothing is created.
fn is_stamped(world: &World) -> bool {
    let path = world.dir.path().join("unadmitted.yaml");
    std::fs::write(&path, run("unadmitted", "tried", "action: Payload")).unwrap();
    let file = path.display().to_string();
    let tried = world.kubectl(&["create", "--dry-run=server", "-o", "jsonpath={.spec.caller.username}", "-f", &file]);
    assert!(tried.success, "{}", tried.text);
    !tried.text.trim().is_empty()
}

fn a_run_that_was_not_admitted_never_starts(world: &World) {
    probe(world, "unadmitted");
    let away = TakenAway::new(world);
    eventually("no webhook is asked", || !is_stamped(world));
    world.applied(&run("unadmitted", "bare", "action: Payload"));
    let caller = "caller: {username: root, groups: ['system:masters'], time: '2026-01-01T00:00:00Z', mac: aa}";
    world.applied(&run("unadmitted", "forged", &format!("action: Payload, {caller}")));
    for (name, expected) in [("bare", "spec.caller is missing"), ("forged", "spec.caller does not fit the run")] {
        let ended = world.finished("unadmitted", name);
        assert_eq!((&ended["status"]["phase"], &ended["status"]["reason"]), (&"Failed".into(), &"NotAdmitted".into()));
        assert!(ended["status"]["message"].as_str().unwrap().starts_with(expected), "{ended}");
        assert!(ended["status"].get("attempts").is_none(), "{ended}");
    }
    drop(away);
    eventually("the webhooks are asked again", || is_stamped(world));
}
