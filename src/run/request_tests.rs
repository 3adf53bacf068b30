//! Tests of the request: what a run refers to must be there, be installed and allow it.

use serde_json::{Value, json};

use super::super::fixture;
use super::*;

fn asked(change: impl FnOnce(&mut Value, &mut Value, &mut Value)) -> Result<Request, Start> {
    let (mut run, mut extension, mut target) = (fixture::run(), fixture::extension(), fixture::target());
    change(&mut run, &mut extension, &mut target);
    let run = serde_json::from_value(run).unwrap();
    let extension = serde_json::from_value::<OrchestratorExtension>(extension).unwrap();
    let target = serde_json::from_value::<ExtensionTarget>(target).unwrap();
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let references = References {
        extension: Some(&extension),
        target: Some(&target),
        namespace_labels: &labels,
        stamp: Ok(()),
        answers: &Answers::NONE,
    };
    request(&run, &references, &Policy::default())
}

fn never(result: Result<Request, Start>) -> Refusal {
    match result {
        Err(Start::Never(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn wait(result: Result<Request, Start>) -> Refusal {
    match result {
        Err(Start::Wait(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_request_is_pinned_to_what_is_installed() {
    let request = asked(|_, _, _| {}).unwrap();
    assert_eq!(request.revision.tree_digest, crate::digest::Digest::of("tree").to_string());
    assert_eq!(request.secrets(), (vec!["bmc".to_owned()], vec![]));
}

#[test]
fn an_extension_that_is_not_installed_is_waited_for_and_one_that_goes_is_not() {
    let refusal = wait(asked(|_, extension, _| {
        extension["status"] = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "FetchFailed",
            "message": "no route to host", "lastTransitionTime": "2026-11-23T10:00:00Z"}]});
    }));
    assert_eq!(refusal.message, "extension \"redfish\" is not installed yet: no route to host");
    let refusal = never(asked(|_, extension, _| {
        extension["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z");
    }));
    assert_eq!(refusal.reason, Reason::ExtensionDeleted);
    let refusal = never(asked(|_, extension, _| extension["spec"]["enabled"] = json!(false)));
    assert_eq!(refusal.reason, Reason::ExtensionDisabled);
}

#[test]
fn a_target_is_used_from_namespaces_that_it_names_or_selects_only() {
    for allowed in
        [json!({"names": ["team-a"]}), json!({"names": ["*"]}), json!({"selector": {"matchLabels": {"tier": "gold"}}})]
    {
        assert!(asked(|_, _, target| target["spec"]["allowedNamespaces"] = allowed.clone()).is_ok(), "{allowed}");
    }
    for allowed in [json!({}), json!({"names": ["team-b"]}), json!({"selector": {"matchLabels": {"tier": "lead"}}})] {
        let refusal = never(asked(|_, _, target| target["spec"]["allowedNamespaces"] = allowed.clone()));
        let expected = "ExtensionTarget \"node7\" does not allow namespace \"team-a\": its administrator can add it to spec.allowedNamespaces";
        assert_eq!((refusal.reason, refusal.message.as_str()), (Reason::TargetNotAllowed, expected));
    }
    assert!(!is_allowed(None, "team-a", &BTreeMap::new()));
}

#[test]
fn a_target_of_another_extension_is_refused() {
    let refusal = never(asked(|_, _, target| target["spec"]["extensionRef"]["name"] = json!("other")));
    assert_eq!(refusal.reason, Reason::InvalidTarget);
}

#[test]
fn the_payload_names_the_role_type_that_was_recorded_with_the_decision() {
    let role = |status: Value| {
        let mut run = fixture::run();
        run["spec"]["caller"] = json!({"username": "u", "groups": ["system:masters"], "time": "t", "mac": "m"});
        run["status"] = status;
        let run: ActionRun = serde_json::from_value(run).unwrap();
        let grant = asked(|_, _, _| {}).unwrap().grant(&run, BTreeMap::new(), BTreeMap::new());
        serde_json::from_str::<Value>(&grant.payload).unwrap()["caller"]["roletype"].clone()
    };
    assert_eq!(role(json!({"roletype": "DomainAdmin"})), "DomainAdmin");
    assert_eq!(role(json!({})), "User");
}

#[test]
fn the_script_gets_the_extensions_variables_beside_the_runs_own() {
    let request = asked(|_, extension, _| {
        extension["spec"]["runtime"] = json!({"env": {"HOME": "/data", "PATH": "/opt/bin:/bin", "GREETING": "hello"}});
    });
    let run = serde_json::from_value(fixture::run()).unwrap();
    let grant = request.unwrap().grant(&run, BTreeMap::new(), BTreeMap::new());
    let expected = json!({"HOME": "/data", "PATH": "/opt/bin:/bin", "GREETING": "hello",
        "OUTRIGGER_IDEMPOTENCY_KEY": fixture::UID, "OUTRIGGER_ATTEMPT": "1"});
    assert_eq!(serde_json::to_value(grant.env).unwrap(), expected);
}

#[test]
fn an_unstamped_or_restored_run_never_starts() {
    let run: ActionRun = serde_json::from_value(fixture::run()).unwrap();
    for (stamp, reason) in [(StampError::Missing, Reason::NotAdmitted), (StampError::Restored, Reason::Restored)] {
        let labels = BTreeMap::new();
        let references = References {
            extension: None,
            target: None,
            namespace_labels: &labels,
            stamp: Err(stamp),
            answers: &Answers::NONE,
        };
        assert_eq!(never(request(&run, &references, &Policy::default())).reason, reason);
    }
}

#[test]
fn a_run_waits_while_the_installed_tree_is_not_what_was_installed() {
    let asked = asked(|_, extension, _| {
        extension["status"]["conditions"] = json!([{
            "type": "Installed", "status": "False", "reason": "Drifted", "message": "lib.sh was changed",
            "lastTransitionTime": "2026-11-23T10:00:00Z"}]);
    });
    let Err(Start::Wait(refusal)) = asked else { panic!("it starts") };
    assert_eq!(refusal.message, "extension \"redfish\" is not installed as it should be: lib.sh was changed");
}

#[test]
fn a_target_given_in_place_must_fit_the_action_and_reaches_the_payload() {
    let given = |target: Value| {
        asked(|run, _, _| {
            run["spec"].as_object_mut().unwrap().remove("targetRef");
            run["spec"]["target"] = target;
        })
    };
    let request =
        given(json!({"id": "6f1c", "host": {"url": "https://lab"}, "virtualmachine": {"slot": "7"}})).unwrap();
    assert_eq!(request.secrets().0, [""; 0]);
    let run = serde_json::from_value(fixture::run()).unwrap();
    let payload: Value = serde_json::from_str(&request.grant(&run, BTreeMap::new(), BTreeMap::new()).payload).unwrap();
    assert_eq!(payload["externaldetails"], json!({"host": {"url": "https://lab"}, "virtualmachine": {"slot": "7"}}));
    assert_eq!((&payload["virtualmachineid"], &payload["virtualmachinename"]), (&json!("6f1c"), &Value::Null));
    let refusal = never(given(json!({"resourcetype": "Network"})));
    assert_eq!(
        refusal.message,
        "spec.target.resourcetype: the target is a \"Network\"; action \"status\" acts on a VirtualMachine"
    );
    let refusal = never(asked(|run, _, _| run["spec"]["target"] = json!({"name": "x"})));
    assert_eq!(refusal.message, "spec.targetRef and spec.target exclude each other; give one");
}

#[test]
fn a_target_is_called_what_its_instance_is_unless_it_says_its_name() {
    let called = |name: Option<&str>, id: Option<&str>, vm: Value| {
        let request = asked(|_, _, target| {
            let spec = target["spec"].as_object_mut().unwrap();
            spec.retain(|key, _| key != "name" && key != "id");
            spec.extend(
                [("name", name), ("id", id)].into_iter().filter_map(|(key, value)| Some((key.into(), json!(value?)))),
            );
            spec.insert("vm".into(), vm);
        });
        let run = serde_json::from_value(fixture::run()).unwrap();
        let grant = request.unwrap().grant(&run, BTreeMap::new(), BTreeMap::new());
        let payload: Value = serde_json::from_str(&grant.payload).unwrap();
        (payload["virtualmachinename"].clone(), payload["virtualmachineid"].clone())
    };
    let vm = json!({"name": "i-2-45-VM", "uuid": "6f1c"});
    assert_eq!(called(Some("own"), Some("7"), vm.clone()), (json!("own"), json!("7")));
    assert_eq!(called(None, None, vm), (json!("i-2-45-VM"), json!("6f1c")));
    let object_name = fixture::target()["metadata"]["name"].clone();
    assert_eq!(called(None, None, json!({"name": 5})), (object_name, Value::Null));
}
