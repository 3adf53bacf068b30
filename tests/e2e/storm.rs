//! Runs under fire: replicas of the operator and pods of actions are killed at random moments. No script starts twice for
//! one attempt, and every run ends.
//!
//! `OUTRIGGER_SOAK=1` makes it 1,000 runs instead of 200; `OUTRIGGER_SEED=<number>` repeats the choices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Test;
use crate::harness::{NAMESPACE, Random, World, condition};
use crate::runs::{probe_with, run};

/// The tests.
pub const TESTS: &[Test] = &[("no_attempt_starts_twice_however_often_something_is_killed", no_attempt_starts_twice)];

/// Runs that are created at a time.
const BATCH: usize = 10;

fn no_attempt_starts_twice(world: &World) {
    let count = if std::env::var_os("OUTRIGGER_SOAK").is_some() { 1000 } else { 200 };
    let mut random = Random::seeded();
    println!("{count} runs, OUTRIGGER_SEED={}", random.seed);
    probe_with(world, "storm", ", runtime: {terminationGracePeriodSeconds: 1}");
    let mut killed = BTreeMap::<&str, usize>::new();
    let mut created = 0;
    let mut last_kill = Instant::now();
    let mut ended = 0;
    for turn in 1.. {
        if created < count && create(world, created..(created + BATCH).min(count)) {
            created += BATCH;
        }
        if turn % 4 == 0 {
            ended = runs(world).iter().filter(|run| is_ended(run)).count();
        }
        if ended >= count {
            break;
        }
        // the last runs are left alone: they show that everything comes to its end without any further event
        if ended < count * 9 / 10 {
            if let Some((what, number)) = kill_something(world, turn, &mut random) {
                *killed.entry(what).or_default() += number;
            }
            last_kill = Instant::now();
        }
        assert!(last_kill.elapsed() < Duration::from_secs(600), "{ended} of {count} runs ended: {:#?}", open(world));
        std::thread::sleep(Duration::from_millis(random.below(300)));
    }
    judge(world, count, &killed);
}

/// Whether all of a batch are there. Where no replica answers, admission refuses, and the same is said again later.
fn create(world: &World, numbers: std::ops::Range<usize>) -> bool {
    let spec = |number: usize| {
        let url = format!("url: '{}'", world.append_url(&format!("storm-{number}")));
        match number % 4 {
            0 => format!("action: Flaky, parameters: {{{url}, succeeds: 2}}, retries: 3"),
            seconds => format!("action: Append, parameters: {{{url}, seconds: {}}}", seconds - 1),
        }
    };
    let runs = numbers.map(|number| format!("---\n{}", run("storm", &format!("r-{number}"), &spec(number))));
    world.apply_once(&runs.collect::<String>()).success
}

fn runs(world: &World) -> Vec<Value> {
    world.get("-n storm actionruns")["items"].as_array().cloned().unwrap_or_default()
}

fn is_ended(run: &Value) -> bool {
    condition(run, "Complete").is_some_and(|complete| complete["status"] == "True")
}

fn open(world: &World) -> Vec<String> {
    let open = runs(world).into_iter().filter(|run| !is_ended(run));
    open.map(|run| format!("{}: {}", run["metadata"]["name"], run["status"])).collect()
}

/// Kills pods or Jobs of actions, one replica or both; says what and how many, if there was one.
fn kill_something(world: &World, turn: u32, random: &mut Random) -> Option<(&'static str, usize)> {
    let (operator, action) = ("app.kubernetes.io/component=operator", "outrigger.dev/run-uid");
    let (what, kind, label, all) = match turn {
        turn if turn % 40 == 0 => ("all replicas", "pods", operator, true),
        turn if turn % 8 == 0 => ("replicas", "pods", operator, false),
        turn if turn % 5 == 0 => ("Jobs", "jobs", action, false),
        _ => ("pods", "pods", action, false),
    };
    let listed = world.kubectl(&["-n", NAMESPACE, "get", kind, "-l", label, "-o", "name"]).text;
    let names: Vec<&str> = listed.lines().filter(|line| line.contains('/')).collect();
    if names.is_empty() {
        return None;
    }
    let first = random.below(names.len() as u64) as usize;
    let count = if label != operator { 1 + random.below(3) as usize } else { 1 };
    let chosen = if all { &names[..] } else { &names[first..(first + count).min(names.len())] };
    let delete = ["-n", NAMESPACE, "delete", "--force", "--grace-period=0", "--ignore-not-found", "--wait=false"];
    world.kubectl(&[&delete[..], chosen].concat()).success.then_some((what, chosen.len()))
}

fn judge(world: &World, count: usize, killed: &BTreeMap<&str, usize>) {
    let runs = runs(world);
    assert_eq!(runs.len(), count);
    let mut ends = BTreeMap::<String, usize>::new();
    let mut attempts = 0;
    for run in &runs {
        let name = run["metadata"]["name"].as_str().unwrap();
        let phase = run["status"]["phase"].as_str().unwrap();
        *ends.entry(phase.to_owned()).or_default() += 1;
        attempts += run["status"]["attempts"].as_array().map_or(0, Vec::len);
        let lines = world.appended(&format!("storm-{}", name.trim_start_matches("r-")));
        let is_repeated = run["spec"]["action"] == "Flaky";
        // a script that is repeated says which attempt it is
        let starts: BTreeSet<&str> = lines.iter().map(|line| if is_repeated { line.as_str() } else { name }).collect();
        assert_eq!(lines.len(), starts.len(), "an attempt of {name} started twice: {lines:?} {run}");
        let is_claimed = run["status"]["attempts"].as_array().into_iter().flatten().any(|a| a["claimedAt"].is_string());
        match phase {
            "Succeeded" => assert_eq!(lines.len(), 1 + usize::from(is_repeated), "{run}"),
            "OutcomeUnknown" => assert!(is_claimed, "only what was claimed can be unknown: {run}"),
            "Failed" => {}
            _ => panic!("nobody cancelled {run}"),
        }
        assert!(is_claimed || lines.is_empty(), "a script ran without a claim: {run}");
    }
    println!("killed {killed:?}; ended as {ends:?} after {attempts} attempts");
    assert!(killed.len() >= 3, "too little was killed to prove anything: {killed:?}");
    assert!(ends["Succeeded"] > count / 4, "{ends:?}");
    assert!(attempts > count, "no attempt was repeated");
}
