//! An extension's effective spec, with every rule checked. Pure: no client, clock, disk or network.

use crate::api::{OrchestratorExtensionSpec, Reason};
use crate::digest::Digest;
use crate::source::SourceUrl;

use super::action::actions;
use super::bounds::bounds;
use super::duration::{DEFAULT_INTERVAL, interval};
use super::problem::{Problem, Problems, quoted};
use super::runtime::runtime;
use super::types::{Entrypoint, Extension, LifecycleAction, TargetDir, relative_path};
use super::version::{self, ContractLevels};

/// Former revisions that are kept where nothing is said.
const DEFAULT_REVISION_HISTORY_LIMIT: u32 = 3;

/// Reads the effective `spec` of the extension with the object name `name`. [`Problems::reason`] tells a contract level
/// that is not served from a broken rule.
pub fn extension(name: &str, spec: &OrchestratorExtensionSpec, served: &ContractLevels) -> Result<Extension, Problems> {
    read(name, spec, served, bounds)
}

/// The same of a spec that was held to the sizes of its fields when it was installed, which every run would pay for.
pub fn installed_extension(
    name: &str,
    spec: &OrchestratorExtensionSpec,
    served: &ContractLevels,
) -> Result<Extension, Problems> {
    read(name, spec, served, |_| Vec::new())
}

fn read(
    name: &str,
    spec: &OrchestratorExtensionSpec,
    served: &ContractLevels,
    bounds: fn(&OrchestratorExtensionSpec) -> Vec<Problem>,
) -> Result<Extension, Problems> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    if let Some(other) = spec.type_.as_deref().filter(|type_| !matches!(*type_, "" | "Orchestrator")) {
        problems.push(Problem::new("spec.type", format!("{} is unknown; allowed is Orchestrator", quoted(other))));
    }
    if !is_object_name(name) {
        let message = "is no name for an extension; allowed are 1 to 63 lower-case letters, digits, \"-\" and \".\", first and last a letter or digit";
        problems.push(Problem::new("metadata.name", format!("{} {message}", quoted(name))));
    }
    let own_name = spec.name.as_deref().unwrap_or(name);
    if own_name.trim().is_empty() || own_name.chars().count() > 253 || own_name.chars().any(char::is_control) {
        problems.push(Problem::new("spec.name", "is no name; allowed are 1 to 253 printable characters"));
    }
    let version = spec.version.as_deref().filter(|text| !text.is_empty()).and_then(|text| {
        version::own(text).map_err(|message| problems.push(Problem::new("spec.version", message))).ok()
    });
    compatibility(spec, served, &mut problems);
    let entrypoint = entrypoint(name, spec, &mut problems);
    let actions = actions(spec.custom_actions.as_deref().unwrap_or_default(), &mut problems, &mut notes);
    let interval = spec.interval.as_deref().map_or(Some(DEFAULT_INTERVAL), |text| {
        interval(text).map_err(|message| problems.push(Problem::new("spec.interval", message))).ok()
    });
    if let Some(revision) = &spec.revision
        && revision.parse::<Digest>().is_err()
    {
        let message = format!(
            "{} is no tree digest; allowed is a treeDigest of status.history, \"sha256:\" and 64 lower-case hexadecimal digits",
            quoted(revision)
        );
        problems.push(Problem::new("spec.revision", message));
    }
    if let Some(source) = &spec.source
        && let Err(found) = super::source(source)
    {
        problems.extend(found);
    }
    if let Some(url) = &spec.manifest_url
        && let Err(fault) = SourceUrl::parse(url)
    {
        problems.push(Problem::new("spec.manifestURL", fault.to_string()));
    }
    let runtime = runtime(spec.runtime.as_ref(), &mut problems);
    let aliases = spec.action_aliases.clone().unwrap_or_default();
    for (from, to) in &aliases {
        let path = format!("spec.actionAliases[{}]", quoted(from));
        let is_action = LifecycleAction::named(from).is_some()
            || spec.custom_actions.iter().flatten().any(|action| action.name == *from);
        if !is_action {
            problems.push(Problem::new(
                &path,
                "names no action of this extension; allowed are lifecycle and custom actions",
            ));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-');
        if to.trim().is_empty() || to.len() > 128 || !to.chars().all(fits) {
            let message =
                format!("{} is no action name; allowed are letters, digits, spaces, \"_\" and \"-\"", quoted(to));
            problems.push(Problem::new(path, message));
        }
    }
    let told = |bound: &Problem, known: &[Problem]| known.iter().any(|problem| problem.path == bound.path);
    let bounds: Vec<Problem> = bounds(spec).into_iter().filter(|bound| !told(bound, &problems)).collect();
    problems.extend(bounds);
    let (Some(entrypoint), Some(interval), true) = (entrypoint, interval, problems.is_empty()) else {
        return Err(Problems::new(problems));
    };
    Ok(Extension {
        object_name: name.to_owned(),
        name: own_name.to_owned(),
        display_name: spec.display_name.clone(),
        version,
        entrypoint,
        enabled: spec.enabled.unwrap_or(true),
        actions,
        details: spec.details.clone().unwrap_or_default(),
        details_from: spec.details_from.iter().flatten().map(|from| from.secret_ref.name.clone()).collect(),
        aliases,
        strict_result: spec.strict_result.unwrap_or(false),
        allow_unknown_parameters: spec.allow_unknown_parameters.unwrap_or(false),
        runtime,
        interval,
        suspend: spec.suspend.unwrap_or(false),
        revision_history_limit: spec.revision_history_limit.unwrap_or(DEFAULT_REVISION_HISTORY_LIMIT),
        notes,
    })
}

