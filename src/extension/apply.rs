//! Does what was planned: resolve, fetch, publish, link. Everything on the volume happens in blocking threads.

use std::time::Duration;

use kube::ResourceExt as _;

use super::context::Context;
use super::dereference::Inputs;
use super::failure::{Failure, Stage};
use super::plan::{Known, Plan, Wanted};
use super::status::{self, Applied, Before, InstalledPair};
use super::trust;
use super::volume::{Amount, on_volume, store_failure};
use crate::api::extension::Artifact;
use crate::api::{OrchestratorExtension, Reason};
use crate::archive::UnpackError;
use crate::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::source::{Pending, Resolution, SourceError};
use crate::store::{Entry, ExtensionName, RelativePath, Staging, Store, StoreError};
use crate::validate::{self, Extension};

/// Most bytes of an effective manifest as canonical JSON. It is kept whole in status, beside the resource: an object of the
/// API may have 1.5 MiB.
const RESOLVED_BYTES: usize = 256 * 1024;

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
    let known = fetched(extension, context, inputs, plan, intact).await?;
    let uid = extension.metadata.uid.as_deref().unwrap_or_default();
    context.remember(uid, |memory| memory.known = Some(known.to_remember()));

    let (linked, in_tree) = (inputs.linked.as_deref(), manifest_of(extension, context, known.tree).await?);
    let merged = manifest::merge(&extension.spec, linked, in_tree.as_ref());
    let canonical = manifest::canonical(&merged.spec);
    check_size(&canonical)?;
    let effective = manifest::effective(&merged.spec, &extension.spec);
    let valid = validate::extension(&extension.name_any(), &effective, &context.contracts)
        .map_err(|problems| Failure::invalid(Stage::Compatible, merged.locate(problems, linked, in_tree.as_ref())))?;
    let current = extension.status.as_ref().and_then(|status| status.resolved.as_ref());
    let manifest_digest = Digest::of(&canonical).to_string();
    let manifests = std::iter::once(canonical).chain(current.map(manifest::canonical)).collect();
    install(extension, context, known.tree, manifests, &valid).await?;
    Ok(Applied::Installed(Box::new(InstalledPair {
        verified: known.resolved.verified.as_ref().map(trust::recorded),
        linked_manifest: inputs.linked.is_some(),
        validators: [known.resolved.etag(), known.resolved.last_modified()].map(|text| text.map(str::to_owned)),
        revision: known.resolved.revision,
        tree_digest: known.tree.to_string(),
        manifest_digest,
        size: i64::try_from(known.size).unwrap_or(i64::MAX),
        files: i64::try_from(known.files).unwrap_or(i64::MAX),
        resolved: merged.spec,
        enabled: valid.enabled,
        disagreements: merged.disagreements,
        pinned: false,
    })))
}

/// Refuses an effective manifest that would not fit into status.
fn check_size(canonical: &str) -> Result<(), Failure> {
    if canonical.len() <= RESOLVED_BYTES {
        return Ok(());
    }
    let message = format!(
        "the effective manifest (the resource, filled from the fetched manifests) has {} bytes as JSON; at most \
         {RESOLVED_BYTES} are allowed: shorten descriptions and details, or offer fewer custom actions",
        canonical.len()
    );
    Err(Failure::stalled(Stage::Compatible, Reason::ManifestInvalid, message))
}

