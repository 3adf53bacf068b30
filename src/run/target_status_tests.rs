//! Tests of what runs say of their target, in every order.

use super::super::fixture::{self, outcome};
use super::super::verdict;
use super::*;

fn run(name: &str, action: &str, claimed: &str) -> ActionRun {
    let mut run = fixture::run();
    run["metadata"]["name"] = json!(name);
    run["spec"]["action"] = json!(action);
    run["status"] = json!({"attempts": [{"number": 1, "jobs": 1, "job": "j", "claimedAt": claimed}]});
    serde_json::from_value(run).unwrap()
}

/// Tells the target of an outcome; whether it changed.
fn tell(target: &mut Value, run: &ActionRun, outcome: &Outcome) -> bool {
    let parsed: ExtensionTarget = serde_json::from_value(target.clone()).unwrap();
    let verdict = verdict::verdict(run, None, Some(&parsed), outcome);
    let patch = after(&parsed, run, outcome, &verdict);
    for (field, value) in patch.iter().flat_map(|patch| patch.as_object().unwrap()) {
        target["status"][field] = value.clone();
    }
    patch.is_some()
}

#[test]
fn the_script_that_ended_last_has_the_last_word_in_whatever_order_reports_come() {
    let early = (run("early", "status", "2026-11-23T10:00:00.000000Z"), outcome("PowerOn", 5_000));
    let late = (run("late", "status", "2026-11-23T10:00:01.000000Z"), outcome("PowerOff", 10_000));
    for order in [[&early, &late], [&late, &early]] {
        let mut target = fixture::target();
        for (run, outcome) in order {
            tell(&mut target, run, outcome);
        }
        assert_eq!(
            target["status"],
            json!({
                "powerState": "PowerOff", "powerStateTime": "2026-11-23T10:00:11.000000Z",
                "lastRun": "team-a/late", "lastRunTime": "2026-11-23T10:00:11.000000Z",
            })
        );
    }
}

#[test]
fn the_same_report_again_changes_nothing() {
    let mut target = fixture::target();
    let (run, outcome) = (run("r", "status", "2026-11-23T10:00:00.000001Z"), outcome("PowerOn", 1));
    assert!(tell(&mut target, &run, &outcome));
    assert!(!tell(&mut target, &run, &outcome));
}

#[test]
fn a_newer_power_state_does_not_keep_prepared_details_out() {
    let mut target = fixture::target();
    let status = run("status", "status", "2026-11-23T10:00:10.000000Z");
    let prepare = run("prepare", "prepare", "2026-11-23T10:00:00.000000Z");
    tell(&mut target, &status, &outcome("PowerOn", 1));
    assert!(tell(&mut target, &prepare, &outcome(r#"{"details": {"vmid": "103"}}"#, 1)));
    let told = &target["status"];
    assert_eq!((&told["details"]["vmid"], &told["lastRun"]), (&json!("103"), &json!("team-a/status")));
    assert_eq!(told["detailsTime"], "2026-11-23T10:00:00.001000Z");
}

#[test]
fn another_target_of_the_same_name_learns_nothing() {
    let mut target = fixture::target();
    target["metadata"]["creationTimestamp"] = json!("2026-11-23T10:01:00Z");
    assert!(!tell(&mut target, &run("r", "status", "2026-11-23T10:00:00.000000Z"), &outcome("PowerOn", 1)));
}
