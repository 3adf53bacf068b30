//! Does what was planned: resolve, fetch, publish, link. Everything on the volume happens in blocking threads.

use std::sync::Arc;

use kube::ResourceExt as _;

use super::context::{Context, Memory};
use super::dereference::Inputs;
use super::failure::{Failure, Stage};
use super::plan::{self, Known, Plan, Wanted};
use super::status::{Applied, Before, InstalledPair};
use super::trust;
use crate::api::{OrchestratorExtension, Reason};
use crate::archive::UnpackError;
use crate::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::signature::PublicKeys;
use crate::source::oci::Tag;
use crate::source::{ConfigMapFiles, GitRef, OciRef, OciUrl, Request, Resolution, SourceError, SourceUrl, Verify};
use crate::store::{Entry, ExtensionName, RelativePath, Store, StoreError};
use crate::validate::{self, Extension, SourceKind};

/// Looks whether what status calls installed is on the volume, unchanged.
pub async fn look(extension: &OrchestratorExtension, context: &Context) -> Before {
    let Some(artifact) = extension.status.as_ref().and_then(|status| status.artifact.as_ref()) else {
        return Before::Nothing;
    };
    let Ok(tree) = artifact.tree_digest.parse::<Digest>() else {
        return Before::Broken(format!("status names a tree {:?} that is no digest", artifact.tree_digest));
    };
    match on_volume(context, move |store| store.verify(&tree)).await {
        Ok(Ok(())) => Before::Intact,
        Ok(Err(error)) if error.is_damage() => Before::Broken(error.to_string()),
        Ok(Err(error)) => Before::Unreadable(error.to_string()),
        Err(failure) => Before::Unreadable(failure.message),
    }
}

/// What earlier reconciles know of the source, if the tree that came of it is still good.
pub fn remembered(
    extension: &OrchestratorExtension,
    context: &Context,
    wanted: &Wanted,
    before: &Before,
) -> Option<Known> {
    let memory = context.memory(extension.metadata.uid.as_deref().unwrap_or_default());
    if memory.known.is_some() {
        return memory.known;
    }
    let status = extension.status.as_ref()?;
    let known = plan::remembered_by_status(status, extension.metadata.generation, wanted)?;
    (*before == Before::Intact).then_some(known)
}

/// Carries out a plan.
pub async fn apply(
    extension: &OrchestratorExtension,
    context: &Context,
    inputs: &Inputs,
    plan: Plan,
    before: &Before,
) -> Result<Applied, Failure> {
    let installed = extension.status.as_ref().and_then(|status| status.artifact.as_ref());
    let intact = installed.filter(|_| *before == Before::Intact).map(|artifact| artifact.tree_digest.as_str());
    let known = fetched(context, inputs, plan.wanted, plan.known, intact).await?;
    let uid = extension.metadata.uid.as_deref().unwrap_or_default();
    context.remember(uid, Memory { known: Some(known.clone()), ..context.memory(uid) });

    let in_tree = manifest_of(context, known.tree).await?;
    let merged = manifest::merge(&extension.spec, inputs.linked.as_ref(), in_tree.as_ref());
    let effective = manifest::effective(&merged.spec, &extension.spec);
    let valid = validate::extension(&extension.name_any(), &effective, &context.contracts).map_err(|problems| {
        Failure::invalid(in_tree.as_ref().map_or(problems.clone(), |manifest| manifest.locate(problems)))
    })?;
    let current = extension.status.as_ref().and_then(|status| status.resolved.as_ref());
    let manifests = [Some(&merged.spec), current].into_iter().flatten().map(manifest::canonical).collect();
    install(extension, context, known.tree, manifests, &valid).await?;
    Ok(Applied::Installed(Box::new(InstalledPair {
        verified: known.resolved.verified.as_ref().map(trust::recorded),
        linked_manifest: inputs.linked.is_some(),
        validators: [known.resolved.etag(), known.resolved.last_modified()].map(|text| text.map(str::to_owned)),
        revision: known.resolved.revision,
        tree_digest: known.tree.to_string(),
        manifest_digest: manifest::digest(&merged.spec).to_string(),
        size: i64::try_from(known.size).unwrap_or(i64::MAX),
        files: i64::try_from(known.files).unwrap_or(i64::MAX),
        resolved: merged.spec,
        enabled: valid.enabled,
        disagreements: merged.disagreements,
        pinned: false,
    })))
}

