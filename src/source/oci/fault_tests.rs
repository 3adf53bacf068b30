//! Registries that lie, leak or never end: a server in this process stands for them.

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

use super::*;
use crate::api::reason::{FailureClass, Reason};
use crate::archive::Limits;
use crate::digest::Digest;
use crate::source::testing::{Seen, Server, bytes, fetcher, redirect, status};
use crate::source::{Credentials, Pending, Request, Resolution, Resolved, SourceError};

const SCRIPT: &[u8] = b"#!/bin/sh\n";

fn manifest(layer: &[u8]) -> Vec<u8> {
    let annotations = json!({"org.opencontainers.image.title": "run.sh"});
    let layer = json!({"mediaType": "text/plain", "digest": Digest::of(layer), "size": layer.len(), "annotations": annotations});
    json!({"schemaVersion": 2, "layers": [layer]}).to_string().into_bytes()
}

fn with_header(name: &str, value: &str, content: Vec<u8>) -> Response {
    Response::builder().header(name, value).body(Body::from(content)).unwrap()
}

fn challenge(value: &str) -> Response {
    Response::builder().status(401).header("www-authenticate", value).body(Body::empty()).unwrap()
}

fn url(server: &Server) -> OciUrl {
    OciUrl::parse(&format!("oci://{}/team/ext", server.address), true).unwrap()
}

fn request(server: &Server, refs: OciRef) -> Request {
    Request::Oci { repository: url(server), refs, verify: None }
}

fn latest(server: &Server) -> Request {
    request(server, OciRef::Tag(Tag::latest()))
}

fn login(origins: &str) -> Credentials {
    let data = [("username".to_owned(), b"bob".to_vec()), ("password".to_owned(), b"hunter2".to_vec())].into();
    Credentials::from_secret("login", &data, Some(origins)).unwrap()
}

async fn pending(request: &Request, credentials: Option<&Credentials>) -> Result<Pending, SourceError> {
    match fetcher().resolve(request, credentials, None).await? {
        Resolution::Changed(pending) => Ok(pending),
        Resolution::Unchanged(resolved) => panic!("unchanged: {resolved:?}"),
    }
}

async fn fetched(server: &Server, credentials: Option<&Credentials>) -> Result<Vec<u8>, SourceError> {
    let pending = pending(&latest(server), credentials).await?;
    let dest = tempfile::tempdir().unwrap();
    fetcher().fetch(pending, credentials, dest.path(), Limits::default()).await?;
    Ok(std::fs::read(dest.path().join("run.sh")).unwrap())
}

fn targets(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
}

fn authorization(seen: &[Seen]) -> Vec<Option<String>> {
    let of = |seen: &Seen| seen.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    seen.iter().map(of).collect()
}

#[tokio::test]
async fn the_digest_is_that_of_the_bytes_not_the_one_in_the_header() {
    let lie = Digest::of("lie").to_string();
    let server = Server::start(move |_| with_header("docker-content-digest", &lie, manifest(SCRIPT))).await;
    let found = pending(&latest(&server), None).await.unwrap();
    assert_eq!(found.resolved().revision, format!("latest@{}", Digest::of(manifest(SCRIPT))));
}

#[tokio::test]
async fn a_pinned_manifest_with_other_bytes_is_refused() {
    let server = Server::start(|_| bytes(manifest(SCRIPT))).await;
    let pin = Digest::of("pinned");
    let error = pending(&request(&server, OciRef::Digest(pin)), None).await.unwrap_err();
    let (actual, length) = (Digest::of(manifest(SCRIPT)), manifest(SCRIPT).len());
    let expected = format!("fetch {}: the registry sent {length} bytes with digest {actual} for {pin}", url(&server));
    assert_eq!(error.to_string(), expected);
    assert_eq!((error.reason(), error.class()), (Reason::DigestMismatch, FailureClass::Transient));
}

