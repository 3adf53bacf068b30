//! Signatures of sources: bytes and public keys in, a verdict out. Pure: no client, clock, disk or network.
//!
//! | file       | its job                                                                     |
//! |------------|-----------------------------------------------------------------------------|
//! | `keys`     | a Secret's entries to typed public keys                                     |
//! | `minisign` | minisign's detached signatures of files                                     |
//! | `cosign`   | cosign's detached signatures of files, and its signatures of OCI artifacts  |
//! | `bundle`   | the Sigstore bundle, in which newer versions of cosign put either           |
//! | `fault`    | why a signature does not count                                              |
//!
//! A key proves who signed. Transparency log, certificates and time stamps, which a bundle may also hold, are not looked at.

mod bundle;
mod cosign;
mod fault;
mod keys;
mod minisign;

use std::io::Read;

pub use cosign::{verify_image_bundle, verify_image_payload};
pub use fault::SignatureFault;
pub use keys::{KeyFault, KeysFault, KeysFaultKind, MAX_KEYS, Provider, PublicKeys, Verified};

use crate::digest::Digest;

/// Bytes that a file with a signature may have: a minisign signature has some 300, a bundle with all its proofs some 20 000.
pub const MAX_SIGNATURE_BYTES: u64 = 64 << 10;

/// Which of `keys` made the detached `signature` of a file that `content` reads and that has the digest `digest`.
/// cosign's is that of the digest, so that `content` is read for minisign alone.
///
/// # Errors
/// The [`SignatureFault`], [`SignatureFault::Unreadable`] among them where `content` fails.
pub fn verify_file(
    keys: &PublicKeys,
    signature: &[u8],
    digest: &Digest,
    content: impl Read,
) -> Result<Verified, SignatureFault> {
    match keys.provider() {
        Provider::Cosign => cosign::verify_file(keys, signature, digest),
        Provider::Minisign => minisign::verify_file(keys, signature, content),
    }
}
