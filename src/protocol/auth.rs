//! Who a runner is: a token that any leader can check, and a nonce that tells one runner process from another.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::digest::{Digest, hex, unhex};

pub(super) type HmacSha256 = Hmac<Sha256>;

/// Proof that its holder is the runner of one attempt of one run:
/// HMAC-SHA256(key of the operator, run UID ‖ 0 ‖ attempt). Nothing has to be stored to check it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token of `attempt` of the run with this UID.
    pub fn derive(key: &[u8], run_uid: &str, attempt: u32) -> Self {
        let mut mac = new_mac(key);
        mac.update(run_uid.as_bytes());
        mac.update(&[0]);
        mac.update(&attempt.to_be_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// Reads the hexadecimal form.
    pub fn from_hex(text: &str) -> Option<Self> {
        Some(Self(unhex(text)?.try_into().ok()?))
    }

    /// The hexadecimal form, for the `Authorization` header and the Job's environment.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Whether `other` is the same token, in constant time.
    pub fn matches(&self, other: &Token) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// HMAC-SHA256 takes keys of any length, so this cannot fail.
pub(super) fn new_mac(key: &[u8]) -> HmacSha256 {
    match HmacSha256::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

/// 16 random bytes drawn by one runner process, as 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    /// The nonce of these random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }

    /// What the run's status keeps of it.
    pub fn hash(&self) -> String {
        Digest::of(&self.0).hex()
    }
}

impl TryFrom<String> for Nonce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match unhex(&text) {
            Some(bytes) if bytes.len() == 16 => Ok(Self(text)),
            _ => Err("a nonce is 32 hexadecimal digits"),
        }
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_bound_to_key_run_and_attempt() {
        let token = Token::derive(b"key", "uid", 1);
        assert!(token.matches(&Token::derive(b"key", "uid", 1)));
        for other in
            [Token::derive(b"yek", "uid", 1), Token::derive(b"key", "uid2", 1), Token::derive(b"key", "uid", 2)]
        {
            assert!(!token.matches(&other));
        }
        assert!(Token::from_hex(&token.to_hex()).is_some_and(|read| read.matches(&token)));
        assert!(Token::from_hex("00").is_none());
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::derive(b"key", "uid", 1);
        assert!(!format!("{token:?}").contains(&token.to_hex()));
    }

    #[test]
    fn a_nonce_is_exactly_32_hexadecimal_digits() {
        assert!(serde_json::from_str::<Nonce>(&format!("\"{}\"", "a".repeat(32))).is_ok());
        for text in ["", "zz", &"a".repeat(30), &"A".repeat(32)] {
            assert!(Nonce::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
