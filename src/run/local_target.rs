//! An ExtensionTarget and its Secrets from one YAML file, for runs without a cluster. Pure: no client, clock, disk or
//! network.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::CustomResourceExt as _;
use serde::Deserialize as _;
use serde_json::Value;

use super::context::texts;
use crate::api::ExtensionTarget;
use crate::validate::{did_you_mean, quoted};

/// A target, with what the operator would read from its Secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalTarget {
    /// The target.
    pub object: ExtensionTarget,
    /// Entries of the Secrets that `hostFrom` names; later ones win over equal keys.
    pub host_entries: BTreeMap<String, String>,
}

/// Reads the documents of `text`: one ExtensionTarget, and the Secrets (`stringData` or `data`) that its `hostFrom` names.
/// Objects of other kinds are skipped. Errors begin with `file`.
pub fn read(text: &str, file: &str) -> Result<LocalTarget, String> {
    let mut target = None;
    let mut secrets = BTreeMap::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let wrong = |error: &dyn std::fmt::Display| format!("{file}: document {}: {error}", index + 1);
        let object = Value::deserialize(document).map_err(|error| wrong(&error))?;
        match object.get("kind").and_then(Value::as_str) {
            Some("ExtensionTarget") if target.is_some() => {
                return Err(wrong(&"is a second ExtensionTarget; expected is one per file"));
            }
            Some("ExtensionTarget") => {
                known_fields(&object).map_err(|error| wrong(&error))?;
                let object = serde_json::from_value::<ExtensionTarget>(object);
                target = Some(object.map_err(|error| wrong(&format!("is no ExtensionTarget: {error}")))?);
            }
            Some("Secret") => {
                let secret: Secret =
                    serde_json::from_value(object).map_err(|error| wrong(&format!("is no Secret: {error}")))?;
                secrets.insert(secret.metadata.name.clone().unwrap_or_default(), secret);
            }
            Some(_) | None => {}
        }
    }
    let object = target.ok_or_else(|| format!("{file}: holds no ExtensionTarget; expected is one"))?;
    let mut host_entries = BTreeMap::new();
    for reference in object.spec.host_from.iter().flatten() {
        let name = &reference.secret_ref.name;
        let secret = secrets.get(name).cloned().ok_or_else(|| {
            format!("{file}: spec.hostFrom: Secret {name:?} is not in the file: add it as a document with stringData")
        })?;
        host_entries.extend(entries(secret).map_err(|message| format!("{file}: {message}"))?);
    }
    Ok(LocalTarget { object, host_entries })
}

/// As the API server does it: `stringData` wins over `data`.
fn entries(mut secret: Secret) -> Result<BTreeMap<String, String>, String> {
    let written = secret.string_data.take().unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    data.extend(written.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
    texts(secret)
}

/// The API server would say so, too: a field that is misspelled must not be taken for one that is unset.
fn known_fields(object: &Value) -> Result<(), String> {
    let definition = serde_json::to_value(ExtensionTarget::crd()).unwrap_or_default();
    let fields = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
    let known: Vec<&str> =
        fields.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let mut given = object.get("spec").and_then(Value::as_object).into_iter().flatten();
    let Some((field, _)) = given.find(|(field, _)| !known.contains(&field.as_str())) else { return Ok(()) };
    let suggestion = did_you_mean(field, known.iter().copied());
    Err(format!("spec: {} is an unknown field{suggestion}; allowed are {}", quoted(field), known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "apiVersion: outrigger.dev/v1alpha1
kind: ExtensionTarget
metadata: {name: node7}
spec: {extensionRef: {name: hello}, host: {url: a, user: b}, hostFrom: [{secretRef: {name: bmc}}]}
";

    #[test]
    fn the_target_gets_the_entries_of_its_secrets_from_the_same_file() {
        let secret =
            "apiVersion: v1\nkind: Secret\nmetadata: {name: bmc}\ndata: {a: eA==, b: eQ==}\nstringData: {b: z}\n";
        let target = read(&format!("{secret}---\nkind: Namespace\n---\n{TARGET}"), "t.yaml").unwrap();
        assert_eq!(target.object.metadata.name.as_deref(), Some("node7"));
        assert_eq!(target.host_entries, BTreeMap::from([("a".into(), "x".into()), ("b".into(), "z".into())]));
    }

    #[test]
    fn what_is_missing_or_too_much_is_said() {
        let twice = format!("{TARGET}---\n{TARGET}");
        let cases = [
            (TARGET, "t.yaml: spec.hostFrom: Secret \"bmc\" is not in the file: add it as a document with stringData"),
            ("kind: Secret\n", "t.yaml: holds no ExtensionTarget; expected is one"),
            (&twice, "t.yaml: document 2: is a second ExtensionTarget; expected is one per file"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, "t.yaml").unwrap_err(), expected);
        }
    }

    #[test]
    fn a_misspelled_field_is_no_unset_one() {
        let error = read(&TARGET.replace("host:", "hosts:"), "t.yaml").unwrap_err();
        let expected = "t.yaml: document 1: spec: \"hosts\" is an unknown field (did you mean \"host\"?); allowed are ";
        assert!(error.starts_with(expected), "{error}");
    }
}
