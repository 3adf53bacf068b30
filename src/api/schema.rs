//! Schema pieces that `schemars` attributes cannot say: bounded maps, free JSON.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize as _, Deserializer};

/// `status.observedGeneration` of a status that a controller writes. Until it does, the definition's default says -1, by which
/// kstatus knows a new object from one that is as it was asked to be: here that is nothing yet.
///
/// # Errors
/// Those of the deserializer.
pub fn observed_generation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::deserialize(deserializer)?.filter(|generation| *generation >= 0))
}

/// A map of strings: at most `ENTRIES` entries with values of at most `LENGTH` characters.
pub fn string_map<const ENTRIES: u32, const LENGTH: u32>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": ENTRIES,
        "additionalProperties": {"type": "string", "maxLength": LENGTH},
    })
}

/// Free JSON of any type, kept as it is. Its size is bounded at admission.
pub fn free_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// A free JSON object, kept as it is and replaced as a whole. Its size is bounded at admission.
pub fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-map-type": "atomic",
    })
}

/// A map whose values are strings, numbers or booleans; which of them is checked at admission.
pub fn scalar_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
    })
}

/// `metav1.Condition` items, keyed by type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
            },
        },
    })
}

/// `spec.runtime.resources`: limits and requests by resource name.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = serde_json::json!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"x-kubernetes-int-or-string": true},
    });
    json_schema!({
        "type": "object",
        "properties": {"limits": quantities, "requests": quantities},
    })
}

/// `spec.runtime.tolerations`, as in a pod.
pub fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "properties": {
                "key": {"type": "string", "maxLength": 316},
                "operator": {"type": "string", "enum": ["Exists", "Equal"]},
                "value": {"type": "string", "maxLength": 63},
                "effect": {"type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                "tolerationSeconds": {"type": "integer", "format": "int64", "minimum": 0},
            },
        },
    })
}
