//! The operator's pods are replaced, as in every upgrade, while runs are created: all are taken, and each script runs once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::disruption::{REPLICAS, ready};
use crate::harness::{NAMESPACE, World};
use crate::nodes;
use crate::runs::probe;

/// The tests.
pub const TESTS: &[Test] = &[("a_rollout_of_the_operator_refuses_no_run", a_rollout_of_the_operator_refuses_no_run)];

/// So many ask at a time, each as soon as it has its answer.
const ASKING: usize = 4;
/// Of so many that one of them asks for, one is created, and the others are only judged: a small machine could not run all.
const CREATED: usize = 25;

/// Lets those who ask come to their end, also where the test fails.
struct UntilDropped<'a>(&'a AtomicBool);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The name of each run that was created, and why others were refused.
#[derive(Default)]
struct Asked {
    judged: usize,
    created: Vec<String>,
    refused: Vec<String>,
}

/// Asks for one run after the other, until `is_over`.
fn ask(world: &World, asking: usize, is_over: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("r-{asking}-{number}");
        let is_created = number % CREATED == 0;
        let answer = world.objects.create("-n rollout arun", &one(world, &name), !is_created);
        asked.judged += 1;
        match answer {
            Ok(()) if is_created => asked.created.push(name),
            Ok(()) => {}
            Err(refusal) => asked.refused.push(format!("{name}: {refusal}")),
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    asked
}

fn one(world: &World, name: &str) -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": {"name": name, "namespace": "rollout"},
        "spec": {"extensionRef": {"name": "rollout"}, "action": "Append",
            "parameters": {"url": world.append_url(&format!("rollout-{name}"))}},
    })
}

fn a_rollout_of_the_operator_refuses_no_run(world: &World) {
    probe(world, "rollout");
    let (old, is_over) = (nodes::pods(world, REPLICAS), AtomicBool::new(false));
    let asked = std::thread::scope(|scope| {
        let is_over = &is_over;
        let until_here = UntilDropped(is_over);
        let asking: Vec<_> = (0..ASKING).map(|asking| scope.spawn(move || ask(world, asking, is_over))).collect();
        let restarted = world.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/outrigger"]);
        ready(world);
        nodes::stopped(world, &old);
        drop(until_here);
        assert!(restarted.success, "{}", restarted.text);
        asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>()
    });
    println!("{} runs were judged during the rollout", asked.iter().map(|asked| asked.judged).sum::<usize>());
    let refused = asked.iter().flat_map(|asked| &asked.refused);
    // a machine that stands still for the five seconds of a webhook, of which the operator takes half a second less, may do
    // so once: that meets each who asks
    let too_late = ["context deadline exceeded", "the operator has too many requests to judge"];
    let (late, refused): (Vec<_>, Vec<_>) =
        refused.partition(|refused| too_late.iter().any(|words| refused.contains(words)));
    assert_eq!(refused, Vec::<&String>::new());
    assert!(late.len() <= ASKING, "{late:#?}");
    for name in asked.iter().flat_map(|asked| &asked.created) {
        let ended = world.finished("rollout", name);
        assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
        assert_eq!(world.appended(&format!("rollout-{name}")).len(), 1, "{name} started once");
    }
}
