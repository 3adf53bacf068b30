//! Whose signature stands for what is installed, and whether that is enough. Pure: no client, clock, disk or network.

use super::failure::{Failure, Stage};
use crate::api::Reason;
use crate::api::extension::{Artifact, OrchestratorExtensionSpec, Verification};
use crate::signature::{Provider, PublicKeys, Verified};

/// Refuses an extension whose files or manifest nobody need have signed, where the operator requires it. A digest pins
/// bytes but does not say whose they are.
pub fn required(spec: &OrchestratorExtensionSpec, is_required: bool) -> Result<(), Failure> {
    let verify = spec.source.as_ref().and_then(|source| source.verify.as_ref());
    let message = match () {
        () if !is_required => return Ok(()),
        () if verify.is_none() => {
            "spec.source.verify: is missing, and this operator requires it (--require-verification): name the keys of \
             who signs the source. Archives and OCI artifacts can be signed; git repositories and ConfigMaps cannot, \
             and are not installed by this operator; neither is what only a digest pins"
        }
        () if spec.manifest_url.is_some() => {
            "spec.manifestURL: a linked manifest cannot be signed, and this operator requires it \
             (--require-verification): put the manifest into the source or the resource, and remove this"
        }
        () => return Ok(()),
    };
    Err(Failure::stalled(Stage::Trust, Reason::VerificationRequired, message))
}

/// Refuses to restore `pair` where signatures are asked for and no key that is still trusted made its, or where the
/// operator requires them and a part of it has none.
pub fn restorable(pair: &Artifact, keys: Option<&PublicKeys>, is_required: bool) -> Result<(), Failure> {
    if is_required && pair.linked_manifest {
        let message = format!(
            "spec.revision: {} ({}) was installed with a linked manifest, which cannot be signed, and this operator \
             requires it (--require-verification); choose another of status.history, or remove spec.revision",
            pair.tree_digest, pair.revision
        );
        return Err(Failure::stalled(Stage::Trust, Reason::VerificationRequired, message));
    }
    let Some(keys) = keys else { return Ok(()) };
    let verified = verified(pair);
    if verified.as_ref().is_some_and(|verified| keys.trust(verified)) {
        return Ok(());
    }
    let why = match &pair.verified {
        None => "was installed without a verified signature".to_owned(),
        Some(by) => format!("was signed with {}, whose key is not in {}", by.key, keys.secret()),
    };
    let message = format!(
        "spec.revision: {} ({}) {why}, and spec.source.verify asks for one; choose another of status.history, or remove \
         spec.revision",
        pair.tree_digest, pair.revision
    );
    Err(Failure::stalled(Stage::Trust, Reason::SignatureMissing, message))
}

/// What status keeps of a verified signature.
pub fn recorded(verified: &Verified) -> Verification {
    Verification {
        provider: verified.provider.to_string(),
        key: verified.entry.clone(),
        key_digest: verified.key.to_string(),
    }
}

/// The verified signature that status keeps of `artifact`, if it has one.
pub fn verified(artifact: &Artifact) -> Option<Verified> {
    let recorded = artifact.verified.as_ref()?;
    Some(Verified {
        provider: Provider::named(&recorded.provider)?,
        entry: recorded.key.clone(),
        key: recorded.key_digest.parse().ok()?,
    })
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
