//! HTTP servers that are odd in small ways, and one that is endless where nobody looks.

use std::time::Duration;

use axum::response::Response;

use super::testing::{Server, bytes, fetched_text, fetcher, raw_server, redirect, status};
use super::*;
use crate::api::reason::{FailureClass, Reason};

fn request(url: &str) -> Request {
    Request::Archive { url: SourceUrl::parse(url).unwrap(), digest: None, verify: None }
}

#[tokio::test]
async fn a_server_with_last_modified_alone_is_asked_with_that() {
    const DATE: &str = "Mon, 02 Nov 2026 10:00:00 GMT";
    let server = Server::start(|seen| match seen.headers.get("if-modified-since") {
        Some(date) if date == DATE => status(304),
        _ => Response::builder().header("last-modified", DATE).body("archive".into()).unwrap(),
    })
    .await;
    let request = request(&server.url("/x"));
    let Resolution::Changed(pending) = fetcher().resolve(&request, None, None).await.unwrap() else { panic!() };
    let known = pending.resolved().clone();
    assert_eq!((known.etag(), known.last_modified()), (None, Some(DATE)));
    let again = fetcher().resolve(&request, None, Some(&known)).await.unwrap();
    assert!(matches!(again, Resolution::Unchanged(resolved) if resolved == known));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn headers_without_an_end_are_not_collected() {
    for filler in [&b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"[..], &[b'x'; 4096]] {
        let address = raw_server("HTTP/1.1 200 OK\r\n", filler, Duration::ZERO, usize::MAX).await;
        let error = fetcher().resolve(&request(&format!("http://{address}/x")), None, None).await.unwrap_err();
        assert_eq!((error.reason(), error.class()), (Reason::FetchFailed, FailureClass::Transient), "{error}");
    }
}

#[tokio::test]
async fn a_text_that_comes_compressed_unasked_is_refused_with_what_to_do() {
    let server = Server::start(|_| {
        Response::builder().header("content-encoding", "gzip").body(vec![0x1f, 0x8b, 8].into()).unwrap()
    })
    .await;
    let url = SourceUrl::parse(&server.url("/manifest.yaml")).unwrap();
    let error = fetched_text(&fetcher(), &url, None).await.unwrap_err();
    let expected = format!(
        "fetch {url}: the server sends the text as \"gzip\" (Content-Encoding), though asked not to; have it served as it is"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!((error.reason(), error.class()), (Reason::FetchFailed, FailureClass::Stalled));
    assert_eq!(server.seen()[0].headers["accept-encoding"], "identity");
}

#[tokio::test]
async fn five_redirects_are_followed_and_a_sixth_is_not() {
    let server = Server::start(|seen| match seen.target[1..].parse::<u32>().unwrap() {
        0 => bytes("text"),
        left => redirect(&format!("/{}", left - 1)),
    })
    .await;
    let text = async |redirects: u32| {
        let url = SourceUrl::parse(&server.url(&format!("/{redirects}"))).unwrap();
        fetched_text(&fetcher(), &url, None).await
    };
    assert_eq!(text(5).await.unwrap(), b"text");
    let error = text(6).await.unwrap_err();
    assert!(error.to_string().ends_with("redirect refused: more than 5 redirects"), "{error}");
    assert_eq!((server.seen().len(), error.class()), (12, FailureClass::Stalled));
}
