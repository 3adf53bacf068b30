//! Public keys that may sign a source, from the entries of a Secret. Pure: no client, clock, disk or network.

use std::collections::BTreeMap;
use std::fmt;

use p256::ecdsa::VerifyingKey;
use p256::pkcs8::der::Document;
use p256::pkcs8::{DecodePublicKey as _, ObjectIdentifier, SubjectPublicKeyInfoRef};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Keys that one Secret may hold.
pub const MAX_KEYS: usize = 32;
/// How the names of entries with public keys end, as for Flux.
const SUFFIX: &str = ".pub";
/// Bytes of one entry: a P-256 key in PEM has 178.
const MAX_KEY_BYTES: usize = 4096;
/// Bytes of a minisign public key (algorithm, key id, key) and of its secret one.
const MINISIGN_BYTES: (usize, usize) = (42, 158);

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Whose signatures are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// cosign, with keys on the curve P-256.
    Cosign,
    /// minisign.
    Minisign,
}

impl Provider {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Cosign, Self::Minisign];

    /// The word in `spec.source.verify.provider`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cosign => "cosign",
            Self::Minisign => "minisign",
        }
    }

    /// The one with this exact word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|provider| provider.as_str() == word)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// That a key signed something: kept with what was fetched, and good for as long as the key is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// How it was signed.
    pub provider: Provider,
    /// The Secret's entry that held the key.
    pub entry: String,
    /// Digest of the key itself, because an entry can be given another one.
    pub key: Digest,
}

/// The public keys of one Secret: at least one, all of them good.
#[derive(Clone)]
pub struct PublicKeys {
    secret: String,
    keys: Keys,
}

#[derive(Clone)]
enum Keys {
    Cosign(Vec<Key<VerifyingKey>>),
    Minisign(Vec<Key<minisign_verify::PublicKey>>),
}

/// A key, and where it was.
#[derive(Clone)]
pub(super) struct Key<K> {
    pub entry: String,
    pub digest: Digest,
    pub public: K,
}

/// Why a Secret gives no public keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{secret}: {kind}")]
pub struct KeysFault {
    /// The Secret, in words.
    pub secret: String,
    /// What is wrong with it.
    pub kind: KeysFaultKind,
}

/// What is wrong with a Secret. No text holds content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysFaultKind {
    /// No entry that could be one.
    #[error(
        "no public key; expected at least one entry whose name ends in {SUFFIX}, such as cosign.pub or minisign.pub"
    )]
    Empty,
    /// More than are tried.
    #[error("{0} entries end in {SUFFIX}; at most {MAX_KEYS} are allowed")]
    TooMany(usize),
    /// One entry that is no key.
    #[error("{entry}: {fault}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        fault: KeyFault,
    },
}

/// Why an entry is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Nothing, too much, or not text.
    #[error("empty, not text, or longer than {MAX_KEY_BYTES} bytes; expected one public key")]
    NotText,
    /// The other half of the pair.
    #[error(
        "a private key; put the public key here, and make a new pair: a key that was in a Secret of the cluster is no longer the signer's alone"
    )]
    Private,
    /// Not PEM, or of something else.
    #[error("no PEM public key; expected one -----BEGIN PUBLIC KEY-----, as in cosign.pub")]
    NotPem,
    /// Several keys in one entry.
    #[error("more than one key; give each an entry of its own")]
    Several,
    /// A kind of key that is not taken.
    #[error("{0}; allowed are ECDSA keys on the curve P-256, as \"cosign generate-key-pair\" makes them")]
    Algorithm(&'static str),
    /// Not minisign's.
    #[error("no minisign public key; expected the file minisign.pub, or its second line")]
    NotMinisign,
}