/// Resolves the source, and fetches and publishes it unless that was done before and the tree still verifies. The tree
/// `intact` was read whole just now.
async fn fetched(
    context: &Context,
    inputs: &Inputs,
    wanted: Wanted,
    known: Option<Known>,
    intact: Option<&str>,
) -> Result<Known, Failure> {
    let known = match known {
        Some(known) if intact == Some(known.tree.to_string().as_str()) => Some(known),
        Some(known) => {
            let tree = known.tree;
            match on_volume(context, move |store| store.verify(&tree)).await? {
                Ok(()) => Some(known),
                Err(error) if error.is_damage() => None,
                // Nothing is downloaded that could not be written.
                Err(error) => return Err(store_failure(Stage::Fetch, &error)),
            }
        }
        None => None,
    };
    let credentials = inputs.credentials.as_ref();
    let previous = known.as_ref().map(|known| &known.resolved);
    let resolution = context.fetcher.resolve(&wanted.request, credentials, previous).await;
    let pending = match (resolution.map_err(|error| Failure::fetch(&error))?, known) {
        (Resolution::Unchanged(resolved), Some(known)) => return Ok(Known { resolved, ..known }),
        (Resolution::Changed(pending), _) => pending,
        (Resolution::Unchanged(resolved), None) => {
            let message = format!("revision {} was called unchanged, although none was known", resolved.revision);
            return Err(Failure::transient(Stage::Fetch, Reason::FetchFailed, message));
        }
    };
    let staging = on_volume(context, Store::stage).await?.map_err(|error| store_failure(Stage::Fetch, &error))?;
    let fetched = context.fetcher.fetch(pending, credentials, staging.path(), context.limits).await;
    let fetched = fetched.map_err(fetch_failure)?;
    context.metrics.fetched(fetched.bytes_downloaded);
    let root = wanted.root.clone();
    let tree = on_volume(context, move |store| store.publish(staging, root.as_ref())).await?;
    let tree = tree.map_err(|error| store_failure(Stage::Fetch, &error))?;
    Ok(Known { wanted, resolved: fetched.resolved, tree: tree.digest, size: tree.bytes, files: tree.files })
}

