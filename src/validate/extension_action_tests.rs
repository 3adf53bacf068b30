//! The rules of an extension's actions and their parameters.

use serde_json::{Value, json};

use super::tests::{check, problems, with};

#[test]
fn actions_and_parameters_keep_their_rules() {
    let parameter = |parameter: Value| json!([{"name": "A", "parameters": [parameter]}]);
    let texts = [
        (
            json!([{"name": "start"}]),
            "spec.customActions[0].name: \"start\" is a lifecycle action, which every extension has; a custom action needs another name",
        ),
        (
            json!([{"name": "a/b"}]),
            "spec.customActions[0].name: \"a/b\" is no action name; allowed are 1 to 128 letters, digits, spaces, \"_\" and \"-\"",
        ),
        (
            json!([{"name": "A"}, {"name": "A"}]),
            "spec.customActions[1].name: \"A\" is already the name of customActions[0]; names must be unique",
        ),
        (
            json!([{"name": "A", "resourcetype": "Network"}]),
            "spec.customActions[0].resourcetype: \"Network\" is not supported; allowed is VirtualMachine",
        ),
        (
            json!([{"name": "A", "timeout": 700000}]),
            "spec.customActions[0].timeout: 700000 is too long; allowed are 0 (the operator's default) to 604800 seconds",
        ),
        (
            json!([{"name": "A", "allowedroletypes": ["admin"]}]),
            "spec.customActions[0].allowedroletypes[0]: \"admin\" is no role type (did you mean \"Admin\"?); allowed are Admin, ResourceAdmin, DomainAdmin, User",
        ),
        (
            parameter(json!({"name": " ", "type": "STRING"})),
            "spec.customActions[0].parameters[0].name: \" \" is no parameter name; allowed are 1 to 128 printable characters",
        ),
        (
            parameter(json!({"name": "p", "type": "TEXT"})),
            "spec.customActions[0].parameters[0].type: \"TEXT\" is unknown; allowed are STRING, NUMBER, BOOLEAN, DATE",
        ),
        (
            parameter(json!({"name": "p", "type": "NUMBER", "valueoptions": "1,two"})),
            "spec.customActions[0].parameters[0].valueoptions: option \"two\" does not fit: expected is a whole number from -2147483648 to 2147483647",
        ),
        (
            parameter(json!({"name": "p", "type": "BOOLEAN", "valueoptions": "true"})),
            "spec.customActions[0].parameters[0].valueoptions: options are not supported for BOOLEAN and DATE: remove them",
        ),
        (
            json!([{"name": "A", "parameters": [{"name": "p", "type": "DATE"}, {"name": "p", "type": "DATE"}]}]),
            "spec.customActions[0].parameters[1].name: \"p\" is already the name of parameters[0]; names must be unique",
        ),
    ];
    for (actions, text) in texts {
        assert_eq!(problems("customActions", actions), text);
    }
}

#[test]
fn names_that_differ_in_case_only_are_allowed_and_noted() {
    let extension = check(with("customActions", json!([{"name": "List"}, {"name": "list"}]))).unwrap();
    assert_eq!(
        extension.notes,
        [
            "the custom actions \"List\" and \"list\" differ in case only: scripts that compare in lower case cannot tell them apart"
        ]
    );
}

#[test]
fn a_name_that_differs_from_a_lifecycle_action_in_case_only_is_noted() {
    let extension = check(with("customActions", json!([{"name": "Start"}]))).unwrap();
    assert_eq!(
        extension.notes,
        [
            "the custom action \"Start\" and the lifecycle action \"start\" differ in case only: scripts that compare in lower case cannot tell them apart"
        ]
    );
}
