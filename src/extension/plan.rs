//! What to do about an extension. Pure: no client, clock, disk or network.

use super::failure::{Failure, Stage};
use super::trust;
use crate::api::conditions;
use crate::api::extension::{Artifact, OrchestratorExtensionSpec, OrchestratorExtensionStatus};
use crate::api::reason::Reason;
use crate::digest::Digest;
use crate::source::{Request, Resolved};
use crate::store::RelativePath;

/// What to do: resolve the source; what is `known` of it need not be fetched again.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the files come from.
    pub wanted: Wanted,
    /// What an earlier reconcile fetched for the same request.
    pub known: Option<Known>,
}

/// Whether nothing but the volume is looked at.
pub fn is_suspended(spec: &OrchestratorExtensionSpec) -> bool {
    spec.suspend == Some(true)
}

/// Where the files come from, and which of them are the extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to fetch.
    pub request: Request,
    /// Sub-directory that is the extension's root.
    pub root: Option<RelativePath>,
}

/// What an earlier reconcile fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What was asked for: another request makes it worthless.
    pub wanted: Wanted,
    /// What it resolved to.
    pub resolved: Resolved,
    /// The tree that came of it, and what it measures.
    pub tree: Digest,
    /// Bytes of the tree's files.
    pub size: u64,
    /// Number of the tree's files.
    pub files: u64,
}

/// The plan for a source, given what earlier reconciles remember.
pub fn plan(wanted: Wanted, remembered: Option<Known>) -> Plan {
    let known = remembered.filter(|known| known.wanted == wanted);
    Plan { wanted, known }
}

/// The kept pair that `spec.revision` pins, if it pins one. Of pairs with the same
/// tree it is the newest.
pub fn pinned<'a>(
    spec: &OrchestratorExtensionSpec,
    status: Option<&'a OrchestratorExtensionStatus>,
) -> Result<Option<&'a Artifact>, Failure> {
    let Some(revision) = spec.revision.as_deref() else {
        return Ok(None);
    };
    let kept = || status.into_iter().flat_map(|status| status.artifact.iter().chain(&status.history));
    if let Some(pair) = kept().find(|pair| pair.tree_digest == revision) {
        return Ok(Some(pair));
    }
    let kept: Vec<_> = kept().map(|pair| format!("{} ({})", pair.tree_digest, pair.revision)).collect();
    let help = match kept.as_slice() {
        [] => "nothing is kept yet: remove spec.revision, so that the source is fetched".to_owned(),
        kept => format!("choose one of {}, or remove spec.revision for the source's newest", kept.join(", ")),
    };
    let message = format!("spec.revision: {revision} is not kept; {help}");
    Err(Failure::stalled(Stage::Resource, Reason::RevisionNotKept, message))
}