/// Resolves the source, and fetches and publishes it unless that was done before and the tree still verifies. The tree
/// `intact` was read whole just now.
async fn fetched(
    extension: &OrchestratorExtension,
    context: &Context,
    inputs: &Inputs,
    plan: Plan,
    intact: Option<&str>,
) -> Result<Known, Failure> {
    let known = match plan.known {
        Some(known) if intact == Some(known.tree.to_string().as_str()) => Some(known),
        Some(known) => {
            let tree = known.tree;
            match on_volume(context, extension, Amount::Trees, move |store| store.verify(&tree)).await? {
                Ok(()) => Some(known),
                Err(error) if error.is_damage() => None,
                // Nothing is downloaded that could not be written.
                Err(error) => return Err(store_failure(Stage::Fetch, &error)),
            }
        }
        None => None,
    };
    let staging = match known {
        Some(_) if !volume_failed(extension) => None,
        _ => Some(stage(extension, context).await?),
    };
    let previous = known.as_ref().map(|known| &known.resolved);
    let resolution = match context.fetcher.resolve(&plan.wanted.request, inputs.credentials.as_ref(), previous).await {
        Ok(resolution) => resolution,
        Err(error) => {
            discard(extension, context, staging).await;
            return Err(Failure::fetch(&error));
        }
    };
    match (resolution, known) {
        (Resolution::Unchanged(resolved), Some(known)) => {
            discard(extension, context, staging).await;
            Ok(Known { resolved, ..known })
        }
        (Resolution::Changed(pending), _) => {
            let staging = match staging {
                Some(staging) => staging,
                None => stage(extension, context).await?,
            };
            published(extension, context, inputs, plan.wanted, pending, staging).await
        }
        (Resolution::Unchanged(resolved), None) => {
            let message = format!("revision {} was called unchanged, although none was known", resolved.revision);
            Err(Failure::transient(Stage::Fetch, Reason::FetchFailed, message))
        }
    }
}

/// Whether the volume did not take what was fetched the last time.
fn volume_failed(extension: &OrchestratorExtension) -> bool {
    let conditions = extension.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.reason == Reason::StoreFailed.as_str())
}

/// A directory to fetch into. Where nothing is known, or the volume failed, it is made before the source is asked: resolving
/// may download an archive, and nothing is downloaded that could not be written.
async fn stage(extension: &OrchestratorExtension, context: &Context) -> Result<Staging, Failure> {
    let staging = on_volume(context, extension, Amount::Little, Store::stage).await?;
    staging.map_err(|error| store_failure(Stage::Fetch, &error))
}

/// Removes what was staged and is not needed, which would lie there until the next work begins. That it is not needed
/// matters more than that it cannot be removed.
async fn discard(extension: &OrchestratorExtension, context: &Context, staging: impl Into<Option<Staging>>) {
    if let Some(staging) = staging.into() {
        let _ = on_volume(context, extension, Amount::Trees, move |_| staging.remove()).await;
    }
}

/// Fetches what was resolved, and publishes it.
async fn published(
    extension: &OrchestratorExtension,
    context: &Context,
    inputs: &Inputs,
    wanted: Wanted,
    pending: Pending,
    staging: Staging,
) -> Result<Known, Failure> {
    let limit = context.volume.fetch_limit();
    let fetching = context.fetcher.fetch(pending, inputs.credentials.as_ref(), staging.path(), context.limits);
    let fetched = match tokio::time::timeout(limit, fetching).await {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(error)) => {
            discard(extension, context, staging).await;
            return Err(fetch_failure(error));
        }
        // Downloading alone would have ended before. Its thread hangs, so that what is staged is only left.
        Err(_) => return Err(unpacking_hangs(limit)),
    };
    context.metrics.fetched(fetched.bytes_downloaded);
    let root = wanted.root.clone();
    let publish = move |store: &Store| store.publish(staging, root.as_ref());
    let tree = on_volume(context, extension, Amount::Trees, publish).await?;
    let tree = tree.map_err(|error| store_failure(Stage::Fetch, &error))?;
    Ok(Known { wanted, resolved: fetched.resolved, tree: tree.digest, size: tree.bytes, files: tree.files })
}

