//! What a run's schema cannot bound: sizes, and types of parameters. Pure.

use crate::action::parameters;
use crate::api::ActionRunSpec;
use crate::api::run::Caller;
use crate::validate::quoted;

/// Largest spec, in bytes of its JSON without `caller` and `cancel`.
pub const SPEC_BYTES: usize = 96 * 1024;

/// Most groups of a caller: as many as the schema has room for.
const CALLER_GROUPS: usize = 1024;
/// Largest stamp of a caller, in bytes of its JSON.
const CALLER_BYTES: usize = 96 * 1024;

/// Why a run of this caller cannot be recorded: groups must all be in its stamp, because rights may rest on any of them.
pub fn caller(caller: &Caller) -> Option<String> {
    let bytes = serde_json::to_string(caller).map_or(usize::MAX, |json| json.len());
    let what = match caller.groups.len() {
        groups if groups > CALLER_GROUPS => format!("is in {groups} groups, and a run records at most {CALLER_GROUPS}"),
        _ if bytes > CALLER_BYTES => {
            format!(
                "has names, groups and other facts of {bytes} bytes as JSON, and a run records at most {CALLER_BYTES}"
            )
        }
        _ => return None,
    };
    Some(format!(
        "user {} {what}: create the run as a user of fewer groups, such as a service account",
        quoted(&caller.username)
    ))
}

/// Everything that is wrong with `spec` on its own: its sizes and its parameters' types.
pub fn problems(spec: &ActionRunSpec) -> Vec<String> {
    let mut problems = Vec::new();
    let request = ActionRunSpec { caller: None, cancel: None, ..spec.clone() };
    let bytes = serde_json::to_string(&request).map_or(usize::MAX, |json| json.len());
    if bytes > SPEC_BYTES {
        problems.push(format!("spec has {bytes} bytes as JSON: at most {SPEC_BYTES} are allowed"));
    }
    problems.extend(spec.parameters.iter().filter_map(|(name, value)| parameters::fit(name, value).err()));
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems_of(spec: Value) -> Vec<String> {
        let mut whole = json!({"extensionRef": {"name": "orchestrator"}, "action": "backup"});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        problems(&serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn an_ordinary_spec_has_no_problems() {
        let spec = json!({"parameters": {"a": "x", "b": 1, "c": 1.5, "d": true}, "retries": 0, "ttlSecondsAfterFinished": 0, "parametersFrom": []});
        assert!(problems_of(spec).is_empty());
    }

    #[test]
    fn values_other_than_strings_numbers_and_booleans_are_refused_by_name() {
        assert_eq!(
            problems_of(json!({"parameters": {"a": null, "b": [1], "c": {}}})),
            [
                "spec.parameters.a: is null; allowed are strings, numbers and booleans",
                "spec.parameters.b: is a list; allowed are strings, numbers and booleans",
                "spec.parameters.c: is an object; allowed are strings, numbers and booleans",
            ]
        );
    }

    #[test]
    fn sizes_are_those_of_the_escaped_json() {
        assert!(problems_of(json!({"parameters": {"a": "x".repeat(8190)}})).is_empty());
        assert_eq!(
            problems_of(json!({"parameters": {"a": "x".repeat(8191), "b": "\u{1}".repeat(1366)}})),
            [
                "spec.parameters.a: has 8193 bytes as JSON; allowed are 8192",
                "spec.parameters.b: has 8198 bytes as JSON; allowed are 8192",
            ]
        );
        let many: serde_json::Map<_, _> = (0..13).map(|n| (n.to_string(), json!("x".repeat(8000)))).collect();
        let problems = problems_of(json!({"parameters": many}));
        assert!(
            problems[0].starts_with("spec has 104") && problems[0].ends_with("at most 98304 are allowed"),
            "{problems:?}"
        );
    }
}
