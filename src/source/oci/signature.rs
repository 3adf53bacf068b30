//! cosign's signatures of an artifact: in its repository, in both places where cosign leaves them.

use super::client::Repository;
use super::manifest::{ArtifactManifest, Descriptor, Document, Referrer, parse};
use super::reference::{Reference, Tag};
use crate::digest::Digest;
use crate::signature::{
    MAX_SIGNATURE_BYTES, PublicKeys, SignatureFault, Verified, verify_image_bundle, verify_image_payload,
};
use crate::source::error::SourceError;

/// How the tag of classic signatures ends (cosign's specs/SIGNATURE_SPEC.md).
const TAG_SUFFIX: &str = ".sig";
/// The media type of a layer with a payload that was signed.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of such a layer that holds the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// How the media types of Sigstore bundles begin.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// What lists of referrers say of any artifact without a configuration, bundles among them, where a client made the list.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Signatures that are tried, of each of both kinds.
const MAX_SIGNATURES: usize = 64;

/// Check that one of the keys signed the manifest `digest` of the repository.
///
/// # Errors
/// [`SourceError::SignatureMissing`]; [`SourceError::SignatureInvalid`] for the first of several that do not count; what kept
/// one from being read, if there is none that was read.
pub(in crate::source) async fn verify(
    repository: &Repository,
    digest: &Digest,
    keys: &PublicKeys,
) -> Result<Verified, SourceError> {
    let mut search = Search { repository, digest, keys, failure: None };
    if let Some(verified) = search.among_payloads().await {
        return Ok(verified);
    }
    if let Some(verified) = search.among_bundles().await {
        return Ok(verified);
    }
    Err(search.failure.take().unwrap_or_else(|| SourceError::SignatureMissing {
        url: search.url(),
        tried: vec![
            Reference::Tag(Tag::of_digest(digest, TAG_SUFFIX)).to_string(),
            format!("a referrer of type {BUNDLE}"),
        ],
        help: "sign it: cosign sign --key",
    }))
}

struct Search<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    keys: &'a PublicKeys,
    failure: Option<SourceError>,
}

impl Search<'_> {
    fn url(&self) -> String {
        format!("{}@{}", self.repository.url(), self.digest)
    }

    /// Keep the verdict, or what stands in its way: a signature that is there says more than one that cannot be read.
    fn settle(&mut self, result: Result<Verified, SourceError>) -> Option<Verified> {
        match result {
            Ok(verified) => return Some(verified),
            Err(error) => match &self.failure {
                None => self.failure = Some(error),
                Some(SourceError::SignatureInvalid { .. }) => {}
                Some(_) if matches!(error, SourceError::SignatureInvalid { .. }) => self.failure = Some(error),
                Some(_) => {}
            },
        }
        None
    }

    fn invalid(&self, place: &Reference) -> impl FnOnce(SignatureFault) -> SourceError {
        let (url, signature, secret) = (self.url(), place.to_string(), self.keys.secret().to_owned());
        move |fault| SourceError::SignatureInvalid { url, signature, secret, fault: Box::new(fault) }
    }

    async fn among_payloads(&mut self) -> Option<Verified> {
        let place = Reference::Tag(Tag::of_digest(self.digest, TAG_SUFFIX));
        let manifest = match self.manifest(&place).await {
            Ok(manifest) => manifest,
            Err(SourceError::RefNotFound { .. }) => return None,
            Err(error) => return self.settle(Err(error)),
        };
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD).take(MAX_SIGNATURES) {
            let result = self.payload(layer, &place).await;
            if let Some(verified) = self.settle(result) {
                return Some(verified);
            }
        }
        None
    }

    async fn payload(&self, layer: &Descriptor, place: &Reference) -> Result<Verified, SourceError> {
        let invalid = self.invalid(place);
        let Some(signature) = layer.annotations.get(SIGNATURE) else {
            return Err(invalid(SignatureFault::NotCosign));
        };
        let payload = self.repository.blob(layer, MAX_SIGNATURE_BYTES).await?;
        verify_image_payload(self.keys, &payload, signature, self.digest).map_err(invalid)
    }

    async fn among_bundles(&mut self) -> Option<Verified> {
        let referrers = match self.repository.referrers(self.digest).await {
            Ok(referrers) => referrers,
            Err(error) => return self.settle(Err(error)),
        };
        let may_be_bundle = |referrer: &&Referrer| {
            let type_ = referrer.artifact_type.as_deref();
            type_.is_none_or(|type_| type_ == EMPTY || type_.starts_with(BUNDLE))
        };
        for referrer in referrers.iter().filter(may_be_bundle).take(MAX_SIGNATURES) {
            let place = Reference::Digest(referrer.digest);
            let manifest = match self.manifest(&place).await {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.settle(Err(error));
                    continue;
                }
            };
            for layer in manifest.layers.iter().filter(|layer| layer.media_type.starts_with(BUNDLE)).take(1) {
                let result = self.bundle(layer, &place).await;
                if let Some(verified) = self.settle(result) {
                    return Some(verified);
                }
            }
        }
        None
    }

    async fn bundle(&self, layer: &Descriptor, place: &Reference) -> Result<Verified, SourceError> {
        let bundle = self.repository.blob(layer, MAX_SIGNATURE_BYTES).await?;
        verify_image_bundle(self.keys, &bundle, self.digest).map_err(self.invalid(place))
    }

    async fn manifest(&self, place: &Reference) -> Result<ArtifactManifest, SourceError> {
        let manifest = self.repository.manifest(place).await?;
        match parse(&manifest.bytes) {
            Ok(Document::Manifest(manifest)) => Ok(*manifest),
            Ok(Document::Index(_)) => {
                Err(self.invalid(place)(SignatureFault::Payload("an index instead of a manifest".to_owned())))
            }
            Err(fault) => Err(self.repository.fault(fault)),
        }
    }
}
