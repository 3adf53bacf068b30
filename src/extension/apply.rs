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
use crate::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::signature::PublicKeys;
use crate::source::oci::Tag;
use crate::source::{ConfigMapFiles, GitRef, OciRef, OciUrl, Request, Resolution, SourceUrl, Verify};
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
        Ok(Err(error)) => Before::Broken(error.to_string()),
        Err(failure) => Before::Broken(failure.message),
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
) -> Result<Applied, Failure> {
    let known = fetched(context, inputs, plan.wanted, plan.known).await?;
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
    install(context, extension.name_any(), known.tree, manifests, &valid).await?;
    Ok(Applied::Installed(Box::new(InstalledPair {
        verified: known.resolved.verified.as_ref().map(trust::recorded),
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

/// Resolves the source, and fetches and publishes it unless that was done before and the tree still verifies.
async fn fetched(context: &Context, inputs: &Inputs, wanted: Wanted, known: Option<Known>) -> Result<Known, Failure> {
    let known = match known {
        Some(known) => {
            let tree = known.tree;
            on_volume(context, move |store| store.verify(&tree).is_ok()).await?.then_some(known)
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
    let staging = on_volume(context, Store::stage).await?.map_err(|error| store_failure(&error))?;
    let fetched = context.fetcher.fetch(pending, credentials, staging.path(), context.limits).await;
    let fetched = fetched.map_err(|error| Failure::fetch(&error))?;
    context.metrics.fetched(fetched.bytes_downloaded);
    let root = wanted.root.clone();
    let tree = on_volume(context, move |store| store.publish(staging, root.as_ref())).await?;
    let tree = tree.map_err(|error| store_failure(&error))?;
    Ok(Known { wanted, resolved: fetched.resolved, tree: tree.digest, size: tree.bytes, files: tree.files })
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
        if let Some(bytes) = read.map_err(|error| store_failure(&error))? {
            return manifest::parse(&bytes, file).map(Some).map_err(|problems| {
                Failure::stalled(Stage::Compatible, Reason::ManifestInvalid, problems.in_one_line())
            });
        }
    }
    Ok(None)
}

/// Checks that the entrypoint is in the tree, keeps the manifests that rollback needs, and swaps the link: in this
/// order, so that a pair that status can name is whole on the volume.
pub async fn install(
    context: &Context,
    name: String,
    tree: Digest,
    manifests: Vec<String>,
    extension: &Extension,
) -> Result<(), Failure> {
    let entrypoint = extension.entrypoint.path.clone();
    on_volume(context, move |store| {
        let name = ExtensionName::parse(&name)
            .map_err(|error| Failure::stalled(Stage::Resource, Reason::ValidationFailed, error.to_string()))?;
        if store.entrypoint_digest(&tree, &entrypoint).map_err(|error| store_failure(&error))?.is_none() {
            return Err(entrypoint_missing(store, &tree, &entrypoint));
        }
        for manifest in manifests {
            store.keep_manifest(manifest.as_bytes()).map_err(|error| store_failure(&error))?;
        }
        store.link(&name, &tree).map_err(|error| store_failure(&error))
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
pub fn store_failure(error: &StoreError) -> Failure {
    if error.is_transient() {
        Failure::transient(Stage::Install, Reason::StoreFailed, error.to_string())
    } else {
        Failure::stalled(Stage::Install, Reason::StoreFailed, error.to_string())
    }
}

/// Runs blocking work on the volume in a thread of its own.
pub async fn on_volume<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Failure> {
    let store: Arc<Store> = context.store.clone();
    tokio::task::spawn_blocking(move || work(&store)).await.map_err(|error| {
        Failure::transient(Stage::Install, Reason::StoreFailed, format!("work on the volume was interrupted: {error}"))
    })
}