impl PublicKeys {
    /// The keys for `provider` in the entries `data` of a Secret that messages call `secret`. Entries whose names do not
    /// end in `.pub` are left alone; of the others each must be a key.
    ///
    /// # Errors
    /// [`KeysFault`], which names Secret and entry but no content.
    pub fn from_secret(provider: Provider, secret: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, KeysFault> {
        let fault = |kind| KeysFault { secret: secret.to_owned(), kind };
        let entries: Vec<_> = data.iter().filter(|(entry, _)| entry.ends_with(SUFFIX)).collect();
        match entries.len() {
            0 => return Err(fault(KeysFaultKind::Empty)),
            1..=MAX_KEYS => {}
            many => return Err(fault(KeysFaultKind::TooMany(many))),
        }
        let keys = match provider {
            Provider::Cosign => all(&entries, ecdsa).map(Keys::Cosign),
            Provider::Minisign => all(&entries, minisign).map(Keys::Minisign),
        };
        Ok(Self { secret: secret.to_owned(), keys: keys.map_err(fault)? })
    }

    /// Whose signatures they check.
    pub fn provider(&self) -> Provider {
        match &self.keys {
            Keys::Cosign(_) => Provider::Cosign,
            Keys::Minisign(_) => Provider::Minisign,
        }
    }

    /// The Secret that they are from, in words.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether what `verified` says still counts: its key is one of these.
    pub fn trust(&self, verified: &Verified) -> bool {
        verified.provider == self.provider() && self.identities().iter().any(|(_, key)| *key == verified.key)
    }

    pub(super) fn cosign(&self) -> &[Key<VerifyingKey>] {
        if let Keys::Cosign(keys) = &self.keys { keys } else { &[] }
    }

    pub(super) fn minisign(&self) -> &[Key<minisign_verify::PublicKey>] {
        if let Keys::Minisign(keys) = &self.keys { keys } else { &[] }
    }

    /// The entries' names, for messages.
    pub(super) fn entries(&self) -> String {
        self.identities().iter().map(|(entry, _)| *entry).collect::<Vec<_>>().join(", ")
    }

    fn identities(&self) -> Vec<(&str, Digest)> {
        match &self.keys {
            Keys::Cosign(keys) => keys.iter().map(|key| (key.entry.as_str(), key.digest)).collect(),
            Keys::Minisign(keys) => keys.iter().map(|key| (key.entry.as_str(), key.digest)).collect(),
        }
    }
}

impl PartialEq for PublicKeys {
    fn eq(&self, other: &Self) -> bool {
        (self.provider(), &self.secret, self.identities()) == (other.provider(), &other.secret, other.identities())
    }
}

impl Eq for PublicKeys {}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys {} of {}", self.provider(), self.entries(), self.secret)
    }
}

impl<K> Key<K> {
    /// That this key signed something.
    pub fn verified(&self, provider: Provider) -> Verified {
        Verified { provider, entry: self.entry.clone(), key: self.digest }
    }
}

fn all<K>(
    entries: &[(&String, &Vec<u8>)],
    parse: impl Fn(&str) -> Result<(K, Digest), KeyFault>,
) -> Result<Vec<Key<K>>, KeysFaultKind> {
    let one = |(entry, value): &(&String, &Vec<u8>)| {
        let text = std::str::from_utf8(value).ok().map(str::trim).filter(|text| !text.is_empty());
        let text = text.filter(|text| text.len() <= MAX_KEY_BYTES).ok_or(KeyFault::NotText);
        text.and_then(&parse)
            .map(|(public, digest)| Key { entry: (*entry).clone(), digest, public })
            .map_err(|fault| KeysFaultKind::Entry { entry: (*entry).clone(), fault })
    };
    entries.iter().map(one).collect()
}

/// A P-256 key as SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in PEM.
fn ecdsa(text: &str) -> Result<(VerifyingKey, Digest), KeyFault> {
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyFault::Private);
    }
    if text.matches("-----BEGIN ").count() > 1 {
        return Err(KeyFault::Several);
    }
    let (label, document) = Document::from_pem(text).map_err(|_| KeyFault::NotPem)?;
    let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyFault::NotPem)?;
    if label != "PUBLIC KEY" {
        return Err(KeyFault::NotPem);
    }
    let public = VerifyingKey::from_public_key_der(document.as_bytes()).map_err(|_| match info.algorithm.oid {
        EC => KeyFault::Algorithm("an ECDSA key on another curve"),
        RSA => KeyFault::Algorithm("an RSA key"),
        ED25519 => KeyFault::Algorithm("an Ed25519 key"),
        _ => KeyFault::Algorithm("a key of another algorithm"),
    })?;
    Ok((public, Digest::of(document.as_bytes())))
}

/// The file `minisign.pub`, or its second line alone.
fn minisign(text: &str) -> Result<(minisign_verify::PublicKey, Digest), KeyFault> {
    use base64::Engine as _;
    let is_comment = |line: &str| line.starts_with("untrusted comment:");
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line));
    let line = lines.next().ok_or(KeyFault::NotMinisign)?;
    if lines.next().is_some() {
        return Err(KeyFault::Several);
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(line).map_err(|_| KeyFault::NotMinisign)?;
    match bytes.len() {
        public if public == MINISIGN_BYTES.0 => {}
        secret if secret == MINISIGN_BYTES.1 => return Err(KeyFault::Private),
        _ => return Err(KeyFault::NotMinisign),
    }
    let public = minisign_verify::PublicKey::from_base64(line).map_err(|_| KeyFault::NotMinisign)?;
    Ok((public, Digest::of(bytes)))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