#[tokio::test]
async fn a_blob_with_other_bytes_is_never_written() {
    for (sent, expected) in [
        (&b"#!/bin/no\n"[..], "the registry sent 10 bytes with digest "),
        (b"#!/bin", "the registry sent 6 bytes for sha256:"),
        (b"#!/bin/sh\nmore", "larger than the 10 bytes that are allowed"),
    ] {
        let server = Server::start(move |seen| match seen.target.contains("/blobs/") {
            true => bytes(sent),
            false => bytes(manifest(SCRIPT)),
        })
        .await;
        let found = pending(&latest(&server), None).await.unwrap();
        let dest = tempfile::tempdir().unwrap();
        let error = fetcher().fetch(found, None, dest.path(), Limits::default()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(dest.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn an_index_within_an_index_is_refused() {
    let index = |inner: &[u8]| {
        let entry = json!({"mediaType": "m/m", "digest": Digest::of(inner), "size": inner.len()});
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes()
    };
    let inner = index(b"whatever");
    let outer = index(&inner);
    let server = Server::start(move |seen| match seen.target.ends_with("/latest") {
        true => bytes(outer.clone()),
        false => bytes(inner.clone()),
    })
    .await;
    let error = pending(&latest(&server), None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("fetch {}: {}", url(&server), OciFault::NestedIndex));
    assert_eq!(error.class(), FailureClass::Stalled);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn sizes_are_bounded_before_anything_is_downloaded() {
    let large = json!({"mediaType": "application/x-tar", "digest": Digest::of("x"), "size": u64::MAX});
    let large = json!({"schemaVersion": 2, "layers": [large]}).to_string();
    let server = Server::start(move |_| bytes(large.clone())).await;
    let error = fetched(&server, None).await.unwrap_err();
    assert_eq!((error.reason(), server.seen().len()), (Reason::TooLarge, 1), "{error}");
    let server = Server::start(|_| bytes(vec![b' '; 5 << 20])).await;
    let error = fetched(&server, None).await.unwrap_err();
    assert!(error.to_string().contains("larger than the 4194304 bytes that are allowed"), "{error}");
}

#[tokio::test]
async fn a_registry_that_names_no_digest_is_asked_for_the_manifest() {
    let server = Server::start(|_| bytes(manifest(SCRIPT))).await;
    let known: Resolved = pending(&latest(&server), None).await.unwrap().resolved().clone();
    let again = fetcher().resolve(&latest(&server), None, Some(&known)).await.unwrap();
    assert!(matches!(again, Resolution::Unchanged(resolved) if resolved == known));
    let manifest = "/v2/team/ext/manifests/latest";
    assert_eq!(targets(&server.seen()), ["GET", "HEAD", "GET"].map(|method| format!("{method} {manifest}")));
}

#[tokio::test]
async fn a_token_stays_with_the_registry_when_a_blob_lies_elsewhere() {
    let elsewhere = Server::start(|_| bytes(SCRIPT)).await;
    let blobs = elsewhere.url("/cdn");
    let registry = Server::start(move |seen| match seen.headers.get("authorization") {
        _ if seen.target.starts_with("/token") => bytes(r#"{"token": "t0ken"}"#),
        None => challenge(&format!(
            "Bearer realm=\"http://{}/token\",service=\"s\"",
            seen.headers["host"].to_str().unwrap()
        )),
        Some(_) if seen.target.contains("/blobs/") => redirect(&blobs),
        Some(_) => bytes(manifest(SCRIPT)),
    })
    .await;
    let secret = login(&format!("{} {}", registry.url(""), elsewhere.url("")));
    assert_eq!(fetched(&registry, Some(&secret)).await.unwrap(), SCRIPT);
    assert_eq!(authorization(&elsewhere.seen()), [None], "although the Secret allows that origin, too");
    let basic = Some("Basic Ym9iOmh1bnRlcjI=".to_owned());
    let bearer = Some("Bearer t0ken".to_owned());
    let asked = [None, basic, bearer];
    assert_eq!(authorization(&registry.seen()), [asked.clone(), asked].concat());
    assert_eq!(targets(&registry.seen())[1], "GET /token?service=s&scope=repository%3Ateam%2Fext%3Apull");
}

#[tokio::test]
async fn a_token_server_that_the_secret_does_not_allow_is_never_asked() {
    let tokens = Server::start(|_| bytes(r#"{"token": "t0ken"}"#)).await;
    let realm = format!("Bearer realm=\"{}\"", tokens.url("/token"));
    let registry = Server::start(move |seen| match seen.headers.contains_key("authorization") {
        true => bytes(manifest(SCRIPT)),
        false => challenge(&realm),
    })
    .await;
    let error = fetched(&registry, Some(&login(&registry.url("")))).await.unwrap_err();
    let origin = tokens.url("");
    assert_eq!(
        error.to_string(),
        format!(
            "fetch {}: the registry hands out its tokens at {origin}, where Secret \"login\" may not be sent; if that server is to \
             be trusted, add {origin} to the Secret's annotation outrigger.dev/allowed-origins",
            url(&registry)
        )
    );
    assert_eq!((error.reason(), error.class()), (Reason::SecretNotUsable, FailureClass::Transient));
    assert!(tokens.seen().is_empty());
    // without a Secret there is nothing to give away
    pending(&latest(&registry), None).await.unwrap();
    assert_eq!(authorization(&tokens.seen()), [None]);
}

#[tokio::test]
async fn a_token_server_without_a_token_and_one_that_refuses_are_told_apart() {
    for (answer, expected) in [(200, "gave no usable token"), (401, "the server refused access (HTTP 401)")] {
        let registry = Server::start(move |seen| match seen.target.starts_with("/token") {
            true if answer == 200 => bytes("<html>hunter2</html>"),
            true => status(answer),
            false => {
                let host = seen.headers["host"].to_str().unwrap();
                challenge(&format!("Bearer realm=\"http://{host}/token?key=s3cret\""))
            }
        })
        .await;
        let error = fetched(&registry, Some(&login(&registry.url("")))).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2") && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn tags_come_in_pages_which_stay_within_the_registry_and_end() {
    let page = |tags: Value, next: &str| with_header("link", next, json!({"tags": tags}).to_string().into_bytes());
    let server = Server::start(move |seen| match seen.target.as_str() {
        "/v2/team/ext/tags/list?n=1000" => {
            page(json!(["1.0.0", "latest"]), "</v2/team/ext/tags/list?last=b>; rel=\"next\"")
        }
        "/v2/team/ext/tags/list?last=b" => bytes(r#"{"tags": ["v1.2.0", "2.0.0"]}"#),
        _ => bytes(manifest(SCRIPT)),
    })
    .await;
    let found = pending(&request(&server, "^1.0".parse().unwrap()), None).await.unwrap();
    assert_eq!(found.resolved().revision, format!("v1.2.0@{}", Digest::of(manifest(SCRIPT))));
    let error = pending(&request(&server, "^3".parse().unwrap()), None).await.unwrap_err();
    assert!(error.to_string().ends_with("the repository has no tag with a semantic version in the range \"^3\""));
    for (link, expected) in [
        ("<https://elsewhere.example/v2/>; rel=next", "its next page is not within the registry"),
        (
            "</v2/team/ext/tags/list>; rel=next",
            "the registry lists more than 100 pages of tags; name a tag or a digest",
        ),
    ] {
        let server = Server::start(move |_| page(Value::Null, link)).await;
        let error = pending(&request(&server, "*".parse().unwrap()), None).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(server.seen().len() <= 100);
    }
}

#[tokio::test]
async fn a_tag_called_like_a_range_is_asked_for_before_any_list() {
    let known = |name: &'static str| {
        move |seen: &Seen| match seen.target.strip_prefix("/v2/team/ext/") {
            Some("tags/list?n=1000") => bytes(r#"{"tags": ["4.1.0", "4.2.0", "5.0.0"]}"#),
            Some(target) if target == format!("manifests/{name}") => bytes(manifest(SCRIPT)),
            _ => status(404),
        }
    };
    for (name, lists) in [("4.x", 0), ("4.2.0", 1)] {
        let server = Server::start(known(name)).await;
        let found = pending(&request(&server, "4.x".parse().unwrap()), None).await.unwrap();
        assert_eq!(found.resolved().revision, format!("{name}@{}", Digest::of(manifest(SCRIPT))));
        assert_eq!(server.seen().iter().filter(|seen| seen.target.contains("tags/list")).count(), lists, "{name}");
    }
    let server = Server::start(known("none")).await;
    let error = pending(&request(&server, "6.x".parse().unwrap()), None).await.unwrap_err();
    let expected = "the repository has no tag \"6.x\", and no tag with a semantic version in that range";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn a_tag_of_the_list_that_no_tag_can_be_is_not_asked_for() {
    let server = Server::start(|_| bytes(r#"{"tags": ["1.0.0+/../../../x"]}"#)).await;
    let error = pending(&request(&server, "*".parse().unwrap()), None).await.unwrap_err();
    assert_eq!((error.reason(), server.seen().len()), (Reason::NotFound, 1), "{error}");
}

#[tokio::test]
async fn pages_of_a_list_are_bounded_together_and_only_what_is_of_use_is_kept() {
    let filler = "x".repeat(3 << 20);
    let tags = json!({"tags": [filler, "1.0.0", ""]}).to_string().into_bytes();
    let entry = json!({"mediaType": "m/m", "digest": Digest::of("s"), "size": 7, "annotations": {"a": filler}});
    let referrers = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let server = Server::start(move |seen| {
        let page = if seen.target.contains("/tags/") { &tags } else { &referrers };
        let next = format!("<{}>; rel=next", seen.target);
        with_header("link", &next, page.clone())
    })
    .await;
    let repository = fetcher().repository(&url(&server), None).unwrap();
    let expected = format!("fetch {}: the registry lists more than 8 MiB; name a tag or a digest", url(&server));
    assert_eq!(repository.tags().await.unwrap_err().to_string(), expected);
    assert_eq!(repository.referrers(&Digest::of("subject")).await.unwrap_err().to_string(), expected);
    assert_eq!(server.seen().len(), 6);
    let tags = json!({"tags": ["x".repeat(129), "1.0.0", "", "-"]}).to_string();
    let server = Server::start(move |_| bytes(tags.clone())).await;
    let repository = fetcher().repository(&url(&server), None).unwrap();
    assert_eq!(repository.tags().await.unwrap(), ["1.0.0".parse().unwrap()]);
}

#[tokio::test]
async fn no_token_server_and_no_redirect_leads_to_a_denied_address() {
    const METADATA: &str = "http://169.254.169.254/latest/meta-data/";
    let realm = Server::start(|_| challenge(&format!("Bearer realm=\"{METADATA}\",service=\"x\""))).await;
    let blob = Server::start(|seen| match seen.target.contains("/blobs/") {
        true => redirect(METADATA),
        false => bytes(manifest(SCRIPT)),
    })
    .await;
    for (server, secret) in
        [(&realm, None), (&realm, Some(format!("{} http://169.254.169.254", realm.url("")))), (&blob, None)]
    {
        let credentials = secret.map(|origins| login(&origins));
        let error = fetched(server, credentials.as_ref()).await.unwrap_err();
        assert_eq!((error.reason(), error.class()), (Reason::AddressDenied, FailureClass::Stalled), "{error}");
        assert!(error.to_string().contains("169.254.169.254 is a cloud's metadata service"), "{error}");
    }
}

#[tokio::test]
async fn referrers_come_from_the_registry_that_lists_them() {
    let entry = json!({"mediaType": "m/m", "digest": Digest::of("s"), "size": 7, "artifactType": "a/a"});
    let list = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let server = Server::start(move |_| bytes(list.clone())).await;
    let repository = fetcher().repository(&url(&server), None).unwrap();
    let listed = repository.referrers(&Digest::of("subject")).await.unwrap();
    assert_eq!((listed[0].digest, listed[0].artifact_type.as_deref()), (Digest::of("s"), Some("a/a")));
    let server = Server::start(|_| status(404)).await;
    let repository = fetcher().repository(&url(&server), None).unwrap();
    assert_eq!(repository.referrers(&Digest::of("subject")).await.unwrap(), []);
    let fallback = format!("GET /v2/team/ext/manifests/{}", Digest::of("subject").to_string().replace(':', "-"));
    assert_eq!(targets(&server.seen())[1], fallback);
}

#[tokio::test]
async fn a_registry_outside_the_allowed_origins_is_refused_before_any_request() {
    let server = Server::start(|_| bytes(manifest(SCRIPT))).await;
    let error = pending(&latest(&server), Some(&login("https://ghcr.io"))).await.unwrap_err();
    let (url, origin) = (url(&server), server.url(""));
    assert_eq!(
        error.to_string(),
        format!(
            "fetch {url}: Secret \"login\" may not be sent to {origin}; its annotation outrigger.dev/allowed-origins allows \
             https://ghcr.io"
        )
    );
    assert!(server.seen().is_empty());
}
