//! Tests of what admission says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::stamp::{StampError, verify};
use super::*;

const KEY: &[u8] = b"key";

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn run(metadata: Value, spec: Value) -> Value {
    let mut whole = json!({"extensionRef": {"name": "orchestrator"}, "action": "backup", "parameters": {"days": 7}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": metadata, "spec": whole})
}

fn request(operation: &str, object: Value, old: Value) -> Request {
    serde_json::from_value(json!({
        "uid": "1",
        "kind": {"group": "outrigger.dev", "version": "v1alpha1", "kind": "ActionRun"},
        "resource": {"group": "outrigger.dev", "version": "v1alpha1", "resource": "actionruns"},
        "namespace": "team-a", "operation": operation,
        "userInfo": {"username": "alice", "groups": ["dev"]},
        "object": object, "oldObject": old,
    }))
    .unwrap()
}

fn create(object: Value) -> Request {
    request("CREATE", object, Value::Null)
}

/// Applies the few operations that admission uses.
fn patched(mut object: Value, patch: Patch) -> Value {
    for operation in patch {
        let (parent, key) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match operation["op"].as_str().unwrap() {
            "add" => drop(parent.insert(key.to_owned(), operation["value"].clone())),
            "remove" => drop(parent.remove(key).unwrap()),
            other => panic!("{other}"),
        }
    }
    object
}

fn admitted(object: Value) -> Value {
    let patch = mutate_run(&create(object.clone()), KEY, now()).unwrap();
    patched(object, patch)
}

fn stored(object: Value) -> ActionRun {
    let mut run: ActionRun = serde_json::from_value(object).unwrap();
    run.metadata.namespace = Some("team-a".to_owned());
    run.metadata.creation_timestamp = Some(Time(now()));
    run
}

fn problems(request: &Request) -> Vec<String> {
    validate_run(request, KEY, &[]).err().unwrap_or_default()
}

#[test]
fn a_created_run_is_stamped_with_its_creator_and_gets_the_finalizer() {
    let object = admitted(run(json!({"name": "nightly"}), json!({})));
    let run = stored(object.clone());
    assert_eq!(verify(KEY, &run), Ok(()));
    assert_eq!(run.spec.caller.as_ref().unwrap().username, "alice");
    assert_eq!(run.metadata.finalizers.unwrap(), [RUN_FINALIZER]);
    assert!(problems(&create(object)).is_empty());
}

#[test]
fn a_caller_of_more_groups_than_a_run_records_is_told_what_to_do() {
    let by = |groups: Vec<String>| {
        let mut request = create(run(json!({"name": "nightly"}), json!({})));
        request.user_info.groups = Some(groups);
        mutate_run(&request, KEY, now())
    };
    let groups = |count: usize| (0..count).map(|number| format!("team-{number}")).collect::<Vec<_>>();
    assert!(by(groups(1024)).is_ok());
    let advice = "create the run as a user of fewer groups, such as a service account";
    let expected = format!("user \"alice\" is in 1025 groups, and a run records at most 1024: {advice}");
    assert_eq!(by(groups(1025)), Err(vec![expected]));
    let refused = by(groups(500).into_iter().map(|group| group + &"x".repeat(300)).collect()).unwrap_err().remove(0);
    assert!(refused.contains("bytes as JSON, and a run records at most 98304: create"), "{refused}");
}

#[test]
fn a_run_with_a_generated_name_verifies_under_the_name_that_it_gets() {
    let mut object = admitted(run(json!({"generateName": "nightly-", "finalizers": ["x/y"]}), json!({})));
    object["metadata"]["name"] = json!("nightly-abcde");
    assert!(problems(&create(object.clone())).is_empty());
    let run = stored(object);
    assert_eq!(verify(KEY, &run), Ok(()));
    assert_eq!(run.metadata.finalizers.unwrap(), ["x/y", RUN_FINALIZER]);
}

#[test]
fn a_run_that_brings_its_name_does_not_look_as_if_it_were_drawn() {
    let exported = json!({"name": "nightly-abcde", "generateName": "nightly-"});
    let object = admitted(run(exported.clone(), json!({})));
    assert_eq!(object["metadata"].get("generateName"), None);
    assert!(problems(&create(object.clone())).is_empty());
    assert_eq!(verify(KEY, &stored(object.clone())), Ok(()));
    // Nor when it is applied again.
    let mut again = object.clone();
    again["metadata"]["generateName"] = json!("nightly-");
    let patch = mutate_run(&request("UPDATE", again.clone(), object), KEY, now()).unwrap();
    assert_eq!(patched(again, patch)["metadata"].get("generateName"), None);
}

#[test]
fn a_name_that_the_api_drew_keeps_its_prefix() {
    let mut drawn = admitted(run(json!({"generateName": "nightly-"}), json!({})));
    drawn["metadata"]["name"] = json!("nightly-abcde");
    for changed in [None, Some("other-")] {
        let mut new = drawn.clone();
        new["metadata"].as_object_mut().unwrap().remove("generateName");
        changed.into_iter().for_each(|prefix| new["metadata"]["generateName"] = json!(prefix));
        let patch = mutate_run(&request("UPDATE", new.clone(), drawn.clone()), KEY, now()).unwrap();
        assert_eq!(patched(new, patch), drawn);
    }
    // A record from a backup, whose stamp was made for the prefix.
    let record = admitted(drawn);
    assert_eq!(record["metadata"]["generateName"], "nightly-");
    assert!(problems(&create(record)).is_empty());
}

const FOREIGN: &str = "spec.caller is not this operator's: the run comes from another cluster, from before the operator's key \
     was replaced, or is a changed copy; remove spec.caller to create it as your own";

#[test]
fn a_caller_that_the_user_wrote_is_refused() {
    let forged = json!({"caller": {"username": "root", "groups": ["system:masters"], "time": "2026-11-23T12:00:00Z", "mac": "00"}});
    let empty = json!({"caller": {"username": "", "time": "", "mac": ""}});
    for caller in [forged, empty] {
        let object = run(json!({"name": "nightly"}), caller);
        assert_eq!(mutate_run(&create(object), KEY, now()), Err(vec![FOREIGN.to_owned()]));
    }
}

#[test]
fn a_run_from_a_backup_whose_key_was_lost_is_not_stamped_afresh() {
    let first = admitted(run(json!({"name": "nightly"}), json!({})));
    assert_eq!(mutate_run(&create(first.clone()), b"new key", now()), Err(vec![FOREIGN.to_owned()]));
    // Without the stamp it is a request of whoever makes it.
    let mut bare = first;
    bare["spec"].as_object_mut().unwrap().remove("caller");
    assert!(mutate_run(&create(bare), b"new key", now()).is_ok());
}

#[test]
fn a_run_that_brings_a_genuine_stamp_is_kept_as_a_record_and_never_starts() {
    let first = admitted(run(json!({"name": "nightly", "annotations": {"a": "b"}}), json!({})));
    let again = admitted(first.clone());
    assert_eq!(again["spec"]["caller"], first["spec"]["caller"]);
    assert_eq!(again["metadata"]["annotations"], json!({"a": "b", RESTORED: "true"}));
    assert_eq!(verify(KEY, &stored(again.clone())), Err(StampError::Restored));
    assert_eq!(validate_run(&create(again), KEY, &["no such extension".to_owned()]), Ok(()));
}

#[test]
fn a_stamp_of_another_namespace_or_name_is_not_genuine_here() {
    let mut object = admitted(run(json!({"name": "nightly"}), json!({})));
    object["metadata"]["name"] = json!("weekly");
    assert_eq!(mutate_run(&create(object), KEY, now()), Err(vec![FOREIGN.to_owned()]));
}

#[test]
fn a_run_that_cannot_be_read_is_left_to_the_schema_and_refused_after_it() {
    let object = run(json!({"name": "nightly"}), json!({"action": 5}));
    assert_eq!(mutate_run(&create(object.clone()), KEY, now()), Ok(Patch::new()));
    let problems = problems(&create(object));
    assert!(problems[0].starts_with("object cannot be read: invalid type"), "{problems:?}");
}

#[test]
fn a_run_that_was_not_stamped_or_was_changed_afterwards_is_refused() {
    let object = run(json!({"name": "nightly"}), json!({}));
    assert!(problems(&create(object.clone()))[0].starts_with("spec.caller is missing: "));
    let mut object = admitted(object);
    object["spec"]["parameters"]["days"] = json!(8);
    let problems = problems(&create(object));
    assert!(problems[0].starts_with("spec.caller does not fit the run: "), "{problems:?}");
    assert!(problems[0].ends_with("another mutating webhook may have changed the run after its caller was stamped"));
}

#[test]
fn all_problems_of_a_created_run_are_told_at_once() {
    let object = admitted(run(json!({"name": "nightly"}), json!({"parameters": {"a": [], "b": null}})));
    let problems = validate_run(&create(object), KEY, &["action \"backup\" is disabled".to_owned()]).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(problems[2], "action \"backup\" is disabled");
}

fn update(change: impl Fn(&mut Value)) -> Request {
    let old = admitted(run(json!({"name": "nightly"}), json!({})));
    let mut new = old.clone();
    change(&mut new);
    request("UPDATE", new, old)
}

#[test]
fn cancelling_and_metadata_may_change() {
    assert!(problems(&update(|run| run["spec"]["cancel"] = json!(true))).is_empty());
    assert!(problems(&update(|run| run["spec"]["cancel"] = json!(false))).is_empty());
    assert!(problems(&update(|run| run["metadata"]["labels"] = json!({"a": "b"}))).is_empty());
    assert!(problems(&update(|run| run["spec"]["parameters"]["days"] = json!(7.0))).is_empty());
}

#[test]
fn every_other_change_is_refused_and_names_the_field() {
    let immutable = " cannot be changed: an ActionRun is immutable but for spec.cancel; create another ActionRun";
    for (field, value, named) in [
        ("action", json!("delete"), "spec.action"),
        ("extensionRef", json!({"name": "other"}), "spec.extensionRef.name"),
        ("parameters", json!({"days": 8}), "spec.parameters.days"),
        ("parameters", json!({"days": 7, "more": {"a": 1}}), "spec.parameters.more"),
        ("timeoutSeconds", json!(60), "spec.timeoutSeconds"),
        ("startDeadlineSeconds", json!(60), "spec.startDeadlineSeconds"),
    ] {
        let found = problems(&update(|run| run["spec"][field] = value.clone()));
        assert_eq!(found, [format!("{named}{immutable}")]);
    }
    let found = problems(&update(|run| drop(run["spec"].as_object_mut().unwrap().remove("parameters"))));
    assert_eq!(found, [format!("spec.parameters{immutable}")]);
    let many = update(|run| (0..9).for_each(|n| run["spec"]["parameters"][format!("p{n}")] = json!(1)));
    assert!(problems(&many)[0].contains("spec.parameters.p4 and 4 more cannot be changed"), "{:?}", problems(&many));
}

#[test]
fn what_admission_wrote_is_put_back_on_update() {
    let requests = [
        update(|run| drop(run["spec"].as_object_mut().unwrap().remove("caller"))),
        update(|run| run["spec"]["caller"]["username"] = json!("root")),
    ];
    for request in requests {
        assert!(problems(&request)[0].starts_with("spec.caller cannot be changed"));
        let object = serde_json::to_value(request.object.as_ref().unwrap()).unwrap();
        let object = patched(object, mutate_run(&request, KEY, now()).unwrap());
        assert_eq!(verify(KEY, &stored(object)), Ok(()));
    }
    assert_eq!(mutate_run(&update(|_| ()), KEY, now()), Ok(Patch::new()));
    let old = run(json!({"name": "nightly"}), json!({}));
    let new = admitted(old.clone());
    let request = request("UPDATE", new, old);
    assert_eq!(mutate_run(&request, KEY, now()), Ok(vec![json!({"op": "remove", "path": "/spec/caller"})]));
}

#[test]
fn the_mark_of_a_restored_run_cannot_be_taken_off() {
    let old = admitted(admitted(run(json!({"name": "nightly"}), json!({}))));
    let mut new = old.clone();
    new["metadata"].as_object_mut().unwrap().remove("annotations");
    let request = request("UPDATE", new.clone(), old);
    assert!(problems(&request)[0].starts_with("metadata.annotations[\"outrigger.dev/restored\"] cannot be removed"));
    let put_back = patched(new, mutate_run(&request, KEY, now()).unwrap());
    assert_eq!(put_back["metadata"]["annotations"][RESTORED], "true");
}

#[test]
fn cancel_cannot_be_taken_back() {
    let mut old = admitted(run(json!({"name": "nightly"}), json!({})));
    old["spec"]["cancel"] = json!(true);
    for cancel in [json!(false), Value::Null] {
        let mut new = old.clone();
        new["spec"]["cancel"] = cancel;
        let found = problems(&request("UPDATE", new, old.clone()));
        assert_eq!(found, ["spec.cancel cannot be taken back: the run is being stopped; create another ActionRun"]);
    }
}

#[test]
fn cancel_cannot_be_changed_once_the_run_has_ended() {
    let updated = |phase: &str, cancel: Value| {
        let mut old = admitted(run(json!({"name": "nightly"}), json!({})));
        old["status"] = json!({"phase": phase});
        let mut new = old.clone();
        new["spec"]["cancel"] = cancel;
        problems(&request("UPDATE", new, old))
    };
    for phase in ["Succeeded", "Failed", "Canceled", "OutcomeUnknown"] {
        for cancel in [true, false] {
            let expected =
                format!("spec.cancel cannot be changed: the run has ended already (status.phase is {phase})");
            assert_eq!(updated(phase, json!(cancel)), [expected]);
        }
        assert_eq!(updated(phase, Value::Null), [""; 0]);
    }
    for phase in ["Pending", "Running"] {
        assert_eq!(updated(phase, json!(true)), [""; 0]);
    }
}

#[test]
fn deletion_and_the_operators_own_updates_pass_and_creation_never_does() {
    let deleting = |mut request: Request| {
        let mut old: Value = serde_json::to_value(&request.old_object).unwrap();
        old["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
        request.old_object = serde_json::from_value(old).unwrap();
        request
    };
    let created = create(run(json!({"name": "nightly"}), json!({})));
    assert!(is_exempt(&deleting(update(|_| ())), None));
    assert!(is_exempt(&request("DELETE", Value::Null, Value::Null), None));
    assert!(is_exempt(&update(|_| ()), Some("alice")));
    assert!(!is_exempt(&update(|_| ()), Some("bob")));
    assert!(!is_exempt(&update(|_| ()), None));
    assert!(!is_exempt(&created, Some("alice")));
}

fn extension(finalizers: &[&str], description: &str) -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "OrchestratorExtension",
        "metadata": {"name": "x", "finalizers": finalizers}, "spec": {"description": description},
    })
}

