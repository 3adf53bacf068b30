//! Tests of the caller's stamp.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;

const KEY: &[u8] = b"the operator's key";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn alice() -> UserInfo {
    serde_json::from_value(json!({
        "username": "alice", "uid": "7", "groups": ["dev", "ops"], "extra": {"scopes": ["a", "b"]},
    }))
    .unwrap()
}

fn unsigned(metadata: Value) -> ActionRun {
    let mut run: ActionRun = serde_json::from_value(json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
        "metadata": metadata,
        "spec": {
            "extensionRef": {"name": "orchestrator"}, "action": "backup",
            "parameters": {"days": 7, "ratio": 0.5, "type": "full", "dry": false},
        },
    }))
    .unwrap();
    run.metadata.namespace = Some("team-a".to_owned());
    run.metadata.creation_timestamp = Some(Time(at(1)));
    run
}

fn signed(metadata: Value, name: RunName<'_>) -> ActionRun {
    let mut run = unsigned(metadata);
    run.spec.caller = Some(sign(KEY, "team-a", name, &alice(), at(0), &run.spec));
    run
}

fn named() -> ActionRun {
    signed(json!({"name": "nightly"}), RunName::Name("nightly"))
}

#[test]
fn a_fresh_stamp_verifies_and_says_who_asked() {
    let run = named();
    assert_eq!(verify(KEY, &run), Ok(()));
    let caller = run.spec.caller.unwrap();
    assert_eq!((caller.username.as_str(), caller.uid.as_str()), ("alice", "7"));
    assert_eq!(caller.groups, ["dev", "ops"]);
    assert_eq!(caller.time, "2027-01-15T08:00:00.000000Z");
}

#[test]
fn a_run_without_a_stamp_is_missing_one() {
    assert_eq!(verify(KEY, &unsigned(json!({"name": "nightly"}))), Err(StampError::Missing));
}

#[test]
fn a_stamp_made_before_the_name_was_drawn_verifies_for_names_with_that_prefix_only() {
    let mut run = signed(json!({"generateName": "nightly-"}), RunName::GenerateName("nightly-"));
    assert_eq!(verify(KEY, &run), Ok(()), "while admission runs");
    run.metadata.name = Some("nightly-x7k2p".to_owned());
    assert_eq!(verify(KEY, &run), Ok(()));
    run.metadata.name = Some("weekly-x7k2p".to_owned());
    assert_eq!(verify(KEY, &run), Err(StampError::Forged));
    run.metadata.generate_name = Some("weekly-".to_owned());
    assert_eq!(verify(KEY, &run), Err(StampError::Forged));
}

#[test]
fn a_name_and_an_equal_prefix_are_different_stamps() {
    let mut run = signed(json!({"name": "nightly"}), RunName::GenerateName("nightly"));
    assert_eq!(verify(KEY, &run), Err(StampError::Forged));
    run.metadata.generate_name = Some("nightly".to_owned());
    assert_eq!(verify(KEY, &run), Ok(()));
}

#[test]
fn every_change_of_what_was_signed_is_found() {
    type Change = fn(&mut ActionRun);
    let changes: [(&str, Change); 12] = [
        ("namespace", |run| run.metadata.namespace = Some("team-b".to_owned())),
        ("name", |run| run.metadata.name = Some("other".to_owned())),
        ("username", |run| run.spec.caller.as_mut().unwrap().username = "root".to_owned()),
        ("uid", |run| run.spec.caller.as_mut().unwrap().uid = "0".to_owned()),
        ("groups", |run| run.spec.caller.as_mut().unwrap().groups.push("system:masters".to_owned())),
        ("groups joined", |run| run.spec.caller.as_mut().unwrap().groups = vec!["devops".to_owned()]),
        ("extra", |run| run.spec.caller.as_mut().unwrap().extra.clear()),
        ("time", |run| run.spec.caller.as_mut().unwrap().time = "2027-01-15T08:00:01.000000Z".to_owned()),
        ("mac", |run| run.spec.caller.as_mut().unwrap().mac = "00".repeat(32)),
        ("mac that is no hexadecimal", |run| run.spec.caller.as_mut().unwrap().mac = "é".to_owned()),
        ("action", |run| run.spec.action = "delete".to_owned()),
        ("parameter", |run| drop(run.spec.parameters.insert("days".to_owned(), json!(8)))),
    ];
    for (what, change) in changes {
        let mut run = named();
        change(&mut run);
        assert_eq!(verify(KEY, &run), Err(StampError::Forged), "{what}");
    }
    assert_eq!(verify(b"another key", &named()), Err(StampError::Forged));
}

#[test]
fn cancelling_keeps_the_stamp() {
    let mut run = named();
    run.spec.cancel = Some(true);
    assert_eq!(verify(KEY, &run), Ok(()));
}

#[test]
fn numbers_that_the_api_server_spells_anew_keep_the_stamp() {
    let mut run = unsigned(json!({"name": "nightly"}));
    run.spec.parameters.insert("whole".to_owned(), serde_json::from_str("1.0").unwrap());
    run.spec.parameters.insert("large".to_owned(), serde_json::from_str("1e19").unwrap());
    run.spec.caller = Some(sign(KEY, "team-a", RunName::Name("nightly"), &alice(), at(0), &run.spec));
    let stored = serde_json::to_string(&run).unwrap().replace(":1.0", ":1").replace(":1e19", ":10000000000000000000");
    let read: ActionRun = serde_json::from_str(&stored).unwrap();
    assert_ne!(read.spec.parameters, run.spec.parameters, "the texts differ");
    assert_eq!(verify(KEY, &read), Ok(()));
}

#[test]
fn a_stamp_of_another_creation_is_restored() {
    for (second, expected) in [(60, Ok(())), (61, Err(StampError::Restored)), (-61, Err(StampError::Restored))] {
        let mut run = named();
        run.metadata.creation_timestamp = Some(Time(at(second)));
        assert_eq!(verify(KEY, &run), expected, "{second} s");
    }
    let mut run = named();
    run.metadata.creation_timestamp = None;
    assert_eq!(verify(KEY, &run), Err(StampError::Restored));
}

#[test]
fn a_run_marked_as_restored_never_starts() {
    let mut run = named();
    run.metadata.annotations = Some([(RESTORED.to_owned(), "true".to_owned())].into());
    assert_eq!(verify(KEY, &run), Err(StampError::Restored));
    assert!(is_genuine(KEY, &run).is_ok());
}

#[test]
fn the_texts_say_what_to_do() {
    for (error, text) in [
        (StampError::Missing, "spec.caller is missing: "),
        (StampError::Forged, "spec.caller does not fit the run: "),
        (StampError::Restored, "the run was restored from a backup or copied: "),
    ] {
        let message = error.to_string();
        assert!(message.starts_with(text), "{message}");
        assert!(message.contains("create the run again") || message.contains("create another"), "{message}");
    }
}
