//! Requests to the leader: HTTP/1.1 over TLS, with a pinned CA and the server name that goes with it, whatever address
//! is dialled.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::config::Config as AgentConfig;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error as HttpError};

use super::config::Config;
use super::control::Control;
use super::log::log;
use crate::protocol::{
    ClaimGrant, ClaimRequest, OutputUpload, Progress, ProgressAnswer, Refusal, Report, Unstarted, server_name,
};

/// How long one request may take as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes: a payload and Secrets, which are below 1 MiB each.
const ANSWER_BYTES: u64 = 16 << 20;
/// Size of the buffers of a connection. Requests are small; clearing the default of 128 KiB takes longer than most of them.
const BUFFER_BYTES: usize = 16 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// 401, 409, 410 or 413: the answer would be the same again.
    #[error("refused by the operator ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The operator's explanation.
        message: String,
    },
    /// Anything else: try again.
    #[error("no answer from the operator: {0}")]
    Failed(String),
}

/// The CA is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable OUTRIGGER_CA holds no PEM certificate")]
pub struct CaError;

/// Speaks for one attempt of one run. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    authorization: String,
}

impl Client {
    /// A client for the attempt that `config` describes; connects at the first request.
    pub fn new(config: &Config) -> Result<Self, CaError> {
        let certificates: Vec<_> = parse_pem(config.ca.as_bytes())
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        let server_name = server_name(&config.ca).filter(|_| !certificates.is_empty()).ok_or(CaError)?;
        let agent_config = AgentConfig::builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::from(certificates)).build())
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            // Not from the environment.
            .proxy(None)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .user_agent(concat!("outrigger-runner/", env!("CARGO_PKG_VERSION")))
            .build();
        let dial = Dial(config.address);
        Ok(Self {
            agent: Agent::with_parts(agent_config, DefaultConnector::new(), dial),
            base: format!("https://{server_name}:{}/v1/runs/{}", config.address.port(), config.run_uid),
            authorization: format!("Bearer {}", config.token.to_hex()),
        })
    }

    /// Asks to be the one that starts this attempt.
    pub fn claim(&self, request: &ClaimRequest) -> Result<ClaimGrant, RequestError> {
        parse(&self.post("claim", request)?)
    }

    /// Tells what the script has printed, and hears whether to stop it.
    pub fn progress(&self, progress: &Progress) -> Result<ProgressAnswer, RequestError> {
        parse(&self.post("progress", progress)?)
    }

    /// Tells how the attempt ended; `Ok` once that is stored.
    pub fn report(&self, report: &Report) -> Result<(), RequestError> {
        self.post("report", report).map(|_| ())
    }

    /// Hands over what the script printed; `Ok` once that is kept.
    pub fn output(&self, output: &OutputUpload) -> Result<(), RequestError> {
        self.post("output", output).map(|_| ())
    }

    /// Tells that the script was not started; `Ok` once the claim is taken back, or there is none any more.
    pub fn unstarted(&self, unstarted: &Unstarted, timeout: Duration) -> Result<(), RequestError> {
        self.post_within(timeout, "unstarted", unstarted).map(|_| ())
    }

    fn post(&self, what: &str, body: &impl Serialize) -> Result<Vec<u8>, RequestError> {
        self.post_within(REQUEST_TIMEOUT, what, body)
    }

    fn post_within(&self, timeout: Duration, what: &str, body: &impl Serialize) -> Result<Vec<u8>, RequestError> {
        let body = serde_json::to_vec(body).map_err(|error| RequestError::Failed(error.to_string()))?;
        let failed = |error: HttpError| RequestError::Failed(error.to_string());
        let mut answer = self
            .agent
            .post(format!("{}/{what}", self.base))
            .header("Authorization", &self.authorization)
            .content_type("application/json")
            .config()
            .timeout_global(Some(timeout))
            .build()
            .send(&body[..])
            .map_err(failed)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec().map_err(failed)?;
        settled(status, text)
    }
}

