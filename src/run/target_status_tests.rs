//! Tests of what runs say of their target, in every order.

use super::super::fixture::{self, outcome};
use super::super::{request, verdict};
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

/// What the script of such a run of this target reads.
fn payload_of(action: &str, target: &ExtensionTarget) -> Value {
    let mut run = fixture::run();
    run["spec"]["action"] = json!(action);
    let run = serde_json::from_value(run).unwrap();
    let extension = serde_json::from_value(fixture::extension()).unwrap();
    let references = request::References {
        extension: Some(&extension),
        target: Some(target),
        namespace_labels: &Default::default(),
        stamp: Ok(()),
        answers: &request::Answers::NONE,
    };
    let request = request::request(&run, &references, &request::Policy::default()).unwrap();
    serde_json::from_str(&request.grant(&run, Default::default(), Default::default()).payload).unwrap()
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
fn what_prepare_says_of_nics_is_remembered_by_uuid_and_reaches_the_next_action() {
    let mut target = fixture::target();
    target["spec"]["vm"] = json!({"nics": [{"uuid": "a", "deviceId": 0}, {"uuid": "b", "mac": "02:00:00:00:00:0b"}]});
    let answers = [
        r#"{"nics": [{"uuid": "a", "mac": "02:00:00:00:00:01"}, {"mac": "of no nic"}, {"uuid": "b", "x": 1}], "vncPassword": "s3cret"}"#,
        r#"{"nics": [{"uuid": "a", "ip": "10.0.0.7"}, {"uuid": "c", "mac": "02:00:00:00:00:03", "ip6": "fd00::3"}]}"#,
    ];
    for (answer, second) in answers.into_iter().zip(["00", "10"]) {
        let prepare = run("prepare", "prepare", &format!("2026-11-23T10:00:{second}.000000Z"));
        assert!(tell(&mut target, &prepare, &outcome(answer, 1)));
    }
    let known = json!([
        {"uuid": "a", "mac": "02:00:00:00:00:01", "ip": "10.0.0.7"},
        {"uuid": "c", "mac": "02:00:00:00:00:03", "ip6": "fd00::3"},
    ]);
    assert_eq!(
        (&target["status"]["nics"], &target["status"]["nicsTime"]),
        (&known, &json!("2026-11-23T10:00:10.001000Z"))
    );
    assert!(!target.to_string().contains("s3cret"), "a password never goes to status");
    let parsed: ExtensionTarget = serde_json::from_value(target).unwrap();
    assert_eq!(
        payload_of("create", &parsed)["cloudstack.vm.details"]["nics"],
        json!([
            {"uuid": "a", "deviceId": 0, "mac": "02:00:00:00:00:01", "ip": "10.0.0.7"},
            {"uuid": "b", "mac": "02:00:00:00:00:0b"},
            {"uuid": "c", "mac": "02:00:00:00:00:03", "ip6": "fd00::3"},
        ])
    );
}

#[test]
fn beyond_the_bound_nics_are_forgotten_that_were_not_named_for_longest() {
    let mut target = fixture::target();
    let answer = |uuids: std::ops::Range<usize>| {
        let nics: Vec<Value> = uuids.map(|uuid| json!({"uuid": uuid.to_string(), "ip": "10.0.0.7"})).collect();
        json!({"nics": nics}).to_string()
    };
    for (uuids, second) in [(0..NICS, "00"), (NICS..NICS + 2, "10"), (0..1, "20")] {
        let prepare = run("prepare", "prepare", &format!("2026-11-23T10:00:{second}.000000Z"));
        assert!(tell(&mut target, &prepare, &outcome(&answer(uuids), 1)));
    }
    let known: Vec<&str> =
        target["status"]["nics"].as_array().unwrap().iter().map(|nic| nic["uuid"].as_str().unwrap()).collect();
    assert_eq!(known.len(), NICS);
    let (renamed, newer, last) = ("0".to_owned(), NICS.to_string(), (NICS - 1).to_string());
    assert_eq!((known[0], known[1]), (renamed.as_str(), newer.as_str()));
    assert!(!known.contains(&last.as_str()), "{known:?}");
}

#[test]
fn another_target_of_the_same_name_learns_nothing() {
    let mut target = fixture::target();
    target["metadata"]["creationTimestamp"] = json!("2026-11-23T10:01:00Z");
    assert!(!tell(&mut target, &run("r", "status", "2026-11-23T10:00:00.000000Z"), &outcome("PowerOn", 1)));
}
