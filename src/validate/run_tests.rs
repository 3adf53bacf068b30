//! What a run is checked for, and the words of each refusal.

use serde_json::{from_value, json};

use super::*;
use crate::validate::{ContractLevels, extension};

fn redfish(more: Value) -> Extension {
    let mut spec = json!({"source": {"url": "https://example.com/x.git"}, "entrypoint": {"path": "x.sh"}, "customActions": [
        {"name": "Backup", "enabled": true, "timeout": 60, "allowedroletypes": ["User"], "details": {"vendor": "x"}, "successmessage": "ok",
         "parameters": [{"name": "kind", "type": "STRING", "required": true, "valueoptions": "full,incremental"},
                        {"name": "secret", "type": "STRING", "validationformat": "PASSWORD"}]},
        {"name": "Asleep"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    extension("redfish", &from_value(spec).unwrap(), &ContractLevels::default()).unwrap()
}

fn request(more: Value) -> ActionRunSpec {
    let mut spec = json!({"extensionRef": {"name": "redfish"}, "action": "start"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    from_value(spec).unwrap()
}

fn target(more: Value) -> ExtensionTargetSpec {
    let mut spec = json!({"extensionRef": {"name": "redfish"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    from_value(spec).unwrap()
}

fn refusals(spec: Value, extension: &Extension, target: Option<&ExtensionTargetSpec>) -> Vec<(Reason, String)> {
    let refusals = run(&request(spec), extension, target, &BTreeMap::new(), &RunLimits::default()).unwrap_err();
    refusals.into_iter().map(|refusal| (refusal.reason, refusal.message)).collect()
}

#[test]
fn a_custom_action_is_invoked_with_typed_parameters() {
    let spec = request(
        json!({"action": "Backup", "parameters": {"kind": "full", "secret": "hunter2!"}, "timeoutSeconds": 600}),
    );
    let invocation = run(&spec, &redfish(json!({})), None, &BTreeMap::new(), &RunLimits::default()).unwrap();
    assert_eq!((invocation.action.as_str(), invocation.kind), ("Backup", ActionKind::Custom));
    assert_eq!(Value::Object(invocation.parameters), json!({"kind": "full", "secret": "hunter2!"}));
    assert_eq!(invocation.password_values, ["hunter2!"]);
    assert_eq!(invocation.timeout_seconds, 60, "never more than the action allows");
    assert_eq!(roles_needed("Backup", &redfish(json!({}))), Some(&[RoleType::Admin, RoleType::User][..]));
    assert_eq!(roles_needed("start", &redfish(json!({}))), None);
    assert_eq!(invocation.details["vendor"], "x");
    assert_eq!((invocation.success_message.as_deref(), invocation.error_message), (Some("ok"), None));
}

#[test]
fn a_lifecycle_action_has_the_operators_timeout_and_an_alias() {
    let extension = redfish(json!({"actionAliases": {"create": "deploy"}}));
    let limits = RunLimits { default_timeout_seconds: 900, ..RunLimits::default() };
    let invocation =
        run(&request(json!({"action": "create"})), &extension, Some(&target(json!({}))), &BTreeMap::new(), &limits)
            .unwrap();
    assert_eq!((invocation.name.as_str(), invocation.action.as_str()), ("create", "deploy"));
    assert_eq!(invocation.kind, ActionKind::Lifecycle(LifecycleAction::Create));
    assert_eq!(invocation.timeout_seconds, 900);
    let shorter = run(&request(json!({"timeoutSeconds": 5})), &extension, None, &BTreeMap::new(), &limits).unwrap();
    assert_eq!(shorter.timeout_seconds, 5);
    assert_eq!(
        run(&request(json!({"timeoutSeconds": 5000})), &extension, None, &BTreeMap::new(), &limits)
            .unwrap()
            .timeout_seconds,
        900
    );
}

#[test]
fn an_unknown_action_is_refused_with_a_suggestion_and_the_allowed_ones() {
    assert_eq!(
        refusals(json!({"action": "backup"}), &redfish(json!({})), None),
        [(
            Reason::UnknownAction,
            "spec.action: extension \"redfish\" has no action \"backup\" (did you mean \"Backup\"?); allowed are Backup; and the \
             lifecycle actions prepare, create, start, stop, reboot, delete, status, statuses, getconsole"
                .to_owned()
        )]
    );
    let message = refusals(json!({"action": "Aslep"}), &redfish(json!({})), None)[0].1.clone();
    assert!(!message.contains("did you mean"), "a disabled action is no choice: {message}");
    let bare = redfish(json!({"customActions": []}));
    assert_eq!(
        refusals(json!({"action": "deploy"}), &bare, None)[0].1,
        "spec.action: extension \"redfish\" has no action \"deploy\"; allowed are prepare, create, start, stop, reboot, delete, status, \
         statuses, getconsole"
    );
}

#[test]
fn disabled_extensions_and_actions_run_nothing() {
    let disabled = redfish(json!({"enabled": false}));
    assert_eq!(
        refusals(json!({"action": "Asleep"}), &disabled, None),
        [
            (Reason::ExtensionDisabled, "extension \"redfish\" is disabled".to_owned()),
            (
                Reason::ActionDisabled,
                "spec.action: action \"Asleep\" of extension \"redfish\" is disabled; allowed are Backup; and the lifecycle \
                 actions prepare, create, start, stop, reboot, delete, status, statuses, getconsole"
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn a_target_must_belong_and_fit() {
    let named = json!({"targetRef": {"name": "node7"}});
    let extension = redfish(json!({}));
    let message = |target: ExtensionTargetSpec| {
        let refusals = refusals(named.clone(), &extension, Some(&target));
        assert_eq!(refusals[0].0, Reason::InvalidTarget);
        refusals[0].1.clone()
    };
    assert_eq!(
        message(target(json!({"extensionRef": {"name": "other"}}))),
        "spec.targetRef: ExtensionTarget \"node7\" belongs to extension \"other\", not to \"redfish\""
    );
    assert_eq!(
        message(target(json!({"resourcetype": "Vpc"}))),
        "spec.targetRef: ExtensionTarget \"node7\" is a \"Vpc\"; action \"start\" acts on a VirtualMachine"
    );
    let unknown = json!({"action": "Nonsense", "targetRef": {"name": "node7"}});
    let unknown = refusals(unknown, &extension, Some(&target(json!({"resourcetype": "Vpc"}))));
    assert_eq!(unknown.len(), 1, "nobody knows what it acts on: {unknown:?}");
    let not_there_yet = run(&request(named.clone()), &extension, None, &BTreeMap::new(), &RunLimits::default());
    assert!(not_there_yet.is_ok(), "who asks says that it is not there");
    let fits = target(json!({"resourcetype": "virtualmachine"}));
    assert!(run(&request(named.clone()), &extension, Some(&fits), &BTreeMap::new(), &RunLimits::default()).is_ok());
}

#[test]
fn everything_wrong_is_told_at_once_without_passwords() {
    let spec = json!({"action": "Backup", "parameters": {"secret": " ", "kind": "none", "x": 1}});
    assert_eq!(
        refusals(spec, &redfish(json!({})), None),
        [
            (
                Reason::InvalidParameters,
                "spec.parameters.kind: \"none\" is not valid; expected is one of full, incremental"
            ),
            (
                Reason::InvalidParameters,
                "spec.parameters.secret: is empty; leave it out, or give a value; expected is text that is not blank"
            ),
            (Reason::InvalidParameters, "spec.parameters.x: is unknown; allowed are kind, secret"),
        ]
        .map(|(reason, message)| (reason, message.to_owned()))
    );
}

#[test]
fn lifecycle_actions_take_no_parameters() {
    assert_eq!(
        refusals(json!({"parameters": {"a": 1}}), &redfish(json!({"allowUnknownParameters": true})), None),
        [(Reason::InvalidParameters, "spec.parameters: the lifecycle action \"start\" takes no parameters".to_owned())]
    );
}

#[test]
fn no_action_exceeds_the_operators_ceiling() {
    let limits = RunLimits { default_timeout_seconds: 900, max_timeout_seconds: 60 };
    let spec = request(json!({"action": "status"}));
    assert_eq!(run(&spec, &redfish(json!({})), None, &BTreeMap::new(), &limits).unwrap().timeout_seconds, 60);
}

#[test]
fn parameters_from_secrets_are_given_once_and_never_to_a_lifecycle_action() {
    let from = |names: &[&str]| -> Value {
        names.iter().map(|name| json!({"name": name, "secretKeyRef": {"name": "s", "key": "k"}})).collect()
    };
    let extension = redfish(json!({}));
    let spec = json!({"action": "Backup", "parameters": {"kind": "full"}, "parametersFrom": from(&["secret"])});
    let values = BTreeMap::from([("secret".to_owned(), "hunter2!".to_owned())]);
    let invocation = run(&request(spec), &extension, None, &values, &RunLimits::default()).unwrap();
    assert_eq!(Value::Object(invocation.parameters), json!({"kind": "full", "secret": "hunter2!"}));
    assert_eq!(invocation.password_values, ["hunter2!"]);
    let twice = json!({"action": "Backup", "parameters": {"kind": "full"}, "parametersFrom": from(&["kind", "secret", "secret"])});
    let message =
        |name: &str, index| format!("spec.parametersFrom[{index}]: parameter {name:?} is given twice; give it once");
    assert_eq!(
        refusals(twice, &extension, None),
        [(Reason::InvalidParameters, message("kind", 0)), (Reason::InvalidParameters, message("secret", 2)),]
    );
    let expected = "spec.parametersFrom: the lifecycle action \"start\" takes no parameters".to_owned();
    assert_eq!(
        refusals(json!({"parametersFrom": from(&["kind"])}), &extension, None),
        [(Reason::InvalidParameters, expected)]
    );
}
