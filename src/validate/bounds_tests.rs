//! Every bound of the definition is one of validation.

use serde_json::{Map, json};

use super::*;

/// The way from `spec` to a field.
#[derive(Clone)]
enum Step {
    Field(String),
    Item,
    Entry,
}

/// All bounds beneath `schema`: the way, the keyword and the number.
fn collect(schema: &Value, way: &[Step], found: &mut Vec<(Vec<Step>, String, u64)>) {
    for keyword in [
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
    ] {
        if let Some(bound) = schema.get(keyword).and_then(Value::as_f64) {
            found.push((way.to_vec(), keyword.to_owned(), bound as u64));
        }
    }
    let beneath = |step: Step| [way, &[step]].concat();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect(field, &beneath(Step::Field(name.clone())), found);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], &beneath(Step::Item), found);
    }
    if schema["additionalProperties"].is_object() {
        collect(&schema["additionalProperties"], &beneath(Step::Entry), found);
    }
}

/// The least value that fits `schema`.
fn sample(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            Value::Object(required.map(|name| (name.to_owned(), sample(&schema["properties"][name]))).collect())
        }
        Some("array") => json!([]),
        Some("boolean") => json!(true),
        Some("integer") => json!(schema["minimum"].as_f64().unwrap_or(1.0) as u64),
        _ => json!("x"),
    }
}

/// A value for `schema` that holds `leaf` at the end of `way`, and the path of the leaf.
fn build(schema: &Value, way: &[Step], path: &str, leaf: &dyn Fn(&Value) -> Value) -> (Value, String) {
    let Some((step, rest)) = way.split_first() else { return (leaf(schema), path.to_owned()) };
    match step {
        Step::Field(name) => {
            let (value, path) = build(&schema["properties"][name], rest, &format!("{path}.{name}"), leaf);
            let mut whole = sample(schema);
            whole[name] = value;
            (whole, path)
        }
        Step::Item => {
            let (value, path) = build(&schema["items"], rest, &format!("{path}[0]"), leaf);
            (json!([value]), path)
        }
        Step::Entry => {
            let (value, path) = build(&schema["additionalProperties"], rest, &format!("{path}[\"k\"]"), leaf);
            (json!({"k": value}), path)
        }
    }
}

/// A value of `size` characters, items, entries, or with that number.
fn of_size(schema: &Value, keyword: &str, size: u64) -> Value {
    match keyword {
        "minLength" | "maxLength" => json!("é".repeat(size as usize)),
        "minItems" | "maxItems" => Value::Array(vec![sample(&schema["items"]); size as usize]),
        "minProperties" | "maxProperties" => {
            let entry = |number| (format!("k{number}"), sample(&schema["additionalProperties"]));
            Value::Object((0..size).map(entry).collect::<Map<_, _>>())
        }
        _ => json!(size),
    }
}

fn told(keyword: &str, way: &[Step], size: u64) -> (Vec<Problem>, String) {
    let (value, path) = build(&SCHEMA, way, "spec", &|schema| of_size(schema, keyword, size));
    let spec = serde_json::from_value(value).unwrap_or_else(|error| panic!("{path}: {error}"));
    (bounds(&spec), path)
}

#[test]
fn every_bound_of_the_definition_is_told_with_its_field_and_reached_without() {
    let mut all = Vec::new();
    collect(&SCHEMA, &[], &mut all);
    assert!(all.len() > 80, "only {} bounds were found", all.len());
    for (way, keyword, bound) in all {
        let beyond = if keyword.starts_with("min") { bound.checked_sub(1) } else { Some(bound + 1) };
        if let Some(beyond) = beyond {
            let (problems, path) = told(&keyword, &way, beyond);
            assert_eq!(problems.len(), 1, "{path} {keyword}: {problems:?}");
            assert_eq!(problems[0].path, path, "{keyword}");
            assert!(problems[0].message.contains(&bound.to_string()), "{:?}", problems[0]);
        }
        let (problems, path) = told(&keyword, &way, bound);
        assert_eq!(problems, [], "{path} {keyword}");
    }
}

#[test]
fn what_is_too_large_is_told_with_what_is_allowed() {
    let spec = json!({
        "name": "", "description": "x".repeat(5000), "revisionHistoryLimit": 21,
        "details": (0..129).map(|number| (number.to_string(), json!(""))).collect::<Map<_, _>>(),
        "customActions": [{"name": "A", "allowedroletypes": vec!["User"; 5], "details": {"a.b": "x".repeat(4097)}}],
    });
    let problems: Vec<String> =
        bounds(&serde_json::from_value(spec).unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "spec.name: has 0 characters; allowed are 1 to 253",
            "spec.description: has 5000 characters; allowed are at most 4096",
            "spec.details: has 129 entries; allowed are at most 128",
            "spec.customActions[0].allowedroletypes: has 5 items; allowed are at most 4",
            "spec.customActions[0].details[\"a.b\"]: has 4097 characters; allowed are at most 4096",
            "spec.revisionHistoryLimit: 21 is out of range; allowed are 0 to 20",
        ]
    );
}

#[test]
fn of_what_is_installed_the_sizes_are_not_looked_at_again() {
    use crate::validate::{ContractLevels, Problems, extension, installed_extension};
    let spec: OrchestratorExtensionSpec =
        serde_json::from_value(json!({"description": "x".repeat(5000), "entrypoint": {"path": "run"}})).unwrap();
    let served = ContractLevels::default();
    let one = |problems: Problems| problems.in_one_line();
    assert!(extension("x", &spec, &served).map_err(one).unwrap_err().contains("has 5000 characters"));
    assert_eq!(installed_extension("x", &spec, &served).map(drop).map_err(one), Ok(()));
    let broken = OrchestratorExtensionSpec { interval: Some("soon".to_owned()), ..spec };
    assert!(installed_extension("x", &broken, &served).map_err(one).unwrap_err().contains("spec.interval"));
}
