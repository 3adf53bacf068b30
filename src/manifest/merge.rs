//! What is in force: the resource, filled from manifests. Pure: no client, clock, disk or network.

use serde_json::Value;

use crate::api::OrchestratorExtensionSpec as Spec;
use crate::digest::Digest;

use super::Manifest;

/// The upstream fields that are in force, and what was overruled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// Upstream fields only.
    pub spec: Spec,
    /// For people: fields that a manifest sets differently from what is in force.
    pub disagreements: Vec<String>,
}

/// Fills what `resource` leaves unset from the manifest that `manifestURL` links to, then from the one in the tree, whose
/// `source` is ignored. Fields are taken whole, `entrypoint` field by field, `source` as one block.
pub fn merge(resource: &Spec, linked: Option<&Manifest>, in_tree: Option<&Manifest>) -> Merged {
    let mut merged = Merged { spec: upstream(resource), disagreements: Vec::new() };
    if let Some(manifest) = linked {
        fill(&mut merged, &from_manifest(manifest), "the linked manifest");
    }
    if let Some(manifest) = in_tree {
        fill(&mut merged, &Spec { source: None, ..from_manifest(manifest) }, "the manifest in the source");
    }
    merged
}

/// What a manifest may say: never a Secret, a signature policy or another field of Outrigger's own.
fn from_manifest(manifest: &Manifest) -> Spec {
    let mut spec = upstream(&manifest.spec);
    spec.name = Some(manifest.name.clone()).filter(|name| !name.is_empty());
    if let Some(source) = &mut spec.source {
        (source.secret_ref, source.verify, source.config_map_ref, source.insecure) = (None, None, None, None);
    }
    spec
}

/// The upstream fields alone.
fn upstream(spec: &Spec) -> Spec {
    let spec = spec.clone();
    Spec {
        name: spec.name,
        display_name: spec.display_name,
        description: spec.description,
        version: spec.version,
        maintainer: spec.maintainer,
        homepage: spec.homepage,
        type_: spec.type_,
        source: spec.source,
        compatibility: spec.compatibility,
        entrypoint: spec.entrypoint,
        orchestrator: spec.orchestrator,
        details: spec.details,
        enabled: spec.enabled,
        custom_actions: spec.custom_actions,
        ..Spec::default()
    }
}

fn fill(merged: &mut Merged, from: &Spec, whose: &str) {
    let Merged { spec, disagreements } = merged;
    let mut differs =
        |field: &str| disagreements.push(format!("spec.{field}: {whose} says otherwise and is overruled"));
    macro_rules! fill {
        ($($field:ident: $name:literal),+ $(,)?) => {
            $(match (&spec.$field, &from.$field) {
                (None, _) => spec.$field.clone_from(&from.$field),
                (Some(ours), Some(theirs)) if ours != theirs => differs($name),
                (Some(_), _) => {}
            })+
        };
    }
    fill! {
        name: "name",
        display_name: "displayName",
        description: "description",
        version: "version",
        maintainer: "maintainer",
        homepage: "homepage",
        type_: "type",
        source: "source",
        compatibility: "compatibility",
        orchestrator: "orchestrator",
        details: "details",
        enabled: "enabled",
        custom_actions: "customActions",
    }
    let (Some(ours), Some(theirs)) = (&mut spec.entrypoint, &from.entrypoint) else {
        spec.entrypoint = spec.entrypoint.take().or_else(|| from.entrypoint.clone());
        return;
    };
    for (ours, theirs, name) in [
        (&mut ours.language, &theirs.language, "entrypoint.language"),
        (&mut ours.path, &theirs.path, "entrypoint.path"),
        (&mut ours.target_dir, &theirs.target_dir, "entrypoint.targetDir"),
    ] {
        match (&*ours, theirs) {
            (None, _) => ours.clone_from(theirs),
            (Some(ours), Some(theirs)) if ours != theirs => differs(name),
            (Some(_), _) => {}
        }
    }
}

/// What runs go by: the upstream fields of what is installed (`resolved`), the live resource's fields about how actions
/// run, and a live `enabled: false` at once. How the files are got (`interval`, `revision`, `manifestURL`…) is left out:
/// a mistake there must not stop actions of what is installed.
pub fn effective(resolved: &Spec, live: &Spec) -> Spec {
    let installed = upstream(resolved);
    Spec {
        enabled: if live.enabled == Some(false) { Some(false) } else { installed.enabled },
        details_from: live.details_from.clone(),
        strict_result: live.strict_result,
        allow_unknown_parameters: live.allow_unknown_parameters,
        action_aliases: live.action_aliases.clone(),
        runtime: live.runtime.clone(),
        ..installed
    }
}

/// A spec's canonical JSON: keys sorted, nothing but what is set.
pub fn canonical(spec: &Spec) -> String {
    // A spec's maps have text keys only, so it always serialises.
    sorted(serde_json::to_value(spec).unwrap_or_default()).to_string()
}

/// The digest of a spec's canonical JSON.
pub fn digest(spec: &Spec) -> Digest {
    Digest::of(canonical(spec))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
