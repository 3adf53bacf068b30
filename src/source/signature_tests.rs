//! Signed archives from servers that are well, ill, or hostile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;

use super::testing::{Server, bytes, fetcher, redirect, status};
use super::*;
use crate::api::reason::{FailureClass, Reason};
use crate::archive::Limits;
use crate::digest::Digest;
use crate::signature::{Provider, PublicKeys};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/signatures/", $name)).as_slice()
    };
}

const ARCHIVE: &[u8] = fixture!("signed.tar.gz");
const MINISIG: &[u8] = fixture!("signed.tar.gz.minisig");
const SECRET: &str = "Secret outrigger-system/keys of spec.source.verify.secretRef";

fn verify(provider: Provider, key: &[u8]) -> Verify {
    let data = [("release.pub".to_owned(), key.to_vec())].into();
    let keys = PublicKeys::from_secret(provider, SECRET, &data).unwrap();
    Verify { keys: Arc::new(keys), signature_url: None }
}

fn minisign() -> Verify {
    verify(Provider::Minisign, fixture!("minisign.pub"))
}

fn cosign() -> Verify {
    verify(Provider::Cosign, fixture!("ecdsa.pub"))
}

fn request(url: &str, verify: Verify) -> Request {
    Request::Archive { url: SourceUrl::parse(url).unwrap(), digest: None, verify: Some(verify) }
}

/// A server of the archive and of what `signatures` says, by the end of the path.
async fn server(signatures: Vec<(&'static str, &'static [u8])>) -> Server {
    Server::start(move |seen| {
        let path = seen.target.split('?').next().unwrap();
        if path.ends_with(".tar.gz") {
            return Response::builder().header("etag", "\"v1\"").body(ARCHIVE.into()).unwrap();
        }
        let found = signatures.iter().find(|(end, _)| path.ends_with(end));
        found.map_or_else(|| status(404), |(_, content)| bytes(*content))
    })
    .await
}

async fn resolve(request: &Request, previous: Option<&Resolved>) -> Result<Resolution, SourceError> {
    fetcher().resolve(request, None, previous).await
}

async fn resolved(request: &Request, previous: Option<&Resolved>) -> (bool, Resolved) {
    match resolve(request, previous).await.unwrap() {
        Resolution::Changed(pending) => (true, pending.resolved().clone()),
        Resolution::Unchanged(resolved) => (false, resolved),
    }
}

#[tokio::test]
async fn a_signed_archive_is_unpacked_and_its_key_known() {
    for (verify, signatures) in
        [(minisign(), vec![(".minisig", MINISIG)]), (cosign(), vec![(".sig", fixture!("signed.tar.gz.sig"))])]
    {
        let server = server(signatures).await;
        let request = request(&server.url("/signed.tar.gz"), verify);
        let Resolution::Changed(pending) = resolve(&request, None).await.unwrap() else { panic!("unchanged") };
        let verified = pending.resolved().verified.clone().unwrap();
        assert_eq!(verified.entry, "release.pub");
        let dest = tempfile::tempdir().unwrap();
        let fetched = fetcher().fetch(pending, None, dest.path(), Limits::default()).await.unwrap();
        assert!(dest.path().join("hello.sh").exists());
        assert_eq!(fetched.resolved.verified, Some(verified));
    }
}

#[tokio::test]
async fn a_tampered_archive_is_refused() {
    let mut tampered = ARCHIVE.to_vec();
    tampered[200] ^= 1;
    let server = Server::start(move |seen| match seen.target.as_str() {
        "/x.tar.gz" => bytes(tampered.clone()),
        _ => bytes(MINISIG),
    })
    .await;
    let url = server.url("/x.tar.gz");
    let error = resolve(&request(&url, minisign()), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "verify {url}: the signature at {url}.minisig does not fit the bytes: they are not those that were signed with \
             release.pub ({SECRET})"
        )
    );
    assert_eq!((error.reason(), error.class()), (Reason::SignatureInvalid, FailureClass::Stalled));
}

#[tokio::test]
async fn a_missing_signature_is_named_with_every_place_where_it_could_be() {
    let server = server(vec![]).await;
    let url = server.url("/x.tar.gz");
    let error = resolve(&request(&url, minisign()), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "verify {url}: no signature at {url}.minisig; publish it there, or say in spec.source.verify.signatureURL where \
             it is"
        )
    );
    assert_eq!((error.reason(), error.class()), (Reason::SignatureMissing, FailureClass::Transient));
    let error = resolve(&request(&url, cosign()), None).await.unwrap_err().to_string();
    assert!(error.contains(&format!("no signature at {url}.sig or {url}.sigstore.json or {url}.bundle;")), "{error}");
}

#[tokio::test]
async fn the_wrong_key_and_a_swapped_signature_are_refused() {
    let server = server(vec![(".minisig", MINISIG), (".sig", fixture!("signed.tar.gz.minisig"))]).await;
    let url = server.url("/x.tar.gz");
    let wrong = verify(Provider::Minisign, fixture!("other-minisign.pub"));
    let error = resolve(&request(&url, wrong), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SignatureInvalid);
    assert!(error.to_string().contains("was made with none of the keys release.pub (Secret"), "{error}");
    let error = resolve(&request(&url, cosign()), None).await.unwrap_err();
    assert!(error.to_string().contains("is no cosign signature"), "{error}");
}