/// What a restarted controller can know from status: the installed pair, if it is of the present generation and Ready.
pub fn remembered_by_status(
    status: &OrchestratorExtensionStatus,
    generation: Option<i64>,
    wanted: &Wanted,
) -> Option<Known> {
    if status.observed_generation != generation || !conditions::is_true(&status.conditions, conditions::READY) {
        return None;
    }
    let artifact = status.artifact.as_ref()?;
    let mut resolved = Resolved::known(&wanted.request, &artifact.revision, trust::verified(artifact));
    // A linked manifest may name another archive by now, without a new generation.
    if !artifact.linked_manifest {
        resolved = resolved.recognised_by(artifact.etag.clone(), artifact.last_modified.clone());
    }
    Some(Known {
        wanted: wanted.clone(),
        resolved,
        tree: artifact.tree_digest.parse().ok()?,
        size: u64::try_from(artifact.size).ok()?,
        files: u64::try_from(artifact.files).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Conditions;
    use crate::api::reason::FailureClass;
    use crate::source::SourceUrl;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn wanted(url: &str) -> Wanted {
        Wanted { request: Request::Git { url: SourceUrl::parse(url).unwrap(), refs: None }, root: None }
    }

    fn status(generation: i64) -> OrchestratorExtensionStatus {
        let mut status = OrchestratorExtensionStatus { observed_generation: Some(generation), ..Default::default() };
        status.artifact = Some(Artifact {
            revision: "main@sha1:0123456789012345678901234567890123456789".into(),
            tree_digest: Digest::of("tree").to_string(),
            manifest_digest: Digest::of("manifest").to_string(),
            size: 7,
            files: 2,
            verified: None,
            linked_manifest: false,
            etag: Some("\"1\"".into()),
            last_modified: None,
            last_update_time: Time(Timestamp::UNIX_EPOCH),
        });
        Conditions::of(&mut status.conditions, Some(generation), Timestamp::UNIX_EPOCH).is_true(
            "Ready",
            Reason::Succeeded,
            "",
        );
        status
    }

    #[test]
    fn what_was_fetched_counts_for_the_same_source_only() {
        let same = wanted("https://example.com/a");
        let known = remembered_by_status(&status(3), Some(3), &same).unwrap();
        let of = |wanted| plan(wanted, Some(known.clone())).known.is_some();
        assert!(of(same.clone()));
        assert!(!of(wanted("https://example.com/b")));
        assert!(!of(Wanted { root: Some(RelativePath::parse("sub").unwrap()), ..same }));
    }

    #[test]
    fn a_pin_chooses_among_what_is_installed_and_kept_the_newest_first() {
        let mut status = status(3);
        let current = status.artifact.clone().unwrap();
        let older = Artifact { tree_digest: Digest::of("older").to_string(), ..current.clone() };
        let oldest = Artifact { manifest_digest: Digest::of("other").to_string(), ..older.clone() };
        status.history = vec![older.clone(), oldest];
        let pin = |revision: &str| {
            let spec = OrchestratorExtensionSpec { revision: Some(revision.into()), ..Default::default() };
            pinned(&spec, Some(&status)).map(Option::<&Artifact>::cloned)
        };
        assert_eq!(pinned(&Default::default(), Some(&status)).unwrap(), None);
        assert_eq!(pin(&current.tree_digest).unwrap(), Some(current.clone()));
        assert_eq!(pin(&older.tree_digest).unwrap(), Some(older.clone()));
    }

    #[test]
    fn status_recognises_an_archive_unless_a_linked_manifest_may_have_named_it() {
        let wanted = wanted("https://example.com/a");
        let mut status = status(3);
        let known = |status: &_| remembered_by_status(status, Some(3), &wanted).unwrap().resolved;
        assert_eq!(known(&status).etag(), Some("\"1\""));
        status.artifact.as_mut().unwrap().linked_manifest = true;
        assert_eq!(known(&status).etag(), None);
    }

    #[test]
    fn only_what_says_so_is_suspended() {
        let spec = |suspend| OrchestratorExtensionSpec { suspend, ..Default::default() };
        assert!(is_suspended(&spec(Some(true))));
        assert!(!is_suspended(&spec(Some(false))) && !is_suspended(&spec(None)));
    }

    #[test]
    fn a_pin_of_something_that_is_not_kept_names_what_is() {
        let spec = OrchestratorExtensionSpec { revision: Some("sha256:0".into()), ..Default::default() };
        let failure = pinned(&spec, Some(&status(3))).unwrap_err();
        assert_eq!((failure.class, failure.reason), (FailureClass::Stalled, Reason::RevisionNotKept));
        assert_eq!(
            failure.message,
            format!(
                "spec.revision: sha256:0 is not kept; choose one of {} (main@sha1:0123456789012345678901234567890123456789), or remove spec.revision for the source's newest",
                Digest::of("tree")
            )
        );
        assert_eq!(
            pinned(&spec, None).unwrap_err().message,
            "spec.revision: sha256:0 is not kept; nothing is kept yet: remove spec.revision, so that the source is fetched"
        );
    }

    #[test]
    fn status_speaks_for_its_own_generation_only() {
        let wanted = wanted("https://example.com/a");
        assert!(remembered_by_status(&status(3), Some(4), &wanted).is_none());
        let mut failed = status(3);
        Conditions::of(&mut failed.conditions, Some(3), Timestamp::UNIX_EPOCH).is_false(
            "Ready",
            Reason::FetchFailed,
            "",
        );
        assert!(remembered_by_status(&failed, Some(3), &wanted).is_none());
    }
}
