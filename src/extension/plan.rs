//! What to do about an extension. Pure: no client, clock, disk or network.

use std::sync::Arc;

use super::check::check;
use super::dereference::Inputs;
use super::failure::{Failure, Stage};
use super::status::Before;
use super::trust;
use crate::api::extension::{Artifact, OrchestratorExtensionSpec, OrchestratorExtensionStatus};
use crate::api::reason::Reason;
use crate::api::{OrchestratorExtension, conditions};
use crate::digest::Digest;
use crate::signature::PublicKeys;
use crate::source::oci::Tag;
use crate::source::{ConfigMapFiles, GitRef, OciRef, OciUrl, Request, Resolved, SourceUrl, Verify};
use crate::store::RelativePath;
use crate::validate::{self, ContractLevels, SourceKind};

/// What the resource, valid as far as it goes by itself, asks for.
#[derive(Debug, PartialEq)]
pub enum Intent<'a> {
    /// To leave everything as it is: `suspend` is set.
    Leave,
    /// To run this kept pair, which `revision` pins.
    Restore(&'a Artifact),
    /// To follow its source.
    Follow,
}

/// What `extension` asks for, before anything that it refers to is read.
pub fn intent<'a>(
    extension: &'a OrchestratorExtension,
    contracts: &ContractLevels,
    require_verification: bool,
) -> Result<Intent<'a>, Failure> {
    if is_suspended(&extension.spec) {
        return Ok(Intent::Leave);
    }
    check(extension, contracts).map_err(|problems| Failure::invalid(Stage::Resource, problems))?;
    trust::required(&extension.spec, require_verification)?;
    let pinned = pinned(&extension.spec, extension.status.as_ref())?;
    Ok(pinned.map_or(Intent::Follow, Intent::Restore))
}

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

impl Known {
    /// As it is remembered: without the bytes that a request may bring.
    pub fn to_remember(&self) -> Self {
        let request = self.wanted.request.without_content();
        Self { wanted: Wanted { request, ..self.wanted.clone() }, ..self.clone() }
    }
}

/// The plan for a source, given what is remembered, and how what status names was found on the volume.
pub fn plan(
    extension: &OrchestratorExtension,
    inputs: &Inputs,
    remembered: Option<Known>,
    before: &Before,
) -> Result<Plan, Failure> {
    let wanted = wanted(&inputs.source, inputs.config_map.as_ref(), inputs.keys.clone())?;
    let by_status = || {
        let status = extension.status.as_ref().filter(|_| *before == Before::Intact)?;
        remembered_by_status(status, extension.metadata.generation, &wanted)
    };
    let known = remembered.or_else(by_status).filter(|known| known.wanted == wanted);
    Ok(Plan { wanted, known })
}

/// The request for a validated source, with the ConfigMap and the keys that it names.
pub fn wanted(
    source: &validate::Source,
    config_map: Option<&ConfigMapFiles>,
    keys: Option<PublicKeys>,
) -> Result<Wanted, Failure> {
    let invalid = |field: &str, fault: &dyn std::fmt::Display| {
        Failure::stalled(Stage::Resource, Reason::ValidationFailed, format!("spec.source.{field}: {fault}"))
    };
    let url = || SourceUrl::parse(&source.url).map_err(|fault| invalid("url", &fault));
    let signature_url = source.verify.as_ref().and_then(|verify| verify.signature_url.clone());
    let verify = keys.map(|keys| Verify { keys: Arc::new(keys), signature_url });
    let request = match source.kind {
        SourceKind::Archive => Request::Archive { url: url()?, digest: source.digest, verify },
        SourceKind::Git => {
            let refs = source.refs.as_deref().map(str::parse::<GitRef>).transpose();
            Request::Git { url: url()?, refs: refs.map_err(|fault| invalid("refs", &fault))? }
        }
        SourceKind::Oci => {
            let repository = OciUrl::parse(&source.url, source.insecure).map_err(|fault| invalid("url", &fault))?;
            let refs = match (source.digest, source.refs.as_deref()) {
                (Some(digest), _) => OciRef::Digest(digest),
                (None, Some(refs)) => refs.parse().map_err(|fault| invalid("refs", &fault))?,
                (None, None) => OciRef::Tag(Tag::latest()),
            };
            Request::Oci { repository, refs, verify }
        }
        SourceKind::ConfigMap => {
            let files = config_map.ok_or_else(|| invalid("configMapRef", &"names no ConfigMap that was read"))?;
            Request::ConfigMap(files.clone())
        }
    };
    Ok(Wanted { request, root: source.path.clone() })
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
    fn what_was_fetched_counts_for_the_same_source_and_what_status_says_for_an_intact_tree_only() {
        let planned = |source: serde_json::Value, remembered: Option<Known>, before| {
            let source = validate::source(&serde_json::from_value(source).unwrap()).unwrap();
            let inputs = Inputs { credentials: None, config_map: None, linked: None, source, keys: None };
            let mut extension = OrchestratorExtension::new("probe", Default::default());
            (extension.metadata.generation, extension.status) = (Some(3), Some(status(3)));
            plan(&extension, &inputs, remembered, &before).unwrap()
        };
        let a = serde_json::json!({"url": "https://example.com/a"});
        let known = planned(a.clone(), None, Before::Intact).known;
        assert!(known.is_some());
        assert!(planned(a.clone(), None, Before::Broken("x".into())).known.is_none());
        let of = |source| planned(source, known.clone(), Before::Broken("x".into())).known.is_some();
        assert!(of(a));
        assert!(!of(serde_json::json!({"url": "https://example.com/b"})));
        assert!(!of(serde_json::json!({"url": "https://example.com/a", "path": "sub"})));
    }

    #[test]
    fn a_resource_asks_to_leave_to_restore_or_to_follow() {
        let mut extension = OrchestratorExtension::new("probe", Default::default());
        extension.status = Some(status(3));
        let mut asked = |spec: serde_json::Value| {
            extension.spec = serde_json::from_value(spec).unwrap();
            match intent(&extension, &ContractLevels::default(), false) {
                Ok(Intent::Leave) => "leave".to_owned(),
                Ok(Intent::Restore(pair)) => pair.tree_digest.clone(),
                Ok(Intent::Follow) => "follow".to_owned(),
                Err(failure) => format!("{:?} {}", failure.stage, failure.reason),
            }
        };
        let source = serde_json::json!({"url": "https://example.com/a"});
        let tree = Digest::of("tree");
        let newer = serde_json::json!({"cloudstack": {"minVersion": "99.0"}});
        assert_eq!(asked(serde_json::json!({"source": source, "suspend": true, "interval": "1s"})), "leave");
        assert_eq!(asked(serde_json::json!({"source": source, "revision": tree})), tree.to_string());
        assert_eq!(asked(serde_json::json!({"source": source})), "follow");
        assert_eq!(asked(serde_json::json!({"source": source, "interval": "1s"})), "Resource ValidationFailed");
        // nothing was fetched yet when this is found
        assert_eq!(asked(serde_json::json!({"source": source, "compatibility": newer})), "Contract Incompatible");
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