#[tokio::test]
async fn a_later_place_serves_where_an_earlier_one_has_nothing_good() {
    let right = fixture!("signed.tar.gz.sig");
    for earlier in [
        vec![(".bundle", fixture!("signed.tar.gz.sig"))],
        vec![(".sig", b"stale".as_slice()), (".bundle", fixture!("signed.tar.gz.sig"))],
    ] {
        let server = server(earlier).await;
        assert!(resolve(&request(&server.url("/x.tar.gz"), cosign()), None).await.is_ok());
    }
    // object stores answer 403 for what is not there
    let server = Server::start(move |seen| match seen.target.rsplit('.').next() {
        Some("gz") => bytes(ARCHIVE),
        Some("bundle") => bytes(right),
        _ => status(403),
    })
    .await;
    assert!(resolve(&request(&server.url("/x.tar.gz"), cosign()), None).await.is_ok());
    let error = resolve(&request(&server.url("/x.tar.gz"), minisign()), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthenticationFailed, "{error}");
}

#[tokio::test]
async fn an_oversized_signature_is_refused() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/x.tar.gz" => bytes(ARCHIVE),
        _ => bytes(vec![b'A'; (64 << 10) + 1]),
    })
    .await;
    let url = server.url("/x.tar.gz");
    let error = resolve(&request(&url, minisign()), None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("fetch {url}.minisig: larger than the 65536 bytes that are allowed"));
    assert_eq!(error.reason(), Reason::TooLarge);
}

#[tokio::test]
async fn a_query_goes_with_the_signatures_address_and_is_not_shown() {
    let server = server(vec![]).await;
    let error = resolve(&request(&server.url("/x.tar.gz?token=s3cret"), minisign()), None).await.unwrap_err();
    assert_eq!(server.seen()[1].target, "/x.tar.gz.minisig?token=s3cret");
    assert!(!error.to_string().contains("s3cret") && error.to_string().contains("/x.tar.gz.minisig?…"), "{error}");
}

#[tokio::test]
async fn a_signature_elsewhere_is_fetched_without_credentials_that_are_not_for_there() {
    let elsewhere = server(vec![("/signature", MINISIG)]).await;
    let server = server(vec![]).await;
    let signature_url = Some(SourceUrl::parse(&elsewhere.url("/signature")).unwrap());
    let request = request(&server.url("/x.tar.gz"), Verify { signature_url, ..minisign() });
    let data = [("bearerToken".to_owned(), b"s3cret".to_vec())].into();
    let credentials = Credentials::from_secret("token", &data, Some(&server.url(""))).unwrap();
    fetcher().resolve(&request, Some(&credentials), None).await.unwrap();
    assert!(server.seen()[0].headers.contains_key("authorization"));
    assert!(!elsewhere.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_signature_comes_through_the_same_door() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/x.tar.gz" => bytes(ARCHIVE),
        _ => redirect("http://169.254.169.254/latest/meta-data/"),
    })
    .await;
    let error = resolve(&request(&server.url("/x.tar.gz"), minisign()), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AddressDenied, "{error}");
}

#[tokio::test]
async fn what_was_verified_with_a_trusted_key_is_not_verified_again() {
    let is_signed = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_signed);
    let server = Server::start(move |seen| match seen.target.as_str() {
        "/x.tar.gz" if seen.headers.contains_key("if-none-match") => status(304),
        "/x.tar.gz" => Response::builder().header("etag", "\"v1\"").body(ARCHIVE.into()).unwrap(),
        _ if asked.load(Ordering::SeqCst) => bytes(MINISIG),
        _ => status(404),
    })
    .await;
    let request = request(&server.url("/x.tar.gz"), minisign());
    let (_, first) = resolved(&request, None).await;
    is_signed.store(false, Ordering::SeqCst);
    let (changed, again) = resolved(&request, Some(&first)).await;
    assert!(!changed && again == first);
    // as after a restart, which leaves no validators
    let kept = Resolved::known(&request, &first.revision, first.verified.clone());
    let (changed, again) = resolved(&request, Some(&kept)).await;
    assert!(!changed && again.verified == first.verified);
    let asked_for: Vec<_> = server.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(asked_for, ["/x.tar.gz", "/x.tar.gz.minisig", "/x.tar.gz", "/x.tar.gz"]);
}

#[tokio::test]
async fn what_was_fetched_without_a_trusted_signature_is_fetched_and_verified_anew() {
    let server = server(vec![(".minisig", MINISIG), (".sig", fixture!("signed.tar.gz.sig"))]).await;
    let url = server.url("/x.tar.gz");
    let unsigned = Request::Archive { url: SourceUrl::parse(&url).unwrap(), digest: None, verify: None };
    let (_, unverified) = resolved(&unsigned, None).await;
    assert_eq!(unverified.verified, None);
    let (changed, with_minisign) = resolved(&request(&url, minisign()), Some(&unverified)).await;
    assert!(changed && with_minisign.verified.is_some());
    // another provider, another key
    let (changed, with_cosign) = resolved(&request(&url, cosign()), Some(&with_minisign)).await;
    assert!(changed && with_cosign.verified != with_minisign.verified);
    let other = verify(Provider::Minisign, fixture!("other-minisign.pub"));
    let error = resolve(&request(&url, other), Some(&with_minisign)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SignatureInvalid);
    // nor does a pin spare it
    let url = SourceUrl::parse(&url).unwrap();
    let digest = Some(Digest::of(ARCHIVE));
    let pinned = Request::Archive { url, digest, verify: Some(minisign()) };
    let before = server.seen().len();
    assert!(resolved(&pinned, Some(&unverified)).await.0);
    assert_eq!(server.seen().len(), before + 2);
}
