//! What a run's parameters are checked for, how they are typed, and the words of each problem.

use serde_json::json;

use super::*;

fn definition(name: &str, kind: ParameterKind) -> ParameterDefinition {
    ParameterDefinition { name: name.into(), kind, required: false, options: Vec::new() }
}

fn given(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn problem(definition: ParameterDefinition, value: Value) -> String {
    let given = BTreeMap::from([(definition.name.clone(), value)]);
    read(&given, &BTreeMap::new(), &[definition], false).unwrap_err().join("\n")
}

#[test]
fn values_get_the_types_that_scripts_know_from_cloudstack() {
    let definitions = [
        definition("text", ParameterKind::Text),
        definition("count", ParameterKind::Integer),
        definition("share", ParameterKind::Decimal),
        definition("really", ParameterKind::Boolean),
        definition("when", ParameterKind::Date),
    ];
    let texts =
        json!({"text": "5", "count": "+5", "share": "0.1", "really": "true", "when": "2026-11-23T13:00:00+01:00"});
    let natural = json!({"text": 5, "count": 5, "share": 0.1, "really": true, "when": "2026-11-23T12:00:00Z"});
    let typed = json!({"count": 5, "really": true, "share": 0.1, "text": "5", "when": "2026-11-23T12:00:00Z"});
    for form in [texts, natural] {
        let read = read(&given(form), &BTreeMap::new(), &definitions, false).unwrap();
        assert_eq!(Value::Object(read.values), typed);
    }
    let whole = read(&given(json!({"share": 2})), &BTreeMap::new(), &definitions, false).unwrap();
    assert_eq!(whole.values["share"], json!(2.0));
}

#[test]
fn each_kind_says_what_it_expects() {
    let texts = [
        (
            ParameterKind::Integer,
            json!("1.5"),
            "spec.parameters.p: \"1.5\" is not valid; expected is a whole number from -2147483648 to 2147483647",
        ),
        (
            ParameterKind::Decimal,
            json!("NaN"),
            "spec.parameters.p: \"NaN\" is not valid; expected is a number such as 1.5 or 2e3",
        ),
        (ParameterKind::Boolean, json!("True"), "spec.parameters.p: \"True\" is not valid; expected is true or false"),
        (
            ParameterKind::Email,
            json!("x"),
            "spec.parameters.p: \"x\" is not valid; expected is an e-mail address such as name@example.com",
        ),
        (
            ParameterKind::Uuid,
            json!("x"),
            "spec.parameters.p: \"x\" is not valid; expected is a UUID such as 123e4567-e89b-12d3-a456-426614174000",
        ),
        (ParameterKind::Text, json!(["x"]), "spec.parameters.p: is a list; allowed are strings, numbers and booleans"),
        (ParameterKind::Text, json!({}), "spec.parameters.p: is an object; allowed are strings, numbers and booleans"),
        (ParameterKind::Text, json!(null), "spec.parameters.p: is null; allowed are strings, numbers and booleans"),
        (
            ParameterKind::Text,
            json!(""),
            "spec.parameters.p: is empty; leave it out, or give a value; expected is text",
        ),
        (ParameterKind::Text, json!("x".repeat(9000)), "spec.parameters.p: has 9002 bytes as JSON; allowed are 8192"),
    ];
    for (kind, value, text) in texts {
        assert_eq!(problem(definition("p", kind), value), text);
    }
}

#[test]
fn a_required_parameter_must_be_there_and_not_blank() {
    let required = ParameterDefinition { required: true, ..definition("p", ParameterKind::Text) };
    let missing = read(&given(json!({})), &BTreeMap::new(), std::slice::from_ref(&required), false).unwrap_err();
    assert_eq!(missing, ["spec.parameters.p: is required and missing; expected is text"]);
    assert_eq!(problem(required, json!("  ")), "spec.parameters.p: is empty; it is required; expected is text");
    assert_eq!(
        read(&given(json!({})), &BTreeMap::new(), &[definition("p", ParameterKind::Text)], false),
        Ok(Parameters::default())
    );
}

#[test]
fn options_are_compared_as_typed_values_and_listed() {
    let options = vec![Typed::Decimal(1.5), Typed::Decimal(2.0)];
    let decimal = ParameterDefinition { options, ..definition("p", ParameterKind::Decimal) };
    assert_eq!(
        problem(decimal.clone(), json!("3")),
        "spec.parameters.p: \"3\" is not valid; expected is one of 1.5, 2"
    );
    assert!(read(&given(json!({"p": "2.00"})), &BTreeMap::new(), &[decimal], false).is_ok());
}

#[test]
fn a_password_is_never_echoed() {
    let options = vec![Typed::Text("open".into())];
    let password = ParameterDefinition { options, ..definition("p", ParameterKind::Password) };
    let text = problem(password.clone(), json!("hunter2"));
    assert_eq!(text, "spec.parameters.p: the value (not shown) is not valid; expected is one of 1 options (not shown)");
    assert_eq!(
        read(&given(json!({"p": "open"})), &BTreeMap::new(), &[password], false).unwrap().password_values,
        ["open"]
    );
}

#[test]
fn unknown_names_are_refused_or_passed_on_as_text() {
    let definitions = [definition("snap_name", ParameterKind::Text)];
    let values = given(json!({"snapname": "x", "a b": true}));
    assert_eq!(
        read(&values, &BTreeMap::new(), &definitions, false).unwrap_err(),
        [
            "spec.parameters[\"a b\"]: is unknown; allowed are snap_name",
            "spec.parameters.snapname: is unknown (did you mean \"snap_name\"?); allowed are snap_name",
        ]
    );
    assert_eq!(
        Value::Object(read(&values, &BTreeMap::new(), &definitions, true).unwrap().values),
        json!({"a b": "true", "snapname": "x"})
    );
    let none = read(&given(json!({"x": 1})), &BTreeMap::new(), &[], false).unwrap_err();
    assert_eq!(none, ["spec.parameters.x: is unknown; the action takes no parameters"]);
}

fn secrets(value: Value) -> BTreeMap<String, Option<String>> {
    serde_json::from_value(value).unwrap()
}

#[test]
fn values_from_secrets_are_typed_and_kept_out_of_every_output() {
    let definitions = [definition("pin", ParameterKind::Integer), definition("kind", ParameterKind::Text)];
    let both = read(&given(json!({"kind": "full"})), &secrets(json!({"pin": "1234"})), &definitions, false).unwrap();
    assert_eq!(Value::Object(both.values), json!({"kind": "full", "pin": 1234}));
    assert_eq!(both.password_values, ["1234"]);
    let unknown = read(&given(json!({})), &secrets(json!({"key": "k3y"})), &[], true).unwrap();
    assert_eq!(
        (Value::Object(unknown.values), unknown.password_values),
        (json!({"key": "k3y"}), vec!["k3y".to_owned()])
    );
}

#[test]
fn a_secrets_value_is_kept_out_as_given_and_as_the_payload_has_it() {
    let definitions = [
        definition("pin", ParameterKind::Integer),
        definition("share", ParameterKind::Decimal),
        definition("until", ParameterKind::Date),
    ];
    let values = json!({"pin": "01234", "share": "1e4", "until": "2026-11-23T13:00:00+01:00"});
    let read = read(&given(json!({})), &secrets(values), &definitions, false).unwrap();
    assert_eq!(Value::Object(read.values), json!({"pin": 1234, "share": 10000.0, "until": "2026-11-23T12:00:00Z"}));
    assert_eq!(
        read.password_values,
        ["01234", "1234", "1e4", "10000", "10000.0", "2026-11-23T13:00:00+01:00", "2026-11-23T12:00:00Z"]
    );
}

#[test]
fn what_is_wrong_with_a_secrets_value_is_told_without_the_value() {
    let definitions = [definition("pin", ParameterKind::Integer), definition("long", ParameterKind::Text)];
    let values = json!({"pin": "hunter2", "long": "x".repeat(VALUE_BYTES + 1), "pim": null});
    let problems = read(&given(json!({})), &secrets(values), &definitions, false).unwrap_err();
    assert_eq!(
        problems,
        [
            "spec.parametersFrom: parameter \"long\": has 8193 bytes; allowed are 8192",
            "spec.parametersFrom: parameter \"pim\": is unknown; allowed are pin, long",
            "spec.parametersFrom: parameter \"pin\": the value (not shown) is not valid; expected is a whole number from -2147483648 to 2147483647",
        ]
    );
}

#[test]
fn a_value_that_was_not_read_yet_counts_as_given() {
    let required = ParameterDefinition { required: true, ..definition("pin", ParameterKind::Integer) };
    let read = read(&given(json!({})), &secrets(json!({"pin": null})), &[required], false).unwrap();
    assert_eq!(read, Parameters::default());
}
