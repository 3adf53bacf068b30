use super::*;
use crate::api::extension::{ConfigMapReference, Source, Verify};
use crate::api::reason::FailureClass;
use crate::digest::Digest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

fn spec(source: Option<Source>) -> OrchestratorExtensionSpec {
    OrchestratorExtensionSpec { source, ..Default::default() }
}

fn signed() -> Source {
    let verify = Verify { provider: "minisign".into(), ..Default::default() };
    Source { url: Some("https://example.com/x.zip".into()), verify: Some(verify), ..Default::default() }
}

fn keys(key: &'static [u8]) -> PublicKeys {
    let data = [("release.pub".to_owned(), key.to_vec())].into();
    PublicKeys::from_secret(Provider::Minisign, "Secret o/keys of spec.source.verify.secretRef", &data).unwrap()
}

const KEY: &[u8] = include_bytes!("../../tests/fixtures/signatures/minisign.pub");
const OTHER: &[u8] = include_bytes!("../../tests/fixtures/signatures/other-minisign.pub");

fn pair(verified: Option<Verification>) -> Artifact {
    Artifact {
        revision: "sha256:a".into(),
        tree_digest: "sha256:t".into(),
        manifest_digest: "sha256:m".into(),
        size: 1,
        files: 1,
        verified,
        linked_manifest: false,
        etag: None,
        last_modified: None,
        last_update_time: Time(Timestamp::UNIX_EPOCH),
    }
}

/// That `KEY` signed, as status keeps it.
fn by_key() -> Verification {
    use base64::Engine as _;
    let line = std::str::from_utf8(KEY).unwrap().lines().nth(1).unwrap();
    let key = Digest::of(base64::engine::general_purpose::STANDARD.decode(line).unwrap());
    recorded(&Verified { provider: Provider::Minisign, entry: "release.pub".into(), key })
}

#[test]
fn where_signatures_are_required_what_asks_for_none_is_stalled() {
    let pinned = Source { digest: Some(Digest::of("x").to_string()), verify: None, ..signed() };
    let config_map = Source { config_map_ref: Some(ConfigMapReference::default()), ..Source::default() };
    for source in [Some(pinned), Some(config_map), Some(Source { verify: None, ..signed() }), None] {
        let failure = required(&spec(source.clone()), true).unwrap_err();
        assert_eq!((failure.class, failure.reason), (FailureClass::Stalled, Reason::VerificationRequired));
        assert_eq!(
            failure.message,
            "spec.source.verify: is missing, and this operator requires it (--require-verification): name the keys of who \
             signs the source. Archives and OCI artifacts can be signed; git repositories and ConfigMaps cannot, and are \
             not installed by this operator; neither is what only a digest pins"
        );
        assert_eq!(required(&spec(source), false), Ok(()));
    }
    assert_eq!(required(&spec(Some(signed())), true), Ok(()));
}

#[test]
fn where_signatures_are_required_a_linked_manifest_is_stalled() {
    let linked = OrchestratorExtensionSpec { manifest_url: Some("https://x/m.yaml".into()), ..spec(Some(signed())) };
    assert_eq!(
        required(&linked, true).unwrap_err().message,
        "spec.manifestURL: a linked manifest cannot be signed, and this operator requires it (--require-verification): \
         put the manifest into the source or the resource, and remove this"
    );
    assert_eq!(required(&linked, false), Ok(()));
}

#[test]
fn what_nobody_signed_is_restored_only_where_no_signature_is_asked_for() {
    assert_eq!(restorable(&pair(None), None, false), Ok(()));
    let failure = restorable(&pair(None), Some(&keys(KEY)), false).unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Stalled, Reason::SignatureMissing));
    assert_eq!(
        failure.message,
        "spec.revision: sha256:t (sha256:a) was installed without a verified signature, and spec.source.verify asks for \
         one; choose another of status.history, or remove spec.revision"
    );
}

#[test]
fn a_linked_manifest_is_not_restored_where_signatures_are_required() {
    let linked = Artifact { linked_manifest: true, ..pair(Some(by_key())) };
    let failure = restorable(&linked, Some(&keys(KEY)), true).unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Stalled, Reason::VerificationRequired));
    assert_eq!(
        failure.message,
        "spec.revision: sha256:t (sha256:a) was installed with a linked manifest, which cannot be signed, and this \
         operator requires it (--require-verification); choose another of status.history, or remove spec.revision"
    );
    assert_eq!(restorable(&linked, Some(&keys(KEY)), false), Ok(()));
    assert_eq!(restorable(&pair(Some(by_key())), Some(&keys(KEY)), true), Ok(()));
}

#[test]
fn what_a_key_signed_that_was_withdrawn_is_not_restored() {
    assert_eq!(restorable(&pair(Some(by_key())), Some(&keys(KEY)), false), Ok(()));
    let failure = restorable(&pair(Some(by_key())), Some(&keys(OTHER)), false).unwrap_err();
    assert_eq!(
        failure.message,
        "spec.revision: sha256:t (sha256:a) was signed with release.pub, whose key is not in Secret o/keys of \
         spec.source.verify.secretRef, and spec.source.verify asks for one; choose another of status.history, or remove \
         spec.revision"
    );
}

#[test]
fn status_keeps_what_it_takes_to_know_the_key_again() {
    let artifact = pair(Some(by_key()));
    let read = verified(&artifact).unwrap();
    assert!(keys(KEY).trust(&read) && !keys(OTHER).trust(&read));
    assert_eq!(artifact.verified, Some(recorded(&read)));
    let unreadable = Verification { key_digest: "x".into(), ..by_key() };
    assert_eq!(verified(&pair(Some(unreadable))), None);
}