fn settled(status: u16, text: Vec<u8>) -> Result<Vec<u8>, RequestError> {
    match status {
        200 => Ok(text),
        401 | 409 | 410 | 413 => Err(RequestError::Refused { status, message: explanation(&text) }),
        _ => Err(RequestError::Failed(format!("status {status}: {}", explanation(&text)))),
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, RequestError> {
    serde_json::from_slice(text).map_err(|error| RequestError::Failed(format!("unreadable answer: {error}")))
}

fn explanation(text: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(text) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(text).chars().take(200).collect(),
    }
}

/// Every name is at this one address.
#[derive(Debug)]
struct Dial(SocketAddr);

impl Resolver for Dial {
    fn resolve(&self, _: &Uri, _: &AgentConfig, _: NextTimeout) -> Result<ResolvedSocketAddrs, HttpError> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// Repeats `request` while it fails, with growing, jittered pauses: until it is answered or refused, `deadline` passes,
/// or `control` says stop. Without deadline and control it ends with an answer only.
pub fn persist<T>(
    deadline: Option<Instant>,
    control: Option<&Control>,
    mut request: impl FnMut() -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let mut pause = FIRST_PAUSE;
    let mut failures = 0_u32;
    loop {
        let error = match request() {
            Err(error @ RequestError::Failed(_)) => error,
            settled => return settled,
        };
        failures += 1;
        // rarely, for whoever reads the pod's log; not at once, because a leader may just be changing
        if failures >= 8 && failures.is_power_of_two() {
            log(&format!("{error}; trying again"));
        }
        let next = Instant::now() + jittered(pause);
        if deadline.is_some_and(|deadline| next > deadline) {
            return Err(error);
        }
        match control {
            Some(control) if control.stopped_before(next) => return Err(error),
            Some(_) => {}
            None => std::thread::sleep(next.saturating_duration_since(Instant::now())),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between half of `pause` and all of it: many runners lose the same leader at the same moment.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness: no jitter.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(255 - byte[0]) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::super::control::StopReason;
    use super::*;

    fn failed() -> RequestError {
        RequestError::Failed("connection refused".to_owned())
    }

    #[test]
    fn a_failed_request_is_repeated_and_a_refused_one_is_not() {
        let mut tries = 0;
        let answer = persist(None, None, || {
            tries += 1;
            if tries < 3 { Err(failed()) } else { Ok(tries) }
        });
        assert_eq!(answer, Ok(3));
        let refused = RequestError::Refused { status: 409, message: "claimed by another pod".to_owned() };
        let mut tries = 0;
        let answer: Result<(), _> = persist(None, None, || {
            tries += 1;
            Err(refused.clone())
        });
        assert_eq!((answer, tries), (Err(refused), 1));
    }

    #[test]
    fn what_would_be_answered_the_same_again_settles() {
        let settles = |status| !matches!(settled(status, b"why".to_vec()), Err(RequestError::Failed(_)));
        assert!([200, 401, 409, 410, 413].into_iter().all(settles));
        assert!(![404, 429, 500, 503].into_iter().any(settles));
    }

    #[test]
    fn trying_ends_at_the_deadline_and_at_a_stop() {
        let soon = Instant::now() + Duration::from_millis(10);
        assert_eq!(persist::<()>(Some(soon), None, || Err(failed())), Err(failed()));
        let control = Control::new();
        control.stop(StopReason::PodDeleted);
        assert_eq!(persist::<()>(None, Some(&control), || Err(failed())), Err(failed()));
    }

    #[test]
    fn pauses_are_jittered_within_bounds() {
        for _ in 0..100 {
            let pause = jittered(LONGEST_PAUSE);
            assert!(pause >= LONGEST_PAUSE / 2 && pause <= LONGEST_PAUSE, "{pause:?}");
        }
    }

    #[test]
    fn errors_say_who_refused_and_why() {
        let refused = RequestError::Refused { status: 409, message: explanation(br#"{"message":"claimed"}"#) };
        assert_eq!(refused.to_string(), "refused by the operator (409): claimed");
        assert_eq!(failed().to_string(), "no answer from the operator: connection refused");
        assert_eq!(explanation(b"<html>"), "<html>");
        assert_eq!(CaError.to_string(), "environment variable OUTRIGGER_CA holds no PEM certificate");
    }
}
