//! What the door does with TLS and with a proxy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::HOST;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::testing::{FixedLookup, Server, bytes, fetched_text, fetcher, options};
use super::tls_fixtures::{Pair, acceptor, pair, secret};
use super::*;
use crate::api::reason::Reason;

/// A TLS server that answers everything with `answer`, and asks for the certificate `client` if there is one.
async fn tls_server(pair: &Pair, client: Option<&Pair>, answer: String) -> String {
    let acceptor = acceptor(pair, client);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("https://localhost:{port}")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

fn url(text: &str) -> SourceUrl {
    SourceUrl::parse(text).unwrap()
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_one_of_the_secret_is_trusted() {
    let server = pair();
    let origin = tls_server(&server, None, OK.to_owned()).await;
    let error = fetched_text(&fetcher(), &url(&origin), None).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let trusting = secret(&origin, &[("ca.crt", server.certificate.pem())]);
    assert_eq!(fetched_text(&fetcher(), &url(&origin), Some(&trusting)).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_server_that_asks() {
    let (server, client) = (pair(), pair());
    let origin = tls_server(&server, Some(&client), OK.to_owned()).await;
    let ca = ("ca.crt", server.certificate.pem());
    let without = secret(&origin, std::slice::from_ref(&ca));
    fetched_text(&fetcher(), &url(&origin), Some(&without)).await.unwrap_err();
    let entries = [ca, ("tls.crt", client.certificate.pem()), ("tls.key", client.key.serialize_pem())];
    assert_eq!(fetched_text(&fetcher(), &url(&origin), Some(&secret(&origin, &entries))).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused() {
    let server = pair();
    let plain = Server::start(|_| bytes("ok")).await;
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", plain.url("/x?t=s3cret"));
    let origin = tls_server(&server, None, answer).await;
    let trusting = secret(&origin, &[("ca.crt", server.certificate.pem())]);
    let error = fetched_text(&fetcher(), &url(&origin), Some(&trusting)).await.unwrap_err();
    let expected = format!("fetch {origin}/: redirect refused: from https to http ({})", plain.url("/x?…"));
    assert_eq!(error.to_string(), expected);
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_is_used_without_being_filtered_and_the_filter_holds_behind_it() {
    let proxy = Server::start(|_| bytes("from the proxy")).await;
    let through = |answers: &[&[&str]]| {
        let proxy = Some(proxy.url("").parse().unwrap());
        let options = FetchOptions { proxy, allow: AddressPolicy::default(), ..options() };
        Fetcher::with_lookup(options, FixedLookup::new(answers)).unwrap()
    };
    let text = fetched_text(&through(&[&["1.1.1.1"]]), &url("http://public.example/x"), None).await.unwrap();
    assert_eq!(text, b"from the proxy");
    assert_eq!(proxy.seen()[0].headers[HOST], "public.example");
    for (address, target) in [("169.254.169.254", "http://rebind.example/"), ("1.1.1.1", "http://10.0.0.1/")] {
        let error = fetched_text(&through(&[&[address]]), &url(target), None).await.unwrap_err();
        assert_eq!(error.reason(), Reason::AddressDenied, "{error}");
    }
    assert_eq!(proxy.seen().len(), 1);
}

/// A resolver that never answers.
struct Silent;

impl Lookup for Silent {
    fn lookup(&self, _host: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_resolver_that_never_answers_is_given_up_with_and_without_a_proxy() {
    let proxy = Server::start(|_| bytes("from the proxy")).await;
    for proxy in [None, Some(proxy.url("").parse().unwrap())] {
        let impatient = Duration::from_millis(100);
        let options = FetchOptions { proxy, connect_timeout: impatient, stall_timeout: impatient, ..options() };
        let fetcher = Fetcher::with_lookup(options, Arc::new(Silent)).unwrap();
        let error = fetched_text(&fetcher, &url("http://silent.example/x"), None).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TimedOut, "{error}");
        assert!(error.to_string().starts_with("fetch http://silent.example/x: "), "{error}");
    }
    assert!(proxy.seen().is_empty());
}

#[tokio::test]
async fn the_api_server_is_closed_at_its_port_alone_by_address_by_name_and_through_a_redirect() {
    let api_server = Server::start(|_| bytes("secret")).await;
    let port = api_server.address.port();
    let target = api_server.url("/x");
    let other = Server::start(move |seen| match seen.target.as_str() {
        "/away" => super::testing::redirect(&target),
        _ => bytes("beside it"),
    })
    .await;
    let allow = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], vec![api_server.address]);
    let fetcher =
        Fetcher::with_lookup(FetchOptions { allow, ..options() }, FixedLookup::new(&[&["127.0.0.1"]])).unwrap();
    let named = |port: u16| format!("http://api.example:{port}/x");
    for refused in [api_server.url("/x"), named(port), other.url("/away")] {
        let error = fetched_text(&fetcher, &url(&refused), None).await.unwrap_err();
        assert_eq!(error.reason(), Reason::AddressDenied, "{refused}: {error}");
        assert!(
            error.to_string().ends_with("an address of the cluster's API server, which is never allowed"),
            "{error}"
        );
    }
    for open in [other.url("/x"), named(other.address.port())] {
        assert_eq!(fetched_text(&fetcher, &url(&open), None).await.unwrap(), b"beside it", "{open}");
    }
    assert!(api_server.seen().is_empty());
}
