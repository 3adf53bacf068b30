//! What admission says about an extension, before any manifest is fetched. Pure: no client, clock, disk or network.

use crate::api::{OrchestratorExtension, Reason};
use crate::validate::{self, ContractLevels, Problem, Problems};

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

/// What admission warns of in it. A contract level that is not served is no mistake in the resource: it is let in and Stalled,
/// so that it can still be changed under an operator that serves an older one.
///
/// # Errors
/// Every other problem: what admission refuses.
pub fn admissible(extension: &OrchestratorExtension, contracts: &ContractLevels) -> Result<Vec<Problem>, Problems> {
    let Err(problems) = check(extension, contracts) else { return Ok(vec![]) };
    let (warned, refused): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| problem.reason == Reason::Incompatible);
    Problems::new(refused).or(warned)
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
    fn a_contract_level_that_is_not_served_is_let_in_but_nothing_wrong_beside_it() {
        let spec = |extra: &str| {
            let spec = format!(
                r#"{{"source": {{"url": "https://example.com/x.git"}}, "compatibility": {{"cloudstack": {{"minVersion": "99.0"}}}}{extra}}}"#
            );
            OrchestratorExtension::new("probe", serde_json::from_str(&spec).unwrap())
        };
        let contracts = ContractLevels::default();
        assert_eq!(check(&spec(""), &contracts).unwrap_err().reason(), Reason::Incompatible);
        let warned = admissible(&spec(""), &contracts).unwrap();
        assert!(warned[0].to_string().contains("needs contract level 99.0, this operator serves"), "{warned:?}");
        let refused = admissible(&spec(r#", "interval": "1s""#), &contracts).unwrap_err();
        assert_eq!(refused.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), ["spec.interval"]);
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
