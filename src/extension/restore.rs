//! Rollback: a kept pair of tree and manifest is installed again, from the volume alone as long as it is whole there.

use kube::ResourceExt as _;

use super::apply::{install, refetch};
use super::context::Context;
use super::failure::{Failure, Stage};
use super::status::{Applied, Before, InstalledPair};
use super::volume::{Amount, on_volume, store_failure};
use super::{dereference, plan, trust};
use crate::api::extension::{Artifact, OrchestratorExtensionSpec};
use crate::api::{OrchestratorExtension, Reason};
use crate::digest::Digest;
use crate::store::StoreError;
use crate::{manifest, validate};

/// Installs the kept `pair`, which `spec.revision` pins. What is installed was found as `before` says just now.
pub async fn restore(
    extension: &OrchestratorExtension,
    context: &Context,
    pair: &Artifact,
    before: &Before,
) -> Result<Applied, Failure> {
    let source = extension.spec.source.as_ref().map(validate::source).transpose();
    let source = source.map_err(|problems| Failure::invalid(Stage::Resource, problems))?;
    let keys = dereference::keys(source.as_ref(), context).await?;
    trust::restorable(pair, keys.as_ref(), context.require_verification)?;

    let tree: Digest = pair.tree_digest.parse().map_err(|error| not_whole(pair, &error))?;
    let installed = extension.status.as_ref().and_then(|status| status.artifact.as_ref());
    let is_installed = installed.is_some_and(|installed| installed.tree_digest == pair.tree_digest);
    if !is_installed || *before != Before::Intact {
        match on_volume(context, extension, Amount::Trees, move |store| store.verify(&tree)).await? {
            Ok(()) => {}
            Err(error) if error.is_damage() => repair(extension, context, pair, &error).await?,
            Err(error) => return Err(store_failure(Stage::Install, &error)),
        }
    }
    let resolved = manifest_of(extension, context, pair).await?;
    let effective = manifest::effective(&resolved, &extension.spec);
    let valid = validate::extension(&extension.name_any(), &effective, &context.contracts)
        .map_err(|problems| Failure::invalid(Stage::Compatible, problems))?;
    let current = extension.status.as_ref().and_then(|status| status.resolved.as_ref());
    let manifests = [Some(&resolved), current].into_iter().flatten().map(manifest::canonical).collect();
    install(extension, context, tree, manifests, &valid).await?;
    Ok(Applied::Installed(Box::new(InstalledPair {
        revision: pair.revision.clone(),
        verified: pair.verified.clone(),
        linked_manifest: pair.linked_manifest,
        validators: [None, None],
        tree_digest: pair.tree_digest.clone(),
        manifest_digest: pair.manifest_digest.clone(),
        size: pair.size,
        files: pair.files,
        resolved,
        enabled: valid.enabled,
        disagreements: vec![],
        pinned: true,
    })))
}

/// Fetches the pair's tree again, from the source as it is now.
async fn repair(
    extension: &OrchestratorExtension,
    context: &Context,
    pair: &Artifact,
    damage: &StoreError,
) -> Result<(), Failure> {
    let inputs = dereference::inputs(extension, context).await?;
    let wanted = plan::wanted(&inputs.source, inputs.config_map.as_ref(), inputs.keys.clone())?;
    let failed = |why| not_whole(pair, &format!("{damage}, and cannot be repaired: {why}"));
    let repaired = refetch(extension, context, &inputs, wanted, pair).await;
    let repaired = repaired.and_then(|repaired| repaired.map_err(failed));
    repaired.map_err(|failure| failure.masked(inputs.credentials.as_ref()))
}

/// The pair's effective manifest: of what is installed status has it, of former pairs the volume.
async fn manifest_of(
    extension: &OrchestratorExtension,
    context: &Context,
    pair: &Artifact,
) -> Result<OrchestratorExtensionSpec, Failure> {
    let installed = extension.status.as_ref().and_then(|status| status.resolved.as_ref());
    if let Some(resolved) = installed.filter(|spec| manifest::digest(spec).to_string() == pair.manifest_digest) {
        return Ok(resolved.clone());
    }
    let digest: Digest = pair.manifest_digest.parse().map_err(|error| not_whole(pair, &error))?;
    let kept = on_volume(context, extension, Amount::Little, move |store| store.manifest(&digest)).await?;
    let kept = kept.map_err(|error| store_failure(Stage::Install, &error))?;
    let kept = kept.ok_or_else(|| not_whole(pair, &format!("manifest {digest} is missing or was changed")))?;
    serde_json::from_slice(&kept).map_err(|error| not_whole(pair, &error))
}

fn not_whole(pair: &Artifact, what: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "spec.revision: {} ({}) is no longer whole on the volume: {what}; choose another of status.history, or remove spec.revision",
        pair.tree_digest, pair.revision
    );
    Failure::stalled(Stage::Install, Reason::RevisionNotKept, message)
}