/// Puts the tree of a kept pair back that is no longer whole, if the source still is what it was made of. Otherwise says,
/// in words, why not.
pub async fn refetch(
    extension: &OrchestratorExtension,
    context: &Context,
    inputs: &Inputs,
    wanted: Wanted,
    pair: &Artifact,
) -> Result<Result<(), String>, Failure> {
    let resolution = context.fetcher.resolve(&wanted.request, inputs.credentials.as_ref(), None).await;
    let pending = match resolution.map_err(|error| Failure::fetch(&error))? {
        Resolution::Changed(pending) => pending,
        Resolution::Unchanged(resolved) => return Ok(Err(format!("the source is {} now", resolved.revision))),
    };
    let revision = status::bounded_revision(&pending.resolved().revision);
    if revision != pair.revision {
        return Ok(Err(format!("the source is at {revision} now")));
    }
    let staging = stage(extension, context).await?;
    let known = published(extension, context, inputs, wanted, pending, staging).await?;
    Ok(match known.tree.to_string() == pair.tree_digest {
        true => Ok(()),
        false => Err(format!("the source gives tree {} for that revision now", known.tree)),
    })
}

fn unpacking_hangs(limit: Duration) -> Failure {
    let message = format!(
        "unpacking onto the store's volume has not ended within {} s of the fetch; check its server and the mount",
        limit.as_secs()
    );
    Failure::transient(Stage::Fetch, Reason::StoreFailed, message)
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

/// The manifest at the root of a tree, if it has one.
async fn manifest_of(
    extension: &OrchestratorExtension,
    context: &Context,
    tree: Digest,
) -> Result<Option<Manifest>, Failure> {
    for file in manifest::FILE_NAMES {
        let Ok(path) = RelativePath::parse(file) else { continue };
        let read = move |store: &Store| store.read_small(&tree, &path, manifest::MANIFEST_BYTES as u64);
        let read = on_volume(context, extension, Amount::Little, read).await?;
        if let Some(bytes) = read.map_err(|error| manifest_failure(file, &error))? {
            return manifest::parse(&bytes, file).map(Some).map_err(|problems| {
                Failure::stalled(Stage::Compatible, Reason::ManifestInvalid, problems.in_one_line())
            });
        }
    }
    Ok(None)
}

/// A manifest that is too large to be read is the source's fault and not the volume's.
fn manifest_failure(file: &str, error: &StoreError) -> Failure {
    match error {
        StoreError::FileTooLarge { .. } => {
            Failure::stalled(Stage::Compatible, Reason::ManifestInvalid, manifest::too_large(file).to_string())
        }
        error => store_failure(Stage::Compatible, error),
    }
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
    // Before it is done: also of a link that could not be written to disk it is known who led it there.
    context.remember(extension.metadata.uid.as_deref().unwrap_or_default(), |memory| memory.led = Some(tree));
    on_volume(context, extension, Amount::Trees, move |store| {
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

    #[test]
    fn a_manifest_that_is_too_large_is_the_sources_fault_and_named() {
        let path = "manifest.yaml".to_owned();
        let error = StoreError::FileTooLarge { digest: Digest::of("x"), path, bytes: 2 << 20, limit: 1 << 20 };
        let failure = manifest_failure("manifest.yaml", &error);
        assert_eq!((failure.class, failure.reason), (FailureClass::Stalled, Reason::ManifestInvalid));
        let text = "manifest.yaml:1:1: the manifest is larger than 1048576 bytes (1 MiB), the most that is allowed";
        assert_eq!(failure.message, text);
        let gone = StoreError::NoSuchTree { digest: Digest::of("x") };
        assert_eq!(manifest_failure("manifest.yaml", &gone).reason, Reason::StoreFailed);
    }

    #[test]
    fn an_effective_manifest_that_would_not_fit_into_status_is_refused_with_its_size() {
        assert_eq!(check_size(&"x".repeat(RESOLVED_BYTES)), Ok(()));
        let failure = check_size(&"x".repeat(RESOLVED_BYTES + 1)).unwrap_err();
        assert_eq!((failure.class, failure.reason), (FailureClass::Stalled, Reason::ManifestInvalid));
        assert_eq!(
            failure.message,
            "the effective manifest (the resource, filled from the fetched manifests) has 262145 bytes as JSON; at most 262144 \
             are allowed: shorten descriptions and details, or offer fewer custom actions"
        );
    }
}
