//! How an extension's Jobs look: `spec.runtime`. Pure: no client, clock, disk or network.

use crate::api::extension as api;

use super::problem::{Problem, quoted};
use super::types::Runtime;

/// Seconds between TERM and KILL where nothing is said.
const DEFAULT_GRACE_SECONDS: u64 = 10;

/// Reads `spec.runtime`; problems are added to `problems`.
pub(super) fn runtime(given: Option<&api::Runtime>, problems: &mut Vec<Problem>) -> Runtime {
    let Some(given) = given else {
        return Runtime { grace_seconds: DEFAULT_GRACE_SECONDS, ..Runtime::default() };
    };
    if let Some(image) = &given.image
        && (image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        let message = format!(
            "{} is no image reference; allowed is one such as \"docker.io/library/python:3.13\"",
            quoted(image)
        );
        problems.push(Problem::new("spec.runtime.image", message));
    }
    for name in given.env.iter().flatten().map(|(name, _)| name) {
        let path = format!("spec.runtime.env[{}]", quoted(name));
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            let message =
                "is no name of a variable; allowed are letters, digits, \"_\", \"-\" and \".\", not first a digit";
            problems.push(Problem::new(path, message));
        } else if name.starts_with("OUTRIGGER_") {
            problems.push(Problem::new(path, "names that begin with OUTRIGGER_ are the runner's; choose another"));
        }
    }
    for (name, value) in given.env.iter().flatten() {
        if value.contains('\0') {
            let path = format!("spec.runtime.env[{}]", quoted(name));
            problems.push(Problem::new(path, "holds a NUL character, which no variable can"));
        }
    }
    if given.network_policy.is_some() {
        problems.push(Problem::unsupported("spec.runtime.networkPolicy", "networkPolicy"));
    }
    Runtime {
        image: given.image.clone(),
        image_pull_secrets: given.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect(),
        resources: given.resources.clone(),
        env: given.env.clone().unwrap_or_default(),
        node_selector: given.node_selector.clone().unwrap_or_default(),
        tolerations: given.tolerations.clone().unwrap_or_default(),
        grace_seconds: given.termination_grace_period_seconds.map_or(DEFAULT_GRACE_SECONDS, u64::from),
    }
}
