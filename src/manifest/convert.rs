//! A manifest as a resource, and back. Pure: no client, clock, disk or network.

use serde_json::{Map, Value, json};

use crate::api::{OrchestratorExtension, OrchestratorExtensionSpec};

use super::Manifest;

/// Fields of the resource's `spec` that a manifest has under `metadata`.
const METADATA: &[&str] = &["displayName", "description", "version", "maintainer", "homepage"];
/// Those that it has at top level.
const TOP: &[&str] = &["source", "enabled", "customActions"];
/// Longest name of an extension's object: it is a label value.
const NAME: usize = 63;

/// The resource for a manifest. Its object name is the manifest's name made legal; where that changes it, `spec.name`
/// keeps the original.
pub fn to_resource(manifest: &Manifest) -> OrchestratorExtension {
    let object_name = object_name(&manifest.name);
    let name = (object_name != manifest.name).then(|| manifest.name.clone());
    OrchestratorExtension::new(&object_name, OrchestratorExtensionSpec { name, ..manifest.spec.clone() })
}

/// The manifest for a resource's upstream fields. What is Outrigger's own is left out.
pub fn from_resource(resource: &OrchestratorExtension) -> Manifest {
    let own = resource.spec.name.clone();
    let name = own.or_else(|| resource.metadata.name.clone()).unwrap_or_default();
    let merged = super::merge(&resource.spec, None, None);
    let mut spec = OrchestratorExtensionSpec { name: None, ..merged.spec };
    // the upstream format knows no ConfigMap
    spec.source = spec.source.filter(|source| source.config_map_ref.is_none());
    if let Some(source) = &mut spec.source {
        (source.digest, source.path, source.secret_ref, source.verify) = (None, None, None, None);
        source.insecure = None;
    }
    Manifest { name, spec, ..Manifest::default() }
}

/// A resource or manifest as YAML, for `kubectl apply -f -` too. Its reader, as many others, goes by YAML 1.1, where `on` is
/// true and `1_000` a number: such texts are quoted. Errors: only what the serialiser refuses, which neither holds.
pub fn to_yaml(document: &impl serde::Serialize) -> Result<String, serde_yaml::Error> {
    let mut document = serde_json::to_value(document).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let plain = serde_yaml::to_string(&document)?;
    // The serialiser quotes nothing on request: words that nothing else holds stand in for these texts.
    let Some(word) = (0..).map(|number| format!("quoted-{number}-")).find(|word| !plain.contains(word)) else {
        return Ok(plain);
    };
    let mut texts = Vec::new();
    stand_in(&mut document, &word, &mut texts);
    let mut yaml = serde_yaml::to_string(&document)?;
    for (number, text) in texts.iter().enumerate() {
        yaml = yaml.replace(&format!("{word}{number}."), &format!("'{text}'"));
    }
    Ok(yaml)
}

fn stand_in(value: &mut Value, word: &str, texts: &mut Vec<String>) {
    let mut named = |text: &str| {
        texts.push(text.to_owned());
        format!("{word}{}.", texts.len() - 1)
    };
    match value {
        Value::String(text) if is_other_in_yaml_1_1(text) => *text = named(text),
        Value::Array(items) => items.iter_mut().for_each(|item| stand_in(item, word, texts)),
        Value::Object(map) => {
            let mut rename = |name: String| if is_other_in_yaml_1_1(&name) { named(&name) } else { name };
            *map = std::mem::take(map).into_iter().map(|(name, value)| (rename(name), value)).collect();
            map.values_mut().for_each(|value| stand_in(value, word, texts));
        }
        _ => {}
    }
}

/// Whether YAML 1.1 reads a plain `text` as a boolean or number that YAML 1.2 reads as text.
fn is_other_in_yaml_1_1(text: &str) -> bool {
    let is_word = ["y", "yes", "n", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let digits = text.trim_start_matches(['+', '-']);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, 'x' | 'o' | '_' | '.' | '+' | '-'));
    is_word || is_number && (digits.contains('_') || digits.starts_with("0b"))
}

/// The manifest as a document, with each field where CloudStack's documentation has it.
pub fn to_document(manifest: &Manifest) -> Value {
    let mut spec = fields(&manifest.spec);
    let mut metadata = Map::from_iter([("name".to_owned(), json!(manifest.name))]);
    metadata.extend(METADATA.iter().filter_map(|name| spec.shift_remove_entry(*name)));
    let top: Vec<_> = TOP.iter().filter_map(|name| spec.shift_remove_entry(*name)).collect();
    let mut document = Map::from_iter([
        ("apiVersion".to_owned(), json!("cloudstack.apache.org/v1")),
        ("kind".to_owned(), json!("OrchestratorExtension")),
        ("metadata".to_owned(), Value::Object(metadata)),
        ("spec".to_owned(), Value::Object(spec)),
    ]);
    document.extend(top);
    Value::Object(document)
}

/// The fields of `spec`, and those of its source, that no manifest can say.
pub fn left_out(resource: &OrchestratorExtension) -> Vec<String> {
    let (all, kept) = (fields(&resource.spec), fields(&from_resource(resource).spec));
    let beneath =
        |spec: &Map<String, Value>| spec.get("source").and_then(Value::as_object).cloned().unwrap_or_default();
    let missing = |prefix: &str, all: &Map<String, Value>, kept: &Map<String, Value>| -> Vec<String> {
        let names = all.keys().filter(|name| !kept.contains_key(*name) && *name != "name");
        names.map(|name| format!("{prefix}{name}")).collect()
    };
    let mut names = missing("spec.", &all, &kept);
    if kept.contains_key("source") {
        names.extend(missing("spec.source.", &beneath(&all), &beneath(&kept)));
    }
    names
}

/// What is set in `spec`. (All of its maps have text keys, so that it always serialises.)
fn fields(spec: &OrchestratorExtensionSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// A legal object name: lower case, anything else than letters, digits and `-` becomes `-`, at most 63 characters.
pub fn object_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = name.chars().map(legal).collect();
    let text: String = text.trim_start_matches('-').chars().take(NAME).collect();
    match text.trim_end_matches('-') {
        "" => "extension".into(),
        text => text.into(),
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
