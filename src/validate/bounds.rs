//! The sizes that the definition bounds, whatever a spec was read from. Pure: no client, clock, disk or network.
//!
//! Each bound stands once, at its field in the kind's types. The API server holds resources to it; this holds manifests to it
//! as well, before they become resources.

use std::fmt;
use std::sync::LazyLock;

use kube::CustomResourceExt as _;
use serde_json::Value;

use crate::api::{OrchestratorExtension, OrchestratorExtensionSpec};

use super::problem::{Problem, quoted};

/// The schema of `spec`.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut definition = serde_json::to_value(OrchestratorExtension::crd()).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take()
});

/// Everything in `spec` that is longer, larger or more than its field allows.
pub(super) fn bounds(spec: &OrchestratorExtensionSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    check(&serde_json::to_value(spec).unwrap_or_default(), &SCHEMA, &Path::Root, &mut problems);
    problems
}

/// Where in a spec a value stands. It is spelled out for a problem alone.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Entry(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("spec"),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Entry(parent, name) => write!(f, "{parent}[{}]", quoted(name)),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

fn check(value: &Value, schema: &Value, path: &Path<'_>, problems: &mut Vec<Problem>) {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64).map(|bound| bound as u64);
    let mut size = |count: usize, least: Option<u64>, most: Option<u64>, what: &str| {
        if let Some(allowed) = allowed(count as u64, least, most) {
            problems.push(Problem::new(path.to_string(), format!("has {count} {what}; allowed are {allowed}")));
        }
    };
    match value {
        Value::String(text) => size(text.chars().count(), bound("minLength"), bound("maxLength"), "characters"),
        Value::Array(items) => {
            size(items.len(), bound("minItems"), bound("maxItems"), "items");
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &Path::Item(path, index), problems);
            }
        }
        Value::Object(map) => {
            size(map.len(), bound("minProperties"), bound("maxProperties"), "entries");
            for (name, value) in map {
                match schema["properties"].get(name) {
                    Some(field) => check(value, field, &Path::Field(path, name), problems),
                    None => check(value, &schema["additionalProperties"], &Path::Entry(path, name), problems),
                }
            }
        }
        Value::Number(number) => {
            let number = number.as_u64();
            if let Some((number, allowed)) =
                number.and_then(|number| Some((number, allowed(number, bound("minimum"), bound("maximum"))?)))
            {
                problems
                    .push(Problem::new(path.to_string(), format!("{number} is out of range; allowed are {allowed}")));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// What is allowed, in words, unless `count` is.
fn allowed(count: u64, least: Option<u64>, most: Option<u64>) -> Option<String> {
    let is_outside = least.is_some_and(|least| count < least) || most.is_some_and(|most| count > most);
    is_outside.then(|| match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, most) => format!("at most {}", most.unwrap_or_default()),
    })
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
