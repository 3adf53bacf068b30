//! Where everything lies on the volume. Pure.
//!
//! ```text
//! <root>/extensions/<name>                     link to .store/sha256-<hex>, relative
//! <root>/extensions/.store/sha256-<hex>/       a tree, immutable, with its marker `.outrigger-tree`
//! <root>/extensions/.store/sha256-<hex>.list   what is in it (see `listing`)
//! <root>/extensions/.store/sha256-<hex>.manifest   an effective manifest, by its own digest
//! <root>/extensions/.runner/<hex>/outrigger-runner
//! <root>/extensions/.staging/<random>/         work in progress
//! <root>/extensions/.trash/<seconds>-<random>-<its name before>
//! <root>/extensions/.owner                     whose the volume is (see `owner`)
//! <root>/runs/<namespace>/<run>/<uid>/<attempt>/stdout   what a run printed, and stderr (see `outputs`)
//! <root>/runs/.staging/<random>/               outputs that are being written
//! ```
//!
//! Jobs mount single directories of `extensions/.store` and `extensions/.runner`: no script sees `runs`.

use std::fmt;

use crate::digest::Digest;

/// The directory on the volume that holds all; a CloudStack management server mounts it at its own path.
pub const EXTENSIONS: &str = "extensions";
/// Trees, within [`EXTENSIONS`].
pub const STORE: &str = ".store";
/// Work in progress, within [`EXTENSIONS`].
pub const STAGING: &str = ".staging";
/// What waits for its deletion, within [`EXTENSIONS`].
pub const TRASH: &str = ".trash";
/// Runner binaries, within [`EXTENSIONS`].
pub const RUNNER: &str = ".runner";
/// The file that says whose the volume is, within [`EXTENSIONS`].
pub const OWNER: &str = ".owner";
/// What finished runs printed, beside [`EXTENSIONS`].
pub const RUNS: &str = "runs";
/// The file name of the runner's binary.
pub const RUNNER_BINARY: &str = "outrigger-runner";

/// The name of a tree's directory within [`STORE`].
pub fn tree_name(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

/// The name of a tree's listing within [`STORE`].
pub fn listing_name(digest: &Digest) -> String {
    format!("sha256-{}.list", digest.hex())
}

/// The name of an effective manifest within [`STORE`].
pub fn manifest_name(digest: &Digest) -> String {
    format!("{}.manifest", tree_name(digest))
}

/// The digest of which `name` is the [`manifest_name`].
pub fn manifest_digest(name: &str) -> Option<Digest> {
    tree_digest(name.strip_suffix(".manifest")?)
}

/// The digest of which `name` is the [`tree_name`].
pub fn tree_digest(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_prefix("sha256-")?).parse().ok()
}

/// The digest of the runner whose directory within [`RUNNER`] has this name.
pub fn runner_digest(name: &str) -> Option<Digest> {
    format!("sha256:{name}").parse().ok()
}

/// The target of an extension's link: relative, so that it holds wherever the directory is mounted.
pub fn link_target(digest: &Digest) -> String {
    format!("{STORE}/{}", tree_name(digest))
}

/// The digest to which a link with this target leads, if it is one of ours.
pub fn linked_digest(target: &str) -> Option<Digest> {
    tree_digest(target.strip_prefix(STORE)?.strip_prefix('/')?)
}

/// Where a tree lies relative to the volume's root: the `subPath` of a Job's volume mount.
pub fn tree_subpath(digest: &Digest) -> String {
    format!("{EXTENSIONS}/{STORE}/{}", tree_name(digest))
}

/// Where the directory of a runner binary lies relative to the volume's root: the `subPath` of a Job's volume mount.
/// In it is [`RUNNER_BINARY`].
pub fn runner_subpath(digest: &Digest) -> String {
    format!("{EXTENSIONS}/{RUNNER}/{}", digest.hex())
}

/// The name of an extension on the volume: a DNS-1123 subdomain as Kubernetes has it for object names, which neither
/// begins with a dot nor holds a slash (CVE-2026-35206).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionName(String);

/// Why a text names no extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "extension name {0:?} cannot be used on the volume: at most 253 lower-case letters, digits, \"-\" and \".\", each part \
     between dots beginning and ending with a letter or digit"
)]
pub struct ExtensionNameError(String);

impl ExtensionName {
    /// Parse `name`.
    ///
    /// # Errors
    /// [`ExtensionNameError`] if it is no DNS-1123 subdomain.
    pub fn parse(name: &str) -> Result<Self, ExtensionNameError> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let label = |label: &str| {
            let bytes = label.as_bytes();
            bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
                && bytes.first().is_some_and(alphanumeric)
                && bytes.last().is_some_and(alphanumeric)
        };
        match name.len() <= 253 && name.split('.').all(label) {
            true => Ok(Self(name.to_owned())),
            false => Err(ExtensionNameError(name.chars().take(100).collect())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExtensionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for ExtensionName {
    type Err = ExtensionNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_digests_lead_to_each_other() {
        let digest = Digest::of("x");
        assert_eq!(tree_digest(&tree_name(&digest)), Some(digest));
        assert_eq!(linked_digest(&link_target(&digest)), Some(digest));
        assert_eq!(tree_subpath(&digest), format!("extensions/.store/sha256-{}", digest.hex()));
        assert_eq!(runner_subpath(&digest), format!("extensions/.runner/{}", digest.hex()));
        for other in ["", "sha256-", "../x", "/etc", ".store", ".store/../x", ".storesha256-00"] {
            assert_eq!(linked_digest(other), None, "{other}");
        }
        assert_eq!(linked_digest(&format!("/{}", link_target(&digest))), None);
        assert_eq!(tree_digest(&listing_name(&digest)), None);
    }

    #[test]
    fn only_names_of_kubernetes_objects_name_an_extension() {
        for name in ["a", "orchestrator", "a-b.c-1", "0", &"a".repeat(253)] {
            assert!(ExtensionName::parse(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".store", "a/b", "A", "a_b", "-a", "a-", "a..b", "a.", "ü", "a\n", &"a".repeat(254)]
        {
            let error = ExtensionName::parse(name).unwrap_err().to_string();
            assert!(error.starts_with("extension name \"") && error.contains("lower-case letters"), "{error}");
        }
    }
}
