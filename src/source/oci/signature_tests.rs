//! Signatures that cosign itself made (tests/fixtures/signatures/cosign), in a registry that serves them as it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use serde_json::json;

use super::*;
use crate::api::reason::{FailureClass, Reason};
use crate::digest::Digest;
use crate::signature::{Provider, PublicKeys};
use crate::source::testing::{Server, fetcher, status};
use crate::source::{Request, Resolution, Resolved, SourceError, Verify};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/signatures/", $name)).as_slice()
    };
}

const ARTIFACT: &[u8] = fixture!("cosign/artifact.json");
const SECRET: &str = "Secret outrigger-system/keys of spec.source.verify.secretRef";

/// What a repository holds, by the end of its path: manifests and lists.
#[derive(Clone)]
struct Content(BTreeMap<String, Vec<u8>>);

impl Content {
    /// The artifact behind the tag `1`, unsigned, and every blob.
    fn unsigned() -> Self {
        let content = Self(BTreeMap::new()).with("manifests/1", ARTIFACT).manifest(ARTIFACT);
        let blobs = [
            fixture!("cosign/payload.json"),
            fixture!("cosign/sign.sigstore.json"),
            fixture!("cosign/attestation.sigstore.json"),
        ];
        blobs.into_iter().fold(content, |content, blob| content.with(&format!("blobs/{}", Digest::of(blob)), blob))
    }

    fn with(mut self, path: &str, bytes: &[u8]) -> Self {
        self.0.insert(path.to_owned(), bytes.to_vec());
        self
    }

    fn manifest(self, bytes: &[u8]) -> Self {
        self.with(&format!("manifests/{}", Digest::of(bytes)), bytes)
    }

    /// Classic signatures of `digest`.
    fn classic(self, digest: &Digest, manifest: &[u8]) -> Self {
        self.with(&format!("manifests/sha256-{}.sig", digest.hex()), manifest)
    }

    /// The bundles that cosign attached, listed as cosign does where the registry does not.
    fn bundles(self, list: &str) -> Self {
        let content = self.manifest(fixture!("cosign/sign-manifest.json"));
        content.manifest(fixture!("cosign/attestation-manifest.json")).with(list, fixture!("cosign/referrers.json"))
    }

    async fn serve(self) -> Server {
        Server::start(move |seen| match self.0.get(seen.target.trim_start_matches("/v2/signed/")) {
            Some(bytes) => {
                let digest = Digest::of(bytes).to_string();
                Response::builder().header("docker-content-digest", digest).body(bytes.clone().into()).unwrap()
            }
            None => status(404),
        })
        .await
    }
}

fn keys(key: &[u8]) -> Verify {
    let data = [("release.pub".to_owned(), key.to_vec())].into();
    let keys = PublicKeys::from_secret(Provider::Cosign, SECRET, &data).unwrap();
    Verify { keys: Arc::new(keys), signature_url: None }
}

fn right() -> Verify {
    keys(fixture!("cosign/cosign.pub"))
}

fn request(server: &Server, tag: &str, verify: Option<Verify>) -> Request {
    let repository = OciUrl::parse(&format!("oci://{}/signed", server.address), true).unwrap();
    Request::Oci { repository, refs: tag.parse().unwrap(), verify }
}

async fn resolve(request: &Request, previous: Option<&Resolved>) -> Result<(bool, Resolved), SourceError> {
    Ok(match fetcher().resolve(request, None, previous).await? {
        Resolution::Changed(pending) => (true, pending.resolved().clone()),
        Resolution::Unchanged(resolved) => (false, resolved),
    })
}

async fn verdict(content: Content, verify: Verify) -> Result<Resolved, String> {
    let server = content.serve().await;
    let resolved = resolve(&request(&server, "1", Some(verify)), None).await;
    let host = server.address.to_string();
    resolved.map(|(_, resolved)| resolved).map_err(|error| error.to_string().replace(&host, "HOST"))
}

#[tokio::test]
async fn a_signature_is_found_in_either_place() {
    let digest = Digest::of(ARTIFACT);
    let signature = fixture!("cosign/signature-manifest.json");
    for content in [
        Content::unsigned().classic(&digest, signature),
        Content::unsigned().bundles(&format!("referrers/{digest}")),
        Content::unsigned().bundles(&format!("manifests/sha256-{}", digest.hex())),
    ] {
        let resolved = verdict(content, right()).await.unwrap();
        assert_eq!(resolved.revision, format!("1@{digest}"));
        assert_eq!(resolved.verified.unwrap().entry, "release.pub");
    }
}

#[tokio::test]
async fn no_signature_and_other_things_that_refer_to_the_artifact_are_no_signature() {
    let digest = Digest::of(ARTIFACT);
    let missing = format!(
        "verify oci://HOST/signed@{digest}: no signature at tag \"sha256-{}.sig\" or a referrer of type \
         application/vnd.dev.sigstore.bundle; sign it: cosign sign --key",
        digest.hex()
    );
    assert_eq!(verdict(Content::unsigned(), right()).await.unwrap_err(), missing);
    let other = json!({"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": digest, "size": 1, "artifactType": "application/spdx+json"}]});
    let content = Content::unsigned().with(&format!("referrers/{digest}"), other.to_string().as_bytes());
    assert_eq!(verdict(content, right()).await.unwrap_err(), missing);
}

