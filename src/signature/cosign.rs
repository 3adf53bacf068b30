//! cosign's signatures, made with a key: of files, and of OCI artifacts. Pure: no client, clock, disk or network.
//!
//! | of       | classic                                              | Sigstore bundle                                 |
//! |----------|------------------------------------------------------|-------------------------------------------------|
//! | a file   | base64 of the signature of the bytes                 | `messageSignature`                              |
//! | artifact | a "simple signing" payload that names the digest     | an in-toto statement whose subject is the digest |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use serde::Deserialize;

use super::bundle::{self, Content};
use super::fault::SignatureFault;
use super::keys::{Key, Provider, PublicKeys, Verified};
use crate::digest::{Digest, unhex};

/// `critical.type` of a simple signing payload of cosign's (cosign's specs/SIGNATURE_SPEC.md).
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// Type of the payload of an envelope around an in-toto statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate of a statement that signs, and nothing else: attestations have others.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// What the type of an in-toto statement begins with; a version follows.
const STATEMENT: &str = "https://in-toto.io/Statement/";

/// Which of `keys` made `signature`, the content of a `.sig` file or a bundle, for a file with the digest `digest`.
pub fn verify_file(keys: &PublicKeys, signature: &[u8], digest: &Digest) -> Result<Verified, SignatureFault> {
    let text = signature.trim_ascii();
    if !text.starts_with(b"{") {
        let signature = STANDARD.decode(text).map_err(|_| SignatureFault::NotCosign)?;
        return verify(keys, &signature, digest);
    }
    match bundle::parse(text)? {
        Content::Message { digest: signed, signature } => verify_message(keys, signed, &signature, digest),
        Content::Envelope { payload_type, .. } => {
            let expected = "messageSignature, as \"cosign sign-blob\" makes it";
            Err(SignatureFault::OtherStatement { found: payload_type, expected })
        }
    }
}

/// Which of `keys` made `signature` (base64, as in the annotation `dev.cosignproject.cosign/signature`) for `payload`, a
/// simple signing payload that must name `digest`.
///
/// # Errors
/// The [`SignatureFault`].
pub fn verify_image_payload(
    keys: &PublicKeys,
    payload: &[u8],
    signature: &str,
    digest: &Digest,
) -> Result<Verified, SignatureFault> {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    struct Critical {
        image: Image,
        #[serde(rename = "type")]
        type_: String,
    }
    #[derive(Deserialize)]
    struct Image {
        #[serde(rename = "docker-manifest-digest")]
        digest: String,
    }
    let signature = STANDARD.decode(signature.trim()).map_err(|_| SignatureFault::NotCosign)?;
    let verified = verify(keys, &signature, &Digest::of(payload))?;
    let payload: Payload =
        serde_json::from_slice(payload).map_err(|error| SignatureFault::Payload(error.to_string()))?;
    if payload.critical.type_ != PAYLOAD_TYPE {
        let found = quoted(&payload.critical.type_);
        return Err(SignatureFault::OtherStatement { found, expected: PAYLOAD_TYPE });
    }
    match payload.critical.image.digest {
        signed if signed == digest.to_string() => Ok(verified),
        signed => Err(SignatureFault::OtherDigest { signed: quoted(&signed), actual: *digest }),
    }
}

/// Which of `keys` made the `bundle` for an artifact whose manifest has the digest `digest`.
///
/// # Errors
/// The [`SignatureFault`].
pub fn verify_image_bundle(keys: &PublicKeys, bundle: &[u8], digest: &Digest) -> Result<Verified, SignatureFault> {
    match bundle::parse(bundle)? {
        Content::Message { digest: signed, signature } => verify_message(keys, signed, &signature, digest),
        Content::Envelope { payload_type, payload, signatures } => {
            let encoded = Digest::of(pre_authentication_encoding(&payload_type, &payload));
            let verified = signatures.iter().find_map(|signature| verify(keys, signature, &encoded).ok());
            let verified = verified.ok_or_else(|| SignatureFault::NoKeyFits { keys: keys.entries() })?;
            signs(&payload_type, &payload, digest).map(|()| verified)
        }
    }
}

/// Refuses a payload that is not the statement "this artifact is signed". A vulnerability report, too, is signed and
/// names the artifact.
fn signs(payload_type: &str, payload: &[u8], digest: &Digest) -> Result<(), SignatureFault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        #[serde(rename = "_type")]
        type_: String,
        predicate_type: String,
        subject: Vec<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: SubjectDigest,
    }
    #[derive(Deserialize)]
    struct SubjectDigest {
        sha256: Option<String>,
    }
    let other = |found: &str, expected| Err(SignatureFault::OtherStatement { found: quoted(found), expected });
    if payload_type != IN_TOTO {
        return other(payload_type, IN_TOTO);
    }
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|error| SignatureFault::Payload(error.to_string()))?;
    if !statement.type_.starts_with(STATEMENT) {
        return other(&statement.type_, STATEMENT);
    }
    if statement.predicate_type != SIGN_PREDICATE {
        return other(&statement.predicate_type, SIGN_PREDICATE);
    }
    let named: Vec<_> = statement.subject.into_iter().filter_map(|subject| subject.digest.sha256).collect();
    if named.contains(&digest.hex()) {
        return Ok(());
    }
    let signed = match named.first() {
        Some(first) if unhex(first).is_some_and(|bytes| bytes.len() == 32) => format!("sha256:{first}"),
        Some(first) => quoted(first),
        None => "nothing that has a SHA-256".to_owned(),
    };
    Err(SignatureFault::OtherDigest { signed, actual: *digest })
}

fn verify_message(
    keys: &PublicKeys,
    signed: Option<Vec<u8>>,
    signature: &[u8],
    digest: &Digest,
) -> Result<Verified, SignatureFault> {
    match signed {
        // said before the signature is tried, because it tells more
        Some(signed) if crate::digest::hex(&signed) != digest.hex() => {
            let signed = format!("sha256:{}", crate::digest::hex(&signed));
            Err(SignatureFault::OtherDigest { signed: quoted(&signed), actual: *digest })
        }
        _ => verify(keys, signature, digest),
    }
}

/// Which of `keys` made the ECDSA `signature` (ASN.1) of something with this SHA-256.
fn verify(keys: &PublicKeys, signature: &[u8], digest: &Digest) -> Result<Verified, SignatureFault> {
    let signature = DerSignature::from_bytes(signature).map_err(|_| SignatureFault::NotCosign)?;
    let fits = |key: &&Key<VerifyingKey>| key.public.verify_prehash(digest.as_bytes(), &signature).is_ok();
    let fits = keys.cosign().iter().find(fits);
    fits.map(|key| key.verified(Provider::Cosign)).ok_or_else(|| SignatureFault::NoKeyFits { keys: keys.entries() })
}

/// What a DSSE signature is over (DSSE's protocol.md, "PAE").
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Text from a file that somebody else wrote, fit for a message.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    format!("{short:?}")
}

#[cfg(test)]
#[path = "cosign_tests.rs"]
mod tests;
