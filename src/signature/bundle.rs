//! The Sigstore bundle: JSON that holds a signature and what was signed. Pure: no client, clock, disk or network.
//!
//! Read are the signature and what it is over. What else a bundle holds (certificates, entries of the transparency log,
//! time stamps) proves nothing more to whom has the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::fault::SignatureFault;

/// How the media types of bundles begin (`…+json;version=0.1` to `….v0.3+json`).
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// What a bundle signs, and how.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// A signature over the bytes.
    Message {
        /// SHA-256 of the bytes, where the bundle says it. It is not signed.
        digest: Option<Vec<u8>>,
        /// ECDSA signature in ASN.1.
        signature: Vec<u8>,
    },
    /// A DSSE envelope: a signature over a typed payload.
    Envelope {
        /// The payload's type.
        payload_type: String,
        /// The payload.
        payload: Vec<u8>,
        /// ECDSA signatures in ASN.1, each over type and payload.
        signatures: Vec<Vec<u8>>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    media_type: Option<String>,
    verification_material: Option<Material>,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
    /// The format of cosign 2 without `--new-bundle-format`: `{"base64Signature": …, "cert": …, "rekorBundle": …}`.
    base64_signature: Option<String>,
    cert: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<serde_json::Value>,
    x509_certificate_chain: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: Option<MessageDigest>,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// Reads a bundle.
pub fn parse(bytes: &[u8]) -> Result<Content, SignatureFault> {
    let fault = |what: &str| SignatureFault::Bundle(what.to_owned());
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| SignatureFault::Bundle(error.to_string()))?;
    let decode = |text: &str, what: &str| STANDARD.decode(text).map_err(|_| fault(&format!("{what} is not base64")));
    if let Some(signature) = &raw.base64_signature {
        if raw.cert.is_some_and(|cert| !cert.is_empty()) {
            return Err(SignatureFault::Keyless);
        }
        return Ok(Content::Message { digest: None, signature: decode(signature, "base64Signature")? });
    }
    if !raw.media_type.is_some_and(|media_type| media_type.starts_with(MEDIA_TYPE)) {
        return Err(SignatureFault::Bundle(format!("mediaType does not begin with {MEDIA_TYPE}")));
    }
    let has_certificate =
        |material: &Material| material.certificate.is_some() || material.x509_certificate_chain.is_some();
    if raw.verification_material.as_ref().is_some_and(has_certificate) {
        return Err(SignatureFault::Keyless);
    }
    match (raw.message_signature, raw.dsse_envelope) {
        (Some(message), None) => {
            let digest = match message.message_digest {
                Some(digest) if digest.algorithm == "SHA2_256" => {
                    Some(decode(&digest.digest, "messageSignature.messageDigest.digest")?)
                }
                Some(_) => return Err(fault("messageSignature.messageDigest.algorithm must be SHA2_256")),
                None => None,
            };
            Ok(Content::Message { digest, signature: decode(&message.signature, "messageSignature.signature")? })
        }
        (None, Some(envelope)) => {
            let sig = |signature: &EnvelopeSignature| decode(&signature.sig, "dsseEnvelope.signatures[].sig");
            Ok(Content::Envelope {
                payload_type: envelope.payload_type,
                payload: decode(&envelope.payload, "dsseEnvelope.payload")?,
                signatures: envelope.signatures.iter().map(sig).collect::<Result<_, _>>()?,
            })
        }
        _ => Err(fault("expected one of messageSignature and dsseEnvelope")),
    }
}
