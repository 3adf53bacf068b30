//! Tests of passing requests on, with a leader that listens on the loopback interface.

use std::time::SystemTime;

use axum::http::HeaderMap;
use axum::routing::post;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::super::certificates::Certificates;
use super::super::issue::{names, new_ca, new_leaf};
use super::super::tls::{Limits, serve_tls};
use super::*;

const CLAIM: &str = "/v1/runs/7/claim?x=1";

fn certificates() -> Certificates {
    let ca = new_ca(SystemTime::now()).unwrap();
    let leaf = new_leaf(&ca, &names("outrigger-system", &[]).unwrap(), SystemTime::now()).unwrap();
    Certificates::only(ca, leaf)
}

/// Answers 409 with what it was sent.
fn runs() -> Router {
    let echo = |headers: HeaderMap, uri: axum::http::Uri, body: String| async move {
        let token = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        let text = format!("{uri} {} {body}", token.unwrap_or_default());
        (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "application/json"), (header::SERVER, "leader")], text)
    };
    Router::new().route("/v1/runs/{uid}/claim", post(echo))
}

async fn listen(certificates: &Certificates, router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let config = certificates.serving().unwrap().server_config().unwrap();
    tokio::spawn(serve_tls(listener, config, router, Limits::TLS, std::future::pending()));
    address
}

async fn ask(router: Router, request: axum::http::request::Builder) -> (StatusCode, HeaderMap, String) {
    let request = request.header(header::AUTHORIZATION, "Bearer abc").body(Body::from("{\"attempt\":1}")).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn replica(leads: bool, leader: Option<&str>, ca: &str) -> Router {
    leader_or_forward(Leadership::fixed(leads, leader), Forwarder::new(Trust::only(ca)), runs())
}

#[tokio::test]
async fn the_leader_answers_itself() {
    let (status, _, text) =
        ask(replica(true, None, &certificates().current.ca.certificate), Request::post(CLAIM)).await;
    assert_eq!((status, text.as_str()), (StatusCode::CONFLICT, "/v1/runs/7/claim?x=1 Bearer abc {\"attempt\":1}"));
}

#[tokio::test]
async fn a_standby_returns_the_leaders_answer_as_it_is() {
    let certificates = certificates();
    let leader = listen(&certificates, replica(true, None, &certificates.current.ca.certificate)).await;
    let standby = replica(false, Some(&leader), &certificates.current.ca.certificate);
    for _ in 0..2 {
        let (status, headers, text) = ask(standby.clone(), Request::post(CLAIM)).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(text.ends_with("/v1/runs/7/claim?x=1 Bearer abc {\"attempt\":1}"), "{text}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    }
}

async fn unavailable(router: Router, request: axum::http::request::Builder) -> String {
    let (status, headers, text) = ask(router, request).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert_eq!(headers[header::RETRY_AFTER], "1");
    text
}

#[tokio::test]
async fn without_a_leader_the_runner_is_asked_to_try_again() {
    let ca = certificates().current.ca.certificate;
    let text = unavailable(replica(false, None, &ca), Request::post(CLAIM)).await;
    assert_eq!(text, "no replica is known to be the leader; try again\n");
    let text = unavailable(replica(false, Some("ftp://nowhere"), &ca), Request::post(CLAIM)).await;
    assert_eq!(text, "leader address \"ftp://nowhere\" is no https://<address>:<port>; try again\n");
    let text = unavailable(replica(false, Some("https://127.0.0.1:1"), &ca), Request::post(CLAIM)).await;
    assert!(text.starts_with("leader cannot be asked: "), "{text}");
}

#[tokio::test]
async fn a_request_is_passed_on_once_only() {
    let certificates = certificates();
    let other =
        listen(&certificates, replica(false, Some("https://127.0.0.1:1"), &certificates.current.ca.certificate)).await;
    let text =
        unavailable(replica(false, Some(&other), &certificates.current.ca.certificate), Request::post(CLAIM)).await;
    assert_eq!(text, "the replica that was the leader is it no more; try again\n");
}

#[tokio::test]
async fn a_leader_with_a_certificate_of_another_ca_gets_no_token() {
    let leader = listen(&certificates(), runs()).await;
    let text =
        unavailable(replica(false, Some(&leader), &certificates().current.ca.certificate), Request::post(CLAIM)).await;
    assert!(text.starts_with("leader cannot be asked: "), "{text}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_passed_on() {
    let standby = replica(false, Some("https://127.0.0.1:1"), &certificates().current.ca.certificate);
    let request = Request::post(CLAIM).body(Body::from(vec![b'x'; REQUEST_BYTES + 1])).unwrap();
    assert_eq!(standby.oneshot(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}
