//! A run's parameters: checked against their definitions and typed for the payload. Pure: no client, clock, disk or
//! network.
//!
//! The values are those that CloudStack accepts for the same definitions. Every problem is told at once; the value of a
//! PASSWORD parameter is never in a message.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::validate::{ParameterDefinition, ParameterKind, Typed, did_you_mean, quoted};

/// Most bytes of one value.
pub const VALUE_BYTES: usize = 8 * 1024;

/// Typed parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Name to typed value, in the order of the names.
    pub values: Map<String, Value>,
    /// Values of PASSWORD parameters and from Secrets, to be kept out of every output: as given, and as the payload has them.
    pub password_values: Vec<String>,
}

/// Reads `given` (strings, numbers and booleans) and `secret` by `definitions`. Names that no definition has are refused, or
/// passed on as text where `allow_unknown` is set. `secret` holds values from Secrets, each kept out of every output like
/// that of a PASSWORD; one that was not read yet is `None` and counts as given. No name may be in both. Errors: one
/// message per problem, each beginning with the field.
pub fn read(
    given: &BTreeMap<String, Value>,
    secret: &BTreeMap<String, Option<String>>,
    definitions: &[ParameterDefinition],
    allow_unknown: bool,
) -> Result<Parameters, Vec<String>> {
    let mut problems = Vec::new();
    let mut read = Parameters::default();
    for (name, value) in given {
        let definition = definitions.iter().find(|definition| definition.name == *name);
        if definition.is_none() && !allow_unknown {
            problems.push(unknown(&field(name), name, definitions));
            continue;
        }
        let text = match fit(name, value) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let Some(definition) = definition else {
            read.values.insert(name.clone(), Value::String(text));
            continue;
        };
        match one(definition, &text, false) {
            Err(message) => problems.push(format!("{}: {message}", field(name))),
            Ok(typed) => {
                read.values.insert(name.clone(), typed.to_json());
                if definition.kind == ParameterKind::Password {
                    read.password_values.push(text);
                }
            }
        }
    }
    for (name, text) in secret {
        let field = secret_field(name);
        match (definitions.iter().find(|definition| definition.name == *name), text) {
            (None, _) if !allow_unknown => problems.push(unknown(&field, name, definitions)),
            (_, None) => {}
            (_, Some(text)) if text.len() > VALUE_BYTES => {
                problems.push(format!("{field}: has {} bytes; allowed are {VALUE_BYTES}", text.len()));
            }
            (definition, Some(text)) => {
                let typed = definition.map_or_else(
                    || Ok(Value::String(text.clone())),
                    |definition| one(definition, text, true).map(|typed| typed.to_json()),
                );
                match typed {
                    Err(message) => problems.push(format!("{field}: {message}")),
                    Ok(value) => {
                        read.password_values.extend(secret_texts(text, &value));
                        read.values.insert(name.clone(), value);
                    }
                }
            }
        }
    }
    let is_given = |name: &String| given.contains_key(name) || secret.contains_key(name);
    for definition in definitions.iter().filter(|definition| definition.required && !is_given(&definition.name)) {
        let expects = describe(definition);
        problems.push(format!("{}: is required and missing; expected is {expects}", field(&definition.name)));
    }
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

fn field(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) && name.len() <= 128 {
        format!("spec.parameters.{name}")
    } else {
        format!("spec.parameters[{}]", quoted(name))
    }
}

fn secret_field(name: &str) -> String {
    format!("spec.parametersFrom: parameter {}", quoted(name))
}

/// The value of parameter `name` as a user would have typed it, whatever its definition. Errors: it is no string, number or
/// boolean, or has more than [`VALUE_BYTES`] as JSON.
pub fn fit(name: &str, value: &Value) -> Result<String, String> {
    let text = text(value)
        .map_err(|found| format!("{}: is {found}; allowed are strings, numbers and booleans", field(name)))?;
    let bytes = value.to_string().len();
    if bytes > VALUE_BYTES {
        return Err(format!("{}: has {bytes} bytes as JSON; allowed are {VALUE_BYTES}", field(name)));
    }
    Ok(text)
}

/// A scalar as a user would have typed it, or what else `value` is.
fn text(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(boolean) => Ok(boolean.to_string()),
        Value::Null => Err("null"),
        Value::Array(_) => Err("a list"),
        Value::Object(_) => Err("an object"),
    }
}

/// Under which texts a script may print a value from a Secret: the Secret's own, and the payload's, which is another for
/// numbers and dates.
fn secret_texts(given: &str, typed: &Value) -> Vec<String> {
    let typed = text(typed).unwrap_or_default();
    // Some languages print a whole number without its fraction.
    let whole = typed.strip_suffix(".0").map(str::to_owned);
    let mut texts = vec![given.to_owned()];
    texts.extend(whole.into_iter().chain([typed]));
    texts.dedup();
    texts
}

fn one(definition: &ParameterDefinition, text: &str, from_secret: bool) -> Result<Typed, String> {
    let secret = from_secret || definition.kind == ParameterKind::Password;
    let shown = if secret { "the value (not shown)".to_owned() } else { quoted(text) };
    if text.trim().is_empty() {
        let advice = if definition.required { "it is required" } else { "leave it out, or give a value" };
        return Err(format!("is empty; {advice}; expected is {}", describe(definition)));
    }
    let typed =
        definition.kind.read(text).filter(|typed| definition.options.is_empty() || definition.options.contains(typed));
    typed.ok_or_else(|| format!("{shown} is not valid; expected is {}", describe(definition)))
}

fn describe(definition: &ParameterDefinition) -> String {
    if definition.options.is_empty() {
        return definition.kind.expects().into();
    }
    if definition.kind == ParameterKind::Password {
        return format!("one of {} options (not shown)", definition.options.len());
    }
    let options: Vec<String> = definition.options.iter().map(Typed::text).collect();
    format!("one of {}", options.join(", "))
}

fn unknown(field: &str, name: &str, definitions: &[ParameterDefinition]) -> String {
    if definitions.is_empty() {
        return format!("{field}: is unknown; the action takes no parameters");
    }
    let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
    let suggestion = did_you_mean(name, names.iter().copied());
    format!("{field}: is unknown{suggestion}; allowed are {}", names.join(", "))
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;
