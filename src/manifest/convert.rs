//! A manifest as a resource, and back. Pure: no client, clock, disk or network.

use crate::api::{OrchestratorExtension, OrchestratorExtensionSpec};

use super::Manifest;

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
    }
    Manifest { name, spec, ..Manifest::default() }
}

/// The resource as YAML, ready for `kubectl apply -f -`. Errors: only what the serialiser refuses, which no resource made
/// by [`to_resource`] holds.
pub fn to_yaml(resource: &OrchestratorExtension) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(resource)
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