/// A Kubernetes object name (RFC 1123 subdomain) that also fits a label value. It becomes a directory's name.
fn is_object_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty() && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 63 && name.split('.').all(is_label)
}

fn compatibility(spec: &OrchestratorExtensionSpec, served: &ContractLevels, problems: &mut Vec<Problem>) {
    const PATH: &str = "spec.compatibility.cloudstack.minVersion";
    let given = spec.compatibility.as_ref().and_then(|compatibility| compatibility.cloudstack.as_ref());
    let Some(needed) = given.and_then(|cloudstack| cloudstack.min_version.as_deref()).filter(|text| !text.is_empty())
    else {
        return;
    };
    let offered = &served.orchestrator;
    match version::contract(needed) {
        None => {
            let message = format!("{} is no version; allowed is one such as \"4.23.0\"", quoted(needed));
            problems.push(Problem::new(PATH, message));
        }
        Some(level) if Some(level) > version::contract(offered) => {
            let needed: String = needed.chars().take(64).collect();
            let message = format!(
                "the extension needs contract level {needed}, this operator serves {offered}: upgrade the operator"
            );
            problems.push(Problem { reason: Reason::Incompatible, ..Problem::new(PATH, message) });
        }
        Some(_) => {}
    }
}

fn entrypoint(name: &str, spec: &OrchestratorExtensionSpec, problems: &mut Vec<Problem>) -> Option<Entrypoint> {
    let given = spec.entrypoint.clone().unwrap_or_default();
    let path = match given.path.as_deref().filter(|path| !path.is_empty()) {
        None => Err("is missing: set it, or put a manifest.yaml that has it at the root of the source".to_owned()),
        Some(path) => relative_path(path),
    };
    let path = path.map_err(|message| problems.push(Problem::new("spec.entrypoint.path", message))).ok();
    let target_dir = match given.target_dir.as_deref().filter(|text| !text.is_empty()) {
        None => Ok(TargetDir::of(name)),
        Some(text) => TargetDir::parse(text),
    };
    let target_dir =
        target_dir.map_err(|message| problems.push(Problem::new("spec.entrypoint.targetDir", message))).ok();
    if let Some(language) = &given.language
        && (language.len() > 64 || language.contains(|c: char| c == '/' || c.is_control()))
    {
        let message = format!("{} is no language; allowed is a name such as \"python\" or \"bash\"", quoted(language));
        problems.push(Problem::new("spec.entrypoint.language", message));
    }
    Some(Entrypoint { path: path?, target_dir: target_dir?, language: given.language.filter(|text| !text.is_empty()) })
}

#[cfg(test)]
#[path = "extension_action_tests.rs"]
mod action_tests;
#[cfg(test)]
#[path = "extension_source_tests.rs"]
mod source_tests;
#[cfg(test)]
#[path = "extension_tests.rs"]
mod tests;
