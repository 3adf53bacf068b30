//! What admission says about an extension, before any manifest is fetched. Pure: no client, clock, disk or network.

use crate::api::OrchestratorExtension;
use crate::validate::{self, ContractLevels, Problems};

/// What is wrong with a resource whatever the fetched manifests will say.
///
/// # Errors
/// Every problem.
pub fn check(extension: &OrchestratorExtension, contracts: &ContractLevels) -> Result<(), Problems> {
    let name = extension.metadata.name.as_deref().unwrap_or_default();
    let mut spec = extension.spec.clone();
    // what a manifest may still give counts as given
    spec.entrypoint.get_or_insert_default().path.get_or_insert_with(|| "manifest.yaml".to_owned());
    if spec.custom_actions.is_none() {
        spec.action_aliases = None;
    }
    validate::extension(name, &spec, contracts).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(spec: serde_json::Value) -> Result<(), Problems> {
        let extension = OrchestratorExtension::new("probe", serde_json::from_value(spec).unwrap());
        check(&extension, &ContractLevels::default())
    }

    #[test]
    fn what_a_manifest_may_still_say_is_not_missed() {
        let source = serde_json::json!({"url": "https://example.com/probe.git"});
        assert_eq!(checked(serde_json::json!({"source": source, "actionAliases": {"Backup": "backup"}})), Ok(()));
        assert_eq!(checked(serde_json::json!({"manifestURL": "https://example.com/manifest.yaml"})), Ok(()));
    }

    #[test]
    fn every_problem_of_the_resource_is_named_at_once() {
        let problems = checked(serde_json::json!({
            "source": {"url": "https://user:secret@example.com/probe.git"},
            "interval": "1s",
            "customActions": [{"name": "a", "parameters": [{"name": "p", "type": "DATE", "valueoptions": "x"}]}],
        }))
        .unwrap_err();
        for text in ["spec.source.url", "spec.interval", "spec.customActions[0]"] {
            assert!(problems.iter().any(|problem| problem.path.starts_with(text)), "{text}: {problems}");
        }
        assert!(!problems.to_string().contains("secret@"));
    }
}
