//! Why a signature does not count. Pure: no client, clock, disk or network.

use crate::digest::Digest;

/// Why a signature does not count. The texts continue "the signature at `<address>` …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// Not what minisign writes.
    #[error("is no minisign signature; expected the file that \"minisign -S\" writes")]
    NotMinisign,
    /// Made over the bytes instead of over their hash: such a one needs all bytes in memory.
    #[error("is in minisign's legacy format; sign again without -l")]
    Legacy,
    /// Signed by another minisign key.
    #[error("was made with none of the keys {keys}")]
    OtherKey {
        /// The entries with the keys.
        keys: String,
    },
    /// The right minisign key signed other bytes.
    #[error("does not fit the bytes: they are not those that were signed with {entry}")]
    OtherBytes {
        /// The entry with the key.
        entry: String,
    },
    /// None of the keys verifies it. ECDSA does not say whether the key or the bytes are others.
    #[error("was made with none of the keys {keys}, or for other bytes")]
    NoKeyFits {
        /// The entries with the keys.
        keys: String,
    },
    /// Neither base64 of an ECDSA signature nor a bundle.
    #[error("is no cosign signature; expected base64 of an ECDSA signature in ASN.1, or a Sigstore bundle")]
    NotCosign,
    /// A bundle that cannot be read.
    #[error("is no Sigstore bundle: {0}")]
    Bundle(String),
    /// A bundle with a certificate instead of a key.
    #[error("was made with a certificate (keyless); only signatures made with a key are checked: sign with --key")]
    Keyless,
    /// A signature for something else.
    #[error("is for {signed}, not for {actual}")]
    OtherDigest {
        /// What was signed.
        signed: String,
        /// What is to be installed.
        actual: Digest,
    },
    /// A signed statement that is not a signature of the artifact, such as a bill of materials or a scan's result.
    #[error(
        "is a statement of type {found}, which says something about the artifact but does not sign it; expected {expected}"
    )]
    OtherStatement {
        /// Its type.
        found: String,
        /// The type of a signature.
        expected: &'static str,
    },
    /// What was signed is not the JSON that it must be.
    #[error("signs a payload that cannot be read: {0}")]
    Payload(String),
    /// The file whose signature it is could not be read.
    #[error("could not be checked: reading the file failed: {0}")]
    Unreadable(std::io::Error),
}