/// Where the files could not be written, the volume is to blame and not the source.
fn fetch_failure(error: SourceError) -> Failure {
    match error {
        SourceError::Unpack { source: UnpackError::Write { entry, source }, .. } => {
            store_failure(Stage::Fetch, &StoreError::io("unpack onto the volume: write", entry.to_string(), source))
        }
        error => Failure::fetch(&error),
    }
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

/// The manifest at the root of a tree, if it has one.
async fn manifest_of(context: &Context, tree: Digest) -> Result<Option<Manifest>, Failure> {
    for file in manifest::FILE_NAMES {
        let Ok(path) = RelativePath::parse(file) else { continue };
        let read =
            on_volume(context, move |store| store.read_small(&tree, &path, manifest::MANIFEST_BYTES as u64)).await?;
        if let Some(bytes) = read.map_err(|error| store_failure(Stage::Compatible, &error))? {
            return manifest::parse(&bytes, file).map(Some).map_err(|problems| {
                Failure::stalled(Stage::Compatible, Reason::ManifestInvalid, problems.in_one_line())
            });
        }
    }
    Ok(None)
}

/// Checks that the entrypoint is in the tree, keeps the manifests that rollback needs, and swaps the link: in this
/// order, so that a pair that status can name is whole on the volume. What is all there already is only read.
pub async fn install(
    extension: &OrchestratorExtension,
    context: &Context,
    tree: Digest,
    mut manifests: Vec<String>,
    valid: &Extension,
) -> Result<(), Failure> {
    let (name, entrypoint) = (extension.name_any(), valid.entrypoint.path.clone());
    // the one that status names as installed is not collected, whatever its age
    let named = extension.status.as_ref().and_then(|status| status.artifact.as_ref());
    let named = named.and_then(|artifact| artifact.manifest_digest.parse::<Digest>().ok());
    manifests.dedup();
    on_volume(context, move |store| {
        let name = ExtensionName::parse(&name)
            .map_err(|error| Failure::stalled(Stage::Resource, Reason::ValidationFailed, error.to_string()))?;
        let failed = |error| store_failure(Stage::Install, &error);
        if store.entrypoint_digest(&tree, &entrypoint).map_err(failed)?.is_none() {
            return Err(entrypoint_missing(store, &tree, &entrypoint));
        }
        for manifest in manifests {
            let digest = Digest::of(&manifest);
            if named == Some(digest) && store.manifest(&digest).map_err(failed)?.is_some() {
                continue;
            }
            store.keep_manifest(manifest.as_bytes()).map_err(failed)?;
        }
        store.link(&name, &tree).map_err(failed)
    })
    .await?
}

/// Names what is there instead: most often the path is a little wrong.
fn entrypoint_missing(store: &Store, tree: &Digest, entrypoint: &RelativePath) -> Failure {
    let listing = store.listing(tree).unwrap_or_default();
    let files = listing.iter().filter(|(_, entry)| matches!(entry, Entry::File { .. })).map(|(path, _)| path);
    let mut shown: Vec<_> = files.take(21).collect();
    let more = if shown.len() > 20 { ", …" } else { "" };
    shown.truncate(20);
    let message = format!(
        "spec.entrypoint.path: {} is no file of the fetched tree, which has: {}{more}",
        entrypoint.as_str(),
        shown.join(", ")
    );
    Failure::stalled(Stage::Compatible, Reason::EntrypointMissing, message)
}

/// What the volume does may pass by itself; what the source holds does not.
pub fn store_failure(stage: Stage, error: &StoreError) -> Failure {
    if error.is_transient() {
        Failure::transient(stage, Reason::StoreFailed, error.to_string())
    } else {
        Failure::stalled(stage, Reason::StoreFailed, error.to_string())
    }
}

/// Runs blocking work on the volume in a thread of its own; opens the store first if that has not been possible yet.
pub async fn on_volume<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Failure> {
    let store = context.store.clone();
    let worked = tokio::task::spawn_blocking(move || store.get().map(work)).await;
    let worked = worked.map_err(|error| {
        Failure::transient(Stage::Fetch, Reason::StoreFailed, format!("work on the volume was interrupted: {error}"))
    });
    worked?.map_err(|error| store_failure(Stage::Fetch, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reason::FailureClass;
    use crate::archive::EntryName;

    #[test]
    fn a_source_that_finds_no_room_is_the_volumes_fault_and_tried_again() {
        let write = |errno: rustix::io::Errno| {
            let source = UnpackError::Write { entry: EntryName::new("lib/big"), source: errno.into() };
            fetch_failure(SourceError::Unpack { url: "https://example.com/x.tar".into(), source })
        };
        let failure = write(rustix::io::Errno::NOSPC);
        let (class, reason) = (FailureClass::Transient, Reason::StoreFailed);
        assert_eq!((failure.stage, failure.class, failure.reason), (Stage::Fetch, class, reason));
        assert_eq!(
            failure.message,
            "unpack onto the volume: write \"lib/big\": no space or no inode is left on the volume; enlarge it or remove \
             unused extensions"
        );
        assert!(write(rustix::io::Errno::ROFS).message.contains("the volume is read-only"));
        let refused = SourceError::Unpack { url: "https://example.com/x.tar".into(), source: UnpackError::Empty };
        assert_eq!(fetch_failure(refused).reason, Reason::UnpackRefused);
    }
}
