//! Manifests and indexes as registries hold them. Pure: no client, clock, disk or network.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fault::OciFault;
use crate::digest::Digest;

/// Bytes that a manifest or an index may have, as registries limit them (OCI distribution specification, "Pushing Manifests").
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// What a manifest says of a blob or of another manifest (OCI image specification, "Descriptors"). `urls` and `data` are
/// never used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Of what kind the bytes are.
    pub media_type: String,
    /// What they hash to. Other algorithms than SHA-256 are refused.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// Free-form.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Of what kind the artifact behind a manifest is; registries fill it where they list referrers.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

/// What a list of referrers says of one, as far as it is of use: the rest, which has no bounds, is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes of its manifest.
    pub size: u64,
    /// Of what kind the artifact behind it is, where the registry says it.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

/// A manifest of an artifact or image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactManifest {
    /// Of what kind the artifact is, where it is said.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The configuration, which is never fetched.
    #[serde(default)]
    pub config: Option<Descriptor>,
    /// The blobs.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about: what a signature signs.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Free-form.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What the bytes behind a tag or digest are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One artifact or image.
    Manifest(Box<ArtifactManifest>),
    /// A list of manifests.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: u64,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Index<T> {
    manifests: Vec<T>,
}

/// Parse the bytes of a manifest or index, in the OCI or the Docker form. What it is follows from its content alone, never
/// from a header, and a text that could be read as either is refused (CVE-2021-41190).
///
/// # Errors
/// [`OciFault::Manifest`] says what is wrong.
pub fn parse(bytes: &[u8]) -> Result<Document, OciFault> {
    let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
    let wrong = |what: &str| Err(OciFault::Manifest(what.to_owned()));
    match head {
        Head { schema_version, .. } if schema_version != 2 => {
            wrong(&format!("schemaVersion {schema_version} is not supported; push it again with a current client"))
        }
        Head { layers: Some(_), manifests: Some(_), .. } => wrong("both layers and manifests"),
        Head { layers: Some(_), .. } => {
            serde_json::from_slice(bytes).map(|manifest| Document::Manifest(Box::new(manifest))).map_err(malformed)
        }
        Head { manifests: Some(_), .. } => {
            serde_json::from_slice(bytes).map(|index: Index<_>| Document::Index(index.manifests)).map_err(malformed)
        }
        Head { .. } => wrong("neither layers nor manifests"),
    }
}

/// Parse the bytes of an index that lists referrers.
///
/// # Errors
/// [`OciFault::Manifest`] says what is wrong, [`OciFault::Answer`] that it is no list.
pub fn referrers(bytes: &[u8]) -> Result<Vec<Referrer>, OciFault> {
    match serde_json::from_slice(bytes).map_err(malformed)? {
        Head { schema_version: 2, layers: None, manifests: Some(_) } => {
            serde_json::from_slice(bytes).map(|index: Index<_>| index.manifests).map_err(malformed)
        }
        _ => Err(OciFault::Answer("no index of schemaVersion 2 as a list of referrers".to_owned())),
    }
}

fn malformed(error: serde_json::Error) -> OciFault {
    OciFault::Manifest(error.to_string().chars().take(300).collect())
}

/// The one manifest of an index that is meant: an extension is the same for all platforms. Attestations, which builders add,
/// do not count.
///
/// # Errors
/// [`OciFault::Index`] if there are several, or none.
pub fn only(manifests: &[Descriptor]) -> Result<&Descriptor, OciFault> {
    const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
    let is_attestation =
        |entry: &&Descriptor| entry.annotations.get(ATTESTATION.0).is_some_and(|kind| kind == ATTESTATION.1);
    let mut counted = manifests.iter().filter(|entry| !is_attestation(entry));
    match (counted.next(), counted.count()) {
        (Some(only), 0) => Ok(only),
        (first, others) => Err(OciFault::Index(usize::from(first.is_some()) + others)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(annotations: Value) -> Value {
        json!({"mediaType": "x/y", "digest": Digest::of("x"), "size": 1, "annotations": annotations})
    }

    fn fault(value: Value) -> String {
        parse(value.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_and_an_index_are_told_apart_by_content() {
        let layers = json!({"schemaVersion": 2, "layers": [descriptor(json!({"a": "b"}))], "mediaType": "index?"});
        let Document::Manifest(manifest) = parse(layers.to_string().as_bytes()).unwrap() else { panic!("{layers}") };
        assert_eq!((manifest.layers[0].size, manifest.layers[0].digest), (1, Digest::of("x")));
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(json!({}))]});
        assert!(matches!(parse(index.to_string().as_bytes()), Ok(Document::Index(list)) if list.len() == 1));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let both = json!({"schemaVersion": 2, "layers": [], "manifests": []});
        assert_eq!(fault(both), "the manifest cannot be used: both layers and manifests");
        assert!(fault(json!({"schemaVersion": 2})).ends_with("neither layers nor manifests"));
        assert!(fault(json!({"schemaVersion": 1, "fsLayers": []})).contains("schemaVersion 1 is not supported"));
        assert!(fault(json!("<html>")).starts_with("the manifest cannot be used: "));
        let mut other = descriptor(json!({}));
        other["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
        let text = fault(json!({"schemaVersion": 2, "layers": [other]}));
        assert!(text.contains("is not a digest: expected \"sha256:\""), "{text}");
        let negative = json!({"mediaType": "x/y", "digest": Digest::of("x"), "size": -1});
        assert!(fault(json!({"schemaVersion": 2, "layers": [negative]})).contains("-1"));
    }

    #[test]
    fn an_index_must_have_one_manifest_besides_attestations() {
        let list = |entries: &[Value]| -> Vec<Descriptor> {
            entries.iter().map(|entry| serde_json::from_value(entry.clone()).unwrap()).collect()
        };
        let image = descriptor(json!({"image": "x"}));
        let attestation = descriptor(json!({"vnd.docker.reference.type": "attestation-manifest"}));
        let one = list(&[attestation.clone(), image.clone()]);
        assert!(only(&one).unwrap().annotations.contains_key("image"));
        assert_eq!(
            only(&list(&[image.clone(), image, attestation.clone()])).unwrap_err().to_string(),
            "an index of 2 manifests, but an extension is one tree for all platforms: push a single manifest, or name one of \
             them in digest"
        );
        assert!(only(&list(&[attestation])).unwrap_err().to_string().starts_with("an index of 0 manifests"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_crash_the_parser(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
