//! The whole output of an attempt, which the runner hands over once its report is acknowledged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Nonce;

/// How much an attempt printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputSizes {
    /// Bytes of standard output, redacted; 0 where it is withheld.
    pub stdout_bytes: u64,
    /// Bytes of standard error, redacted.
    pub stderr_bytes: u64,
    /// A stream is longer than what is handed over of it.
    pub truncated: bool,
}

/// What an attempt printed: redacted bytes, in which a line says where the middle was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputUpload {
    /// Number of the attempt.
    pub attempt: u32,
    /// The nonce that claimed.
    pub nonce: Nonce,
    /// Standard output, base64 in JSON.
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    pub stdout: Vec<u8>,
    /// Standard error, base64 in JSON.
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    pub stderr: Vec<u8>,
}

fn encode<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_handed_over_unchanged() {
        let upload =
            OutputUpload { attempt: 2, nonce: Nonce::from_bytes([1; 16]), stdout: (0..=255).collect(), stderr: vec![] };
        let json = serde_json::to_string(&upload).unwrap();
        assert!(json.contains("\"stderr\":\"\""), "{json}");
        assert_eq!(serde_json::from_str::<OutputUpload>(&json).unwrap(), upload);
        assert!(serde_json::from_str::<OutputUpload>(&json.replace("AAEC", "A*EC")).is_err());
    }
}
