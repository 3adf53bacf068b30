//! Git, archive and registry alike: over TLS, through a proxy, and with a bearer token.

use std::process::Command;

use axum::http::header::HOST;
use serde_json::json;

use super::testing::{FixedLookup, GitServer, Seen, Server, bytes, fetcher, options};
use super::tls_fixtures::{BEHIND_PROXY, acceptor, front, pair, proxy, secret};
use super::*;
use crate::api::reason::Reason;
use crate::archive::Limits;
use crate::digest::Digest;

const SCRIPT: &[u8] = b"#!/bin/sh\n";

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(SCRIPT.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "run.sh", SCRIPT).unwrap();
    builder.into_inner().unwrap()
}

/// A registry and an archive server in one.
fn answer(seen: &Seen) -> axum::response::Response {
    let annotations = json!({"org.opencontainers.image.title": "run.sh"});
    let digest = Digest::of(SCRIPT);
    let layer = json!({"mediaType": "text/plain", "digest": digest, "size": SCRIPT.len(), "annotations": annotations});
    match seen.target.as_str() {
        target if target.contains("/blobs/") => bytes(SCRIPT),
        target if target.contains("/manifests/") => bytes(json!({"schemaVersion": 2, "layers": [layer]}).to_string()),
        _ => bytes(archive()),
    }
}

/// One server of each kind, with the same script.
struct Servers {
    http: Server,
    git: GitServer,
}

impl Servers {
    async fn start() -> Self {
        let git = GitServer::start(None).await;
        std::fs::write(git.work().join("run.sh"), SCRIPT).unwrap();
        git.publish("one");
        Self { http: Server::start(answer).await, git }
    }

    /// A source of each kind: archive and registry at one origin, git at another.
    fn requests(http: &str, git: &str) -> [Request; 3] {
        let url = |origin: &str, path: &str| SourceUrl::parse(&format!("{origin}{path}")).unwrap();
        let (scheme, host) = http.split_once("://").unwrap();
        let repository = OciUrl::parse(&format!("oci://{host}/team/ext"), scheme == "http").unwrap();
        [
            Request::Archive { url: url(http, "/x.tar"), digest: None, verify: None },
            Request::Oci { repository, refs: "v1".parse().unwrap(), verify: None },
            Request::Git { url: url(git, "/x.git"), refs: Some("trunk".parse().unwrap()) },
        ]
    }

    fn seen(&self) -> Vec<Seen> {
        [self.http.seen(), self.git.http.seen()].concat()
    }
}

