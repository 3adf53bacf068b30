//! The signature of an archive: found beside it, and checked before the archive is used.

use std::sync::Arc;

use super::door::Session;
use super::download::{self, Downloaded};
use super::error::SourceError;
use super::fetcher::blocking;
use super::url::SourceUrl;
use crate::signature::{MAX_SIGNATURE_BYTES, Provider, PublicKeys, SignatureFault, Verified, verify_file};

/// Who must have signed a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// The keys, any one of which is enough.
    pub keys: Arc<PublicKeys>,
    /// Where an archive's signature is; unset, it is beside the archive.
    pub signature_url: Option<SourceUrl>,
}

impl Verify {
    /// Where the signature of the archive at `url` may be, in the order in which it is looked for.
    fn candidates(&self, url: &SourceUrl) -> Vec<SourceUrl> {
        if let Some(url) = &self.signature_url {
            return vec![url.clone()];
        }
        let ends: &[&str] = match self.keys.provider() {
            Provider::Minisign => &[".minisig"],
            Provider::Cosign => &[".sig", ".sigstore.json", ".bundle"],
        };
        ends.iter().map(|end| url.with_suffix(end)).collect()
    }
}

/// Check that one of the keys signed what was downloaded from `url`: its bytes, which are those that are unpacked.
pub(super) async fn verify_archive(
    session: &Session,
    url: &SourceUrl,
    verify: &Verify,
    downloaded: &Downloaded,
) -> Result<Verified, SourceError> {
    let candidates = verify.candidates(url);
    let mut failure = None;
    for candidate in &candidates {
        let checked = match download::read(session, candidate, MAX_SIGNATURE_BYTES).await {
            Ok(signature) => check(url, candidate, verify, downloaded, signature).await,
            Err(SourceError::NotFound { .. }) => continue,
            Err(error) => Err(error),
        };
        match checked {
            Ok(verified) => return Ok(verified),
            // a signature that is there says more than one that could not be looked for
            Err(error) if failure.is_none() || matches!(error, SourceError::SignatureInvalid { .. }) => {
                failure = Some(error);
            }
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or_else(|| SourceError::SignatureMissing {
        url: url.to_string(),
        tried: candidates.iter().map(SourceUrl::to_string).collect(),
        help: "publish it there, or say in spec.source.verify.signatureURL where it is",
    }))
}

async fn check(
    url: &SourceUrl,
    candidate: &SourceUrl,
    verify: &Verify,
    downloaded: &Downloaded,
    signature: Vec<u8>,
) -> Result<Verified, SourceError> {
    let (keys, digest) = (Arc::clone(&verify.keys), downloaded.digest);
    let content = downloaded.content.reader()?;
    let verdict = blocking(move || Ok(verify_file(&keys, &signature, &digest, content))).await?;
    verdict.map_err(|fault| match fault {
        SignatureFault::Unreadable(source) => SourceError::Io { action: "read the temporary file", source },
        fault => SourceError::SignatureInvalid {
            url: url.to_string(),
            signature: candidate.to_string(),
            secret: verify.keys.secret().to_owned(),
            fault: Box::new(fault),
        },
    })
}
