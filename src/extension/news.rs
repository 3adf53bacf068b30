//! What one reconcile found that is worth an event. Pure: no client, clock, disk or network.

use super::status::{Applied, Observation};
use crate::api::conditions;
use crate::api::extension::OrchestratorExtensionStatus;
use crate::api::reason::Reason;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Whether somebody should look at it.
    pub is_warning: bool,
    /// In one word.
    pub reason: Reason,
    /// For people.
    pub note: String,
}

/// A new revision, the end of a failure, or a failure that `old`, the status that the reconcile began with, does not tell
/// of: not every check.
pub fn news(
    old: &OrchestratorExtensionStatus,
    new: &OrchestratorExtensionStatus,
    observation: &Observation,
) -> Option<News> {
    let ready = conditions::find(&old.conditions, conditions::READY).filter(|ready| ready.status == "False");
    let failed_with = ready.map(|ready| ready.reason.as_str()).filter(|reason| *reason != Reason::Suspended.as_str());
    let pair = |status: &OrchestratorExtensionStatus| {
        let artifact = status.artifact.as_ref();
        artifact.map(|artifact| (artifact.tree_digest.clone(), artifact.manifest_digest.clone()))
    };
    match &observation.result {
        Ok(Applied::Installed(installed)) => {
            let (reason, what) = match () {
                () if pair(old) != pair(new) => (Reason::Installed, "installed"),
                () if failed_with.is_some() => (Reason::Succeeded, "recovered at"),
                () => return None,
            };
            Some(News { is_warning: false, reason, note: format!("{what} revision {}", installed.revision) })
        }
        Ok(Applied::Suspended) => None,
        Err(failure) if failed_with == Some(failure.reason.as_str()) => None,
        Err(failure) => Some(News { is_warning: true, reason: failure.reason, note: failure.message.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::super::failure::{Failure, Stage};
    use super::super::status::{Before, InstalledPair, Object, next, working};
    use super::*;

    const OBJECT: Object<'_> = Object { generation: Some(1), requested_at: None, history_limit: None };

    fn installed(tree: &str) -> Observation {
        let pair = InstalledPair {
            revision: format!("main@{tree}"),
            tree_digest: tree.into(),
            manifest_digest: "m".into(),
            size: 1,
            files: 1,
            resolved: Default::default(),
            enabled: true,
            disagreements: vec![],
            verified: None,
            linked_manifest: false,
            validators: [None, None],
            pinned: false,
        };
        Observation { before: Before::Intact, result: Ok(Applied::Installed(Box::new(pair))) }
    }

    fn failed(reason: Reason) -> Observation {
        let result = Err(Failure::transient(Stage::Fetch, reason, "it failed"));
        Observation { before: Before::Intact, result }
    }

    /// What is told of each of these looks, one after the other.
    fn told(looks: &[Observation]) -> Vec<String> {
        let mut status = OrchestratorExtensionStatus::default();
        let mut told = vec![];
        for observation in looks {
            // as where each takes long
            let said = working(&status, OBJECT, &Before::Intact, Timestamp::UNIX_EPOCH);
            let new = next(&said, OBJECT, observation, Timestamp::UNIX_EPOCH);
            told.extend(news(&status, &new, observation).map(|news| format!("{}: {}", news.reason, news.note)));
            status = new;
        }
        told
    }

    #[test]
    fn a_revision_and_a_failure_are_told_once_and_a_recovery_after_a_failure_alone() {
        let looks =
            [installed("a"), installed("a"), failed(Reason::TimedOut), failed(Reason::TimedOut), installed("a")];
        assert_eq!(
            told(&looks),
            ["Installed: installed revision main@a", "TimedOut: it failed", "Succeeded: recovered at revision main@a"]
        );
        let suspended = Observation { before: Before::Intact, result: Ok(Applied::Suspended) };
        let looks = [installed("a"), suspended, installed("a"), installed("b")];
        assert_eq!(told(&looks), ["Installed: installed revision main@a", "Installed: installed revision main@b"]);
    }

    #[test]
    fn another_failure_is_news() {
        let looks = [failed(Reason::TimedOut), failed(Reason::NotFound)];
        assert_eq!(told(&looks), ["TimedOut: it failed", "NotFound: it failed"]);
    }
}