#[tokio::test]
async fn an_attestation_alone_is_refused() {
    let digest = Digest::of(ARTIFACT);
    let manifest = fixture!("cosign/attestation-manifest.json");
    let list = json!({"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": Digest::of(manifest), "size": manifest.len()}]});
    let content =
        Content::unsigned().manifest(manifest).with(&format!("referrers/{digest}"), list.to_string().as_bytes());
    assert_eq!(
        verdict(content, right()).await.unwrap_err(),
        format!(
            "verify oci://HOST/signed@{digest}: the signature at manifest {} is a statement of type \
             \"https://cosign.sigstore.dev/attestation/v1\", which says something about the artifact but does not sign it; \
             expected https://sigstore.dev/cosign/sign/v1 ({SECRET})",
            Digest::of(manifest)
        )
    );
}

#[tokio::test]
async fn another_key_is_refused() {
    let digest = Digest::of(ARTIFACT);
    let content = Content::unsigned().classic(&digest, fixture!("cosign/signature-manifest.json"));
    assert_eq!(
        verdict(content.bundles(&format!("referrers/{digest}")), keys(fixture!("other-ecdsa.pub"))).await.unwrap_err(),
        format!(
            "verify oci://HOST/signed@{digest}: the signature at tag \"sha256-{}.sig\" was made with none of the keys \
             release.pub, or for other bytes ({SECRET})",
            digest.hex()
        )
    );
}

#[tokio::test]
async fn the_signature_of_another_artifact_is_refused() {
    let other = String::from_utf8(ARTIFACT.to_vec()).unwrap().replace("outrigger.test", "outrigger.evil");
    let digest = Digest::of(&other);
    let other_artifact = || Content::unsigned().with("manifests/1", other.as_bytes());
    let expected = format!("is for sha256:{}, not for {digest}", Digest::of(ARTIFACT).hex());
    let classic = other_artifact().classic(&digest, fixture!("cosign/signature-manifest.json"));
    for content in [classic, other_artifact().bundles(&format!("referrers/{digest}"))] {
        let text = verdict(content, right()).await.unwrap_err();
        assert!(text.replace('"', "").contains(&expected), "{text}");
    }
}

#[tokio::test]
async fn a_changed_payload_and_an_oversized_one_are_refused() {
    let digest = Digest::of(ARTIFACT);
    let text = String::from_utf8(fixture!("cosign/signature-manifest.json").to_vec()).unwrap();
    let payload = String::from_utf8(fixture!("cosign/payload.json").to_vec()).unwrap();
    let changed = payload.replace("\"optional\":null", "\"optional\":{}  ");
    assert_ne!(changed, payload);
    let manifest = text.replace(&Digest::of(&payload).to_string(), &Digest::of(&changed).to_string());
    let manifest = manifest.replace("\"size\":238", &format!("\"size\":{}", changed.len()));
    let content = Content::unsigned().with(&format!("blobs/{}", Digest::of(&changed)), changed.as_bytes());
    let text_of = verdict(content.classic(&digest, manifest.as_bytes()), right()).await.unwrap_err();
    assert!(text_of.contains("was made with none of the keys release.pub, or for other bytes"), "{text_of}");

    let manifest = text.replace("\"size\":238", "\"size\":65537");
    let server = Content::unsigned().classic(&digest, manifest.as_bytes()).serve().await;
    let error = resolve(&request(&server, "1", Some(right())), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge, "{error}");
}

#[tokio::test]
async fn a_good_signature_counts_beside_bad_ones() {
    let digest = Digest::of(ARTIFACT);
    let mut manifest: serde_json::Value = serde_json::from_slice(fixture!("cosign/signature-manifest.json")).unwrap();
    let good = manifest["layers"][0].clone();
    let mut bad = good.clone();
    bad["annotations"]["dev.cosignproject.cosign/signature"] = "MEUCIQ==".into();
    let mut none = good.clone();
    none["annotations"] = json!({});
    manifest["layers"] = json!([bad, none, good]);
    let content = Content::unsigned().classic(&digest, manifest.to_string().as_bytes());
    assert!(verdict(content, right()).await.is_ok());
    // and a broken classic one does not hide a bundle
    let content = Content::unsigned().classic(&digest, b"{").bundles(&format!("referrers/{digest}"));
    assert!(verdict(content, right()).await.is_ok());
}

#[tokio::test]
async fn what_was_verified_with_a_trusted_key_is_not_verified_again_and_anything_else_is() {
    let digest = Digest::of(ARTIFACT);
    let server = Content::unsigned().classic(&digest, fixture!("cosign/signature-manifest.json")).serve().await;
    let asked = |server: &Server| server.seen().iter().filter(|seen| seen.target.ends_with(".sig")).count();
    let (_, unverified) = resolve(&request(&server, "1", None), None).await.unwrap();
    assert_eq!((unverified.verified.clone(), asked(&server)), (None, 0));
    let signed = request(&server, "1", Some(right()));
    let (changed, verified) = resolve(&signed, Some(&unverified)).await.unwrap();
    assert!(changed && verified.verified.is_some() && asked(&server) == 1);
    let (changed, again) = resolve(&signed, Some(&verified)).await.unwrap();
    assert!(!changed && again == verified && asked(&server) == 1);
    let other = request(&server, "1", Some(keys(fixture!("other-ecdsa.pub"))));
    let error = resolve(&other, Some(&verified)).await.unwrap_err();
    assert_eq!((error.reason(), error.class()), (Reason::SignatureInvalid, FailureClass::Stalled));
}
