//! What is in force: the resource, filled from manifests. Pure: no client, clock, disk or network.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::OrchestratorExtensionSpec as Spec;
use crate::digest::Digest;
use crate::validate::{Problem, Problems};

use super::Manifest;

/// The upstream fields that are in force, and what was overruled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// Upstream fields only.
    pub spec: Spec,
    /// For people: fields that a manifest sets differently from what is in force.
    pub disagreements: Vec<String>,
    /// Which manifest gave what the resource leaves unset, by field (`entrypoint.path`).
    pub origins: BTreeMap<&'static str, Origin>,
}

/// A manifest that fills a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The one that `manifestURL` links to.
    Linked,
    /// The one in the tree.
    InTree,
}

impl Merged {
    /// Adds to problems of what is in force where they stand, as far as a manifest gave the field.
    pub fn locate(&self, problems: Problems, linked: Option<&Manifest>, in_tree: Option<&Manifest>) -> Problems {
        let located = |problem: Problem| {
            let path = problem.path.strip_prefix("spec.").unwrap_or(&problem.path);
            let is_of = |field: &str| {
                path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let origin = self.origins.iter().find(|(field, _)| is_of(field)).map(|(_, origin)| *origin);
            let manifest = match origin {
                Some(Origin::Linked) => linked,
                Some(Origin::InTree) => in_tree,
                None => None,
            };
            match manifest {
                Some(manifest) => manifest.locate(problem.into()).into_iter().collect(),
                None => vec![problem],
            }
        };
        Problems::new(problems.into_iter().flat_map(located).collect())
    }
}

/// Fills what `resource` leaves unset from the manifest that `manifestURL` links to, then from the one in the tree, whose
/// `source` is ignored. Fields are taken whole, `entrypoint` field by field, `source` as one block.
pub fn merge(resource: &Spec, linked: Option<&Manifest>, in_tree: Option<&Manifest>) -> Merged {
    let mut merged = Merged { spec: upstream(resource), ..Merged::default() };
    if let Some(manifest) = linked {
        fill(&mut merged, &from_manifest(manifest), Origin::Linked);
    }
    if let Some(manifest) = in_tree {
        fill(&mut merged, &Spec { source: None, ..from_manifest(manifest) }, Origin::InTree);
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

fn fill(merged: &mut Merged, from: &Spec, origin: Origin) {
    let whose = match origin {
        Origin::Linked => "the linked manifest",
        Origin::InTree => "the manifest in the source",
    };
    let Merged { spec, disagreements, origins } = merged;
    let mut differs =
        |field: &str| disagreements.push(format!("spec.{field}: {whose} says otherwise and is overruled"));
    macro_rules! fill {
        ($($field:ident: $name:literal),+ $(,)?) => {
            $(match (&spec.$field, &from.$field) {
                (None, Some(theirs)) => {
                    spec.$field = Some(theirs.clone());
                    origins.insert($name, origin);
                }
                (_, None) => {}
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
    let Some(theirs) = &from.entrypoint else { return };
    let ours = spec.entrypoint.get_or_insert_default();
    for (ours, theirs, name) in [
        (&mut ours.language, &theirs.language, "entrypoint.language"),
        (&mut ours.path, &theirs.path, "entrypoint.path"),
        (&mut ours.target_dir, &theirs.target_dir, "entrypoint.targetDir"),
    ] {
        match (&*ours, theirs) {
            (None, Some(theirs)) => {
                *ours = Some(theirs.clone());
                origins.insert(name, origin);
            }
            (_, None) => {}
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