async fn fetched(
    fetcher: &Fetcher,
    request: &Request,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, SourceError> {
    let Resolution::Changed(pending) = fetcher.resolve(request, credentials, None).await? else { panic!("unchanged") };
    let dest = tempfile::tempdir().unwrap();
    fetcher.fetch(pending, credentials, dest.path(), Limits::default()).await?;
    Ok(std::fs::read(dest.path().join("run.sh")).unwrap())
}

#[tokio::test]
async fn every_kind_of_source_trusts_the_secrets_authority_and_shows_its_certificate() {
    let servers = Servers::start().await;
    let (server, client) = (pair(), pair());
    let ca = ("ca.crt", server.certificate.pem());
    let own = [("tls.crt", client.certificate.pem()), ("tls.key", client.key.serialize_pem())];
    for wanted in [None, Some(&client)] {
        let origin =
            async |address| format!("https://localhost:{}", front(acceptor(&server, wanted), address).await.port());
        let (http, git) = (origin(servers.http.address).await, origin(servers.git.http.address).await);
        let origins = format!("{http} {git}");
        let trusting = secret(&origins, std::slice::from_ref(&ca));
        let identified = secret(&origins, &[vec![ca.clone()], own.to_vec()].concat());
        for request in Servers::requests(&http, &git) {
            let error = fetched(&fetcher(), &request, None).await.unwrap_err();
            assert!(error.to_string().contains("certificate"), "{error}");
            assert_eq!(error.reason(), Reason::FetchFailed);
            assert_eq!(fetched(&fetcher(), &request, Some(&identified)).await.unwrap(), SCRIPT);
            let without = fetched(&fetcher(), &request, Some(&trusting)).await;
            assert_eq!(without.is_ok(), wanted.is_none(), "{request:?}: {without:?}");
        }
    }
}

fn behind(proxy: String, address: &str) -> Fetcher {
    let options = FetchOptions { proxy: Some(proxy.parse().unwrap()), allow: AddressPolicy::default(), ..options() };
    Fetcher::with_lookup(options, FixedLookup::new(&[&[address]])).unwrap()
}

#[tokio::test]
async fn every_kind_of_source_goes_through_a_proxy_in_the_clear() {
    let servers = Servers::start().await;
    let origin = format!("http://{BEHIND_PROXY}");
    let [archive, registry, git] = Servers::requests(&origin, &origin);
    let (http_proxy, git_proxy) = (servers.http.url(""), servers.git.http.url(""));
    for (proxy, request) in [(&http_proxy, archive), (&http_proxy, registry), (&git_proxy, git)] {
        assert_eq!(fetched(&behind(proxy.clone(), "1.1.1.1"), &request, None).await.unwrap(), SCRIPT);
    }
    assert!(servers.seen().iter().all(|seen| seen.headers[HOST] == BEHIND_PROXY));
}

#[tokio::test]
async fn every_kind_of_source_goes_through_a_proxy_by_connect_and_the_filter_holds_before_it() {
    let servers = Servers::start().await;
    let server = pair();
    let origin = format!("https://{BEHIND_PROXY}");
    let trusting = secret(&origin, &[("ca.crt", server.certificate.pem())]);
    let [archive, registry, git] = Servers::requests(&origin, &origin);
    let tls = async |address| proxy(front(acceptor(&server, None), address).await).await;
    let (http_proxy, http_asked) = tls(servers.http.address).await;
    let (git_proxy, git_asked) = tls(servers.git.http.address).await;
    for (proxy, asked, request) in
        [(http_proxy, &http_asked, archive), (http_proxy, &http_asked, registry), (git_proxy, &git_asked, git)]
    {
        let fetcher = behind(format!("http://{proxy}"), "1.1.1.1");
        assert_eq!(fetched(&fetcher, &request, Some(&trusting)).await.unwrap(), SCRIPT);
        let before = asked.lock().unwrap().clone();
        assert!(
            !before.is_empty() && before.iter().all(|line| *line == format!("CONNECT {BEHIND_PROXY}:443")),
            "{before:?}"
        );
        let fetcher = behind(format!("http://{proxy}"), "169.254.169.254");
        let error = fetched(&fetcher, &request, Some(&trusting)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::AddressDenied, "{error}");
        assert_eq!(*asked.lock().unwrap(), before);
    }
}

#[test]
fn proxy_variables_of_the_environment_are_ignored() {
    const CHILD: &str = "OUTRIGGER_TEST_WITH_PROXY_VARIABLES";
    const NAME: &str = "source::transport_tests::proxy_variables_of_the_environment_are_ignored";
    if std::env::var_os(CHILD).is_none() {
        // Variables are a process's own, so that this test is run once more in one that has them.
        let mut child = Command::new(std::env::current_exe().unwrap());
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            child.env(variable, "http://127.0.0.1:9");
        }
        let output = child.args([NAME, "--exact"]).env(CHILD, "1").env_remove("NO_PROXY").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let servers = Servers::start().await;
        let server = pair();
        let over_tls = front(acceptor(&server, None), servers.http.address).await;
        let over_tls = format!("https://localhost:{}", over_tls.port());
        let trusting = secret(&over_tls, &[("ca.crt", server.certificate.pem())]);
        for request in Servers::requests(&servers.http.url(""), &servers.git.http.url("")) {
            assert_eq!(fetched(&fetcher(), &request, None).await.unwrap(), SCRIPT);
        }
        let [archive, ..] = Servers::requests(&over_tls, &over_tls);
        assert_eq!(fetched(&fetcher(), &archive, Some(&trusting)).await.unwrap(), SCRIPT);
    });
}

#[tokio::test]
async fn a_bearer_token_is_sent_as_it_is_to_every_kind_of_source() {
    let servers = Servers::start().await;
    let (http, git) = (servers.http.url(""), servers.git.http.url(""));
    let token = secret(&format!("{http} {git}"), &[("bearerToken", "s3cret".to_owned())]);
    for request in Servers::requests(&http, &git) {
        assert_eq!(fetched(&fetcher(), &request, Some(&token)).await.unwrap(), SCRIPT);
    }
    let seen = servers.seen();
    assert!(seen.len() >= 7, "{seen:?}");
    assert!(seen.iter().all(|seen| seen.headers["authorization"] == "Bearer s3cret"), "{seen:?}");
}
