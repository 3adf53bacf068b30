//! minisign's detached signatures of files. Pure: no client, clock, disk or network.

use std::io::{ErrorKind, Read};

use minisign_verify::{Error, Signature};

use super::fault::SignatureFault;
use super::keys::{Provider, PublicKeys, Verified};

/// Which of `keys` made `signature` (the content of a `.minisig` file) for what `content` reads. The trusted comment is
/// checked with it.
pub fn verify_file(keys: &PublicKeys, signature: &[u8], mut content: impl Read) -> Result<Verified, SignatureFault> {
    let text = std::str::from_utf8(signature).map_err(|_| SignatureFault::NotMinisign)?;
    let signature = Signature::decode(text).map_err(|_| SignatureFault::NotMinisign)?;
    let mut candidates = Vec::new();
    for key in keys.minisign() {
        match key.public.verify_stream(&signature) {
            Ok(verifier) => candidates.push((key, verifier)),
            Err(Error::UnexpectedKeyId) => {}
            Err(Error::UnsupportedLegacyMode) => return Err(SignatureFault::Legacy),
            Err(_) => return Err(SignatureFault::NotMinisign),
        }
    }
    let Some((first, _)) = candidates.first() else {
        return Err(SignatureFault::OtherKey { keys: keys.entries() });
    };
    let other_bytes = SignatureFault::OtherBytes { entry: first.entry.clone() };
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => candidates.iter_mut().for_each(|(_, verifier)| verifier.update(&buffer[..read])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(SignatureFault::Unreadable(error)),
        }
    }
    let fits = candidates.iter_mut().find_map(|(key, verifier)| verifier.finalize().is_ok().then_some(key));
    fits.map(|key| key.verified(Provider::Minisign)).ok_or(other_bytes)
}

#[cfg(test)]
#[path = "minisign_tests.rs"]
mod tests;