#[test]
fn an_extension_is_checked_unless_its_spec_stays() {
    let extension = |description| extension(&[], description);
    let refuse = |_: &OrchestratorExtension| Err(vec!["spec.source is missing".to_owned()]);
    let refused = Err(vec!["spec.source is missing".to_owned()]);
    assert_eq!(mutate_extension(&create(extension("a")), &refuse), refused);
    assert_eq!(mutate_extension(&request("UPDATE", extension("b"), extension("a")), &refuse), refused);
    assert_eq!(mutate_extension(&request("UPDATE", extension("a"), extension("a")), &refuse), Ok(vec![]));
}

#[test]
fn a_created_extension_gets_its_finalizer_once_and_keeps_others() {
    let pass = |_: &OrchestratorExtension| Ok(());
    let created = extension(&["example.com/other"], "a");
    let patch = mutate_extension(&create(created.clone()), &pass).unwrap();
    let admitted = patched(created, patch);
    assert_eq!(admitted["metadata"]["finalizers"], json!(["example.com/other", EXTENSION_FINALIZER]));
    assert_eq!(mutate_extension(&create(admitted), &pass), Ok(vec![]), "asked again");
    let mut bare = extension(&[], "a");
    bare["metadata"] = json!({"name": "x"});
    let patch = mutate_extension(&create(bare.clone()), &pass).unwrap();
    assert_eq!(patched(bare, patch)["metadata"]["finalizers"], json!([EXTENSION_FINALIZER]));
}

#[test]
fn a_finalizer_that_was_taken_off_is_the_controllers_affair() {
    let taken_off = request("UPDATE", extension(&[], "b"), extension(&[EXTENSION_FINALIZER], "a"));
    assert_eq!(mutate_extension(&taken_off, &|_| Ok(())), Ok(vec![]));
}

#[test]
fn an_extension_that_cannot_be_read_is_left_to_the_schema() {
    let mut unreadable = extension(&[], "a");
    unreadable["spec"]["description"] = json!(7);
    let refuse = |_: &OrchestratorExtension| Err(vec!["never asked".to_owned()]);
    assert_eq!(mutate_extension(&create(unreadable), &refuse), Ok(vec![]));
}
