//! The way to the leader: a standby passes runners' requests on and returns the leader's answer as it is.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::watch;
use tracing::debug;

use super::certificates::Trust;
use super::issue::{IssueError, provider, roots};
use crate::lease::Leadership;
use crate::protocol::{REQUEST_BYTES, SERVER_NAME};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Marks a request that has been passed on once: it is not passed on again.
const FORWARDED: HeaderName = HeaderName::from_static("outrigger-forwarded");

const PASSED_TO_LEADER: [HeaderName; 3] = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT];
const PASSED_BACK: [HeaderName; 2] = [header::CONTENT_TYPE, header::RETRY_AFTER];

/// Connections to the leader, whose certificate must come from one of the operator's own CAs.
#[derive(Clone)]
pub struct Forwarder {
    trust: watch::Receiver<Trust>,
    client: Arc<Mutex<Option<Connected>>>,
}

/// The client whose connections lead to the leader.
struct Connected {
    address: String,
    bundle: String,
    client: reqwest::Client,
}

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("no replica is known to be the leader")]
    NoLeader,
    #[error("the replica that was the leader is it no more")]
    NotLeader,
    #[error("leader address {0:?} is no https://<address>:<port>")]
    Address(String),
    #[error("leader address cannot be looked up: {0}")]
    Lookup(#[from] io::Error),
    #[error("leader cannot be trusted: {0}")]
    Trust(#[from] IssueError),
    #[error("leader cannot be asked: {0}")]
    Request(#[from] reqwest::Error),
}

impl Forwarder {
    /// Trusts the CAs of `trust` and nothing else.
    pub fn new(trust: watch::Receiver<Trust>) -> Self {
        Self { trust, client: Arc::default() }
    }

    async fn forward(&self, address: &str, request: Request) -> Result<Response, ForwardError> {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, REQUEST_BYTES).await else {
            return Ok(
                (StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large or was cut short\n").into_response()
            );
        };
        let (client, port) = self.client(address).await?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut forwarded = client.request(parts.method, format!("https://{SERVER_NAME}:{port}{path}")).body(body);
        for name in PASSED_TO_LEADER {
            if let Some(value) = parts.headers.get(&name) {
                forwarded = forwarded.header(name, value);
            }
        }
        let answer = forwarded.header(FORWARDED, "1").send().await?;
        let mut response = Response::builder().status(answer.status());
        for name in PASSED_BACK {
            if let Some(value) = answer.headers().get(&name) {
                response = response.header(name, value);
            }
        }
        let body = Body::from(answer.bytes().await?);
        Ok(response.body(body).unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response()))
    }

    async fn client(&self, address: &str) -> Result<(reqwest::Client, u16), ForwardError> {
        let no_address = || ForwardError::Address(address.to_owned());
        let authority = address.strip_prefix("https://").ok_or_else(no_address)?;
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).ok_or_else(no_address)?;
        let bundle = self.trust.borrow().bundle.clone();
        if let Some(known) = &*self.client.lock().unwrap_or_else(PoisonError::into_inner)
            && known.address == address
            && known.bundle == bundle
        {
            return Ok((known.client.clone(), port));
        }
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(authority).await?.collect();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&bundle)?)
            .resolve_to_addrs(SERVER_NAME, &addresses)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Connected { address: address.to_owned(), bundle, client: client.clone() });
        Ok((client, port))
    }
}

/// HTTP/2 where the leader speaks it: one connection carries what a standby passes on.
fn tls(bundle: &str) -> Result<rustls::ClientConfig, IssueError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| IssueError::Pem { what: "TLS configuration", reason: error.to_string() })?
        .with_root_certificates(roots(bundle)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// `local` as every replica serves it: the leader answers itself, a standby with the leader's answer, and 503 with
/// `Retry-After` where there is no leader to ask. Wrap only routes that the leader alone may answer (`/v1/runs/…`).
pub fn leader_or_forward(leadership: Leadership, forwarder: Forwarder, local: Router) -> Router {
    local.layer(from_fn_with_state((leadership, forwarder), route))
}

async fn route(
    State((leadership, forwarder)): State<(Leadership, Forwarder)>,
    request: Request,
    next: Next,
) -> Response {
    if leadership.is_leader() {
        return next.run(request).await;
    }
    let result = match leadership.leader_address() {
        _ if request.headers().contains_key(FORWARDED) => Err(ForwardError::NotLeader),
        None => Err(ForwardError::NoLeader),
        Some(address) => forwarder.forward(&address, request).await,
    };
    result.unwrap_or_else(|error| {
        debug!("request is not passed on: {error}");
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{error}; try again\n")).into_response()
    })
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
