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
use tracing::debug;

use super::issue::{IssueError, provider, roots};
use crate::lease::Leadership;
use crate::protocol::SERVER_NAME;

/// Largest body that is passed on, in bytes. Reports with large results are the largest.
const BODY_BYTES: usize = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Marks a request that has been passed on once: it is not passed on again.
const FORWARDED: HeaderName = HeaderName::from_static("outrigger-forwarded");

const PASSED_TO_LEADER: [HeaderName; 3] = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT];
const PASSED_BACK: [HeaderName; 2] = [header::CONTENT_TYPE, header::RETRY_AFTER];

/// Connections to the leader, whose certificate must come from the operator's own CA.
#[derive(Clone)]
pub struct Forwarder {
    tls: rustls::ClientConfig,
    /// The leader's address, and the client whose connections lead there.
    client: Arc<Mutex<Option<(String, reqwest::Client)>>>,
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
    #[error("leader cannot be asked: {0}")]
    Request(#[from] reqwest::Error),
}

impl Forwarder {
    /// Trusts the CA in `ca` (PEM) and nothing else.
    ///
    /// # Errors
    /// [`IssueError::Pem`] for a text that is no certificate.
    pub fn new(ca: &str) -> Result<Self, IssueError> {
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| IssueError::Pem { what: "TLS configuration", reason: error.to_string() })?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        Ok(Self { tls, client: Arc::default() })
    }

    async fn forward(&self, address: &str, request: Request) -> Result<Response, ForwardError> {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, BODY_BYTES).await else {
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
        if let Some((known, client)) = &*self.client.lock().unwrap_or_else(PoisonError::into_inner)
            && known == address
        {
            return Ok((client.clone(), port));
        }
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(authority).await?.collect();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .resolve_to_addrs(SERVER_NAME, &addresses)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some((address.to_owned(), client.clone()));
        Ok((client, port))
    }
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
