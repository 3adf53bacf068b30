//! The one door to the network: every request of every kind of source is sent from here.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, Proxy, Response, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::address::AddressPolicy;
use super::credentials::Credentials;
use super::error::{RedirectFault, SourceError};
use super::resolver::{DeniedHost, FilteredResolver, Lookup, to_port};
use super::url::{Origin, SourceUrl, masked};
use crate::api::USER_AGENT;

/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;
/// How far a server's `Retry-After` is obeyed: a server must not make us hammer it, nor keep us away for long.
const RETRY_AFTER_BOUNDS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// How to fetch. The environment's proxy variables are never read.
#[derive(Clone)]
pub struct FetchOptions {
    /// Which addresses may be dialled.
    pub allow: AddressPolicy,
    /// For each connection. 10 s by default.
    pub connect_timeout: Duration,
    /// Without a byte from the server. 30 s by default.
    pub stall_timeout: Duration,
    /// For resolving or fetching one source. 5 min by default.
    pub total_timeout: Duration,
    /// Bytes of one archive, or of all of git's answers for one fetch. 256 MiB by default.
    pub max_download_bytes: u64,
    /// The `User-Agent`.
    pub user_agent: String,
    /// The operator's proxy. Its own address is not filtered, and names are looked up by it as well.
    pub proxy: Option<Url>,
    /// Where temporary files go.
    pub work_dir: std::path::PathBuf,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            allow: AddressPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(300),
            max_download_bytes: 256 << 20,
            user_agent: USER_AGENT.to_owned(),
            proxy: None,
            work_dir: std::env::temp_dir(),
        }
    }
}

/// The clients, and the filter that all of them dial through.
pub(super) struct Door {
    pub options: FetchOptions,
    resolver: FilteredResolver,
    plain: Client,
}

impl Door {
    pub fn new(options: FetchOptions, lookup: Arc<dyn Lookup>) -> Result<Self, SourceError> {
        let proxy_host = options.proxy.as_ref().and_then(|proxy| proxy.host_str().map(str::to_owned));
        let resolver = FilteredResolver::new(lookup, options.allow.clone(), proxy_host);
        let plain = client(&options, &resolver)?.build().map_err(|error| SourceError::Client(cause(&error)))?;
        Ok(Self { options, resolver, plain })
    }

    /// Begin to resolve or fetch one source, with `credentials` if it has them.
    pub fn session(self: &Arc<Self>, credentials: Option<&Credentials>) -> Result<Session, SourceError> {
        let identified = credentials.map(|credentials| self.identified(credentials)).transpose()?;
        Ok(Session { door: Arc::clone(self), identified, deadline: Instant::now() + self.options.total_timeout })
    }

    fn identified(&self, credentials: &Credentials) -> Result<Identified, SourceError> {
        let failed = |what: &str, error: reqwest::Error| {
            SourceError::Client(format!("Secret {:?}: {what}: {}", credentials.secret, cause(&error)))
        };
        let mut builder = client(&self.options, &self.resolver)?;
        if let Some(pem) = &credentials.ca {
            let roots = Certificate::from_pem_bundle(pem).map_err(|error| failed("ca.crt", error))?;
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(pem) = &credentials.client {
            builder = builder.identity(Identity::from_pem(pem).map_err(|error| failed("tls.crt and tls.key", error))?);
        }
        let client = builder.build().map_err(|error| failed("TLS", error))?;
        Ok(Identified { client, authorization: credentials.authorization()?, credentials: credentials.clone() })
    }
}

fn client(options: &FetchOptions, resolver: &FilteredResolver) -> Result<ClientBuilder, SourceError> {
    let mut builder = Client::builder()
        .dns_resolver(Arc::new(resolver.clone()))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.stall_timeout)
        .pool_idle_timeout(Duration::from_secs(20))
        .user_agent(&options.user_agent);
    let failed = |error: reqwest::Error| SourceError::Client(cause(&error));
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(Proxy::all(proxy.clone()).map_err(failed)?);
    }
    Ok(builder)
}

/// Credentials made ready to be sent.
struct Identified {
    client: Client,
    authorization: Option<HeaderValue>,
    credentials: Credentials,
}

/// One resolve or fetch: its credentials and its deadline.
pub(super) struct Session {
    pub door: Arc<Door>,
    identified: Option<Identified>,
    pub deadline: Instant,
}

/// What to send.
pub(super) struct Outgoing {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// Whether redirects are followed.
    pub follow: bool,
    pub authorization: Authorization,
}

/// What a request says of who asks.
pub(super) enum Authorization {
    /// What the Secret says, where it allows it.
    Secret,
    /// Nothing: the Secret is held back even where it is allowed.
    Nothing,
    /// This header at this origin and nowhere else, or none. CA and client certificate of the Secret serve where it allows it.
    Own(Option<(Origin, HeaderValue)>),
}

impl Outgoing {
    pub fn get(headers: HeaderMap) -> Self {
        Self { method: Method::GET, headers, body: None, follow: true, authorization: Authorization::Secret }
    }
}

/// An answer that is no redirect.
pub(super) struct Answer {
    pub response: Response,
    /// Where the answer came from, after redirects.
    pub url: Url,
    /// Whether a redirect has led out of the allowed origins on the way, or there are no credentials.
    pub anonymous: bool,
}

impl Answer {
    /// 2xx or 304.
    pub fn is_good(&self) -> bool {
        self.response.status().is_success() || self.response.status() == StatusCode::NOT_MODIFIED
    }

    /// What another status than a good one means.
    pub fn refused(&self, with_credentials: bool) -> SourceError {
        refused(&self.url, self.response.status(), self.response.headers(), with_credentials)
    }
}

impl Session {
    /// Refuse a source at `origin` if there are credentials and they may not be sent there. `url` is its masked address.
    pub fn check_origin(&self, origin: Origin, url: &impl std::fmt::Display) -> Result<(), SourceError> {
        match self.credentials() {
            Some(credentials) if !credentials.allows(&origin) => Err(SourceError::OriginNotAllowed {
                url: url.to_string(),
                secret: credentials.secret.clone(),
                origin,
                allowed: credentials.allowed_origins.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The credentials that this is done with.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.identified.as_ref().map(|identified| &identified.credentials)
    }

    /// Send to `url` as [`ask`](Self::ask) does. Statuses other than 2xx and 304 are errors.
    pub async fn send(&self, url: &Url, outgoing: Outgoing) -> Result<Answer, SourceError> {
        let answer = self.ask(url, outgoing).await?;
        if answer.is_good() { Ok(answer) } else { Err(answer.refused(!answer.anonymous)) }
    }

    /// Send to `url` and follow redirects. Credentials go to allowed origins alone; once a redirect has led elsewhere,
    /// they are not sent again, wherever it leads next (CVE-2026-40161).
    pub async fn ask(&self, url: &Url, outgoing: Outgoing) -> Result<Answer, SourceError> {
        let mut url = url.clone();
        let (mut identified, mut own) = match &outgoing.authorization {
            Authorization::Secret => (self.identified.as_ref(), None),
            Authorization::Nothing => (None, None),
            Authorization::Own(own) => (self.identified.as_ref(), own.as_ref()),
        };
        for _ in 0..=MAX_REDIRECTS {
            let origin = Origin::of(&url);
            identified = identified.filter(|identified| identified.credentials.allows(&origin));
            own = own.filter(|(bound, _)| *bound == origin);
            let authorization = match outgoing.authorization {
                Authorization::Own(_) => own.map(|(_, value)| value),
                _ => identified.and_then(|identified| identified.authorization.as_ref()),
            };
            let client = identified.map_or(&self.door.plain, |identified| &identified.client);
            let response = self.send_once(&url, &outgoing, client, authorization).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url, anonymous: identified.is_none() });
            }
            let refuse = |fault| SourceError::Redirect { url: masked(&url), fault };
            if !outgoing.follow {
                return Err(refuse(RedirectFault::NotFollowed));
            }
            url = redirect_target(&url, response.headers()).map_err(refuse)?;
        }
        Err(SourceError::Redirect { url: masked(&url), fault: RedirectFault::TooMany(MAX_REDIRECTS) })
    }

    async fn send_once(
        &self,
        url: &Url,
        outgoing: &Outgoing,
        client: &Client,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, SourceError> {
        let resolver = &self.door.resolver;
        let denied = |denied: &DeniedHost| SourceError::AddressDenied {
            url: masked(url),
            host: denied.host.clone(),
            denied: denied.denied.clone(),
        };
        let port = url.port_or_known_default();
        if let Some(host) = url.host() {
            resolver.check_literal(&host, port).map_err(|host| denied(&host))?;
            if self.door.options.proxy.is_some()
                && let url::Host::Domain(name) = host
            {
                let looked_up = self.within(url, "looking the name up", resolver.check_name(name, port)).await?;
                looked_up.map_err(|host| denied(&host))?;
            }
        }
        let mut request = client.request(outgoing.method.clone(), url.clone()).headers(outgoing.headers.clone());
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = &outgoing.body {
            request = request.body(body.clone());
        }
        let sent = to_port(port.unwrap_or_default(), request.send());
        let answered = self.within(url, "the server's answer", sent).await?;
        answered.map_err(|error| match DeniedHost::within(&error) {
            Some(host) => denied(host),
            None => self.network(url, &error),
        })
    }

    /// Wait for `future`, but for no longer than the stall timeout and the deadline.
    pub async fn within<F: Future>(&self, url: &Url, what: &'static str, future: F) -> Result<F::Output, SourceError> {
        let options = &self.door.options;
        let stalled = Instant::now() + options.stall_timeout + options.connect_timeout;
        let limit = if stalled < self.deadline { options.stall_timeout } else { options.total_timeout };
        let timed_out = |_| SourceError::TimedOut { url: masked(url), what, limit };
        tokio::time::timeout_at(stalled.min(self.deadline), future).await.map_err(timed_out)
    }

    fn network(&self, url: &Url, error: &reqwest::Error) -> SourceError {
        let options = &self.door.options;
        let url = masked(url);
        match error.is_timeout() {
            true if error.is_connect() => {
                SourceError::TimedOut { url, what: "connecting", limit: options.connect_timeout }
            }
            true => SourceError::TimedOut { url, what: "waiting for the server", limit: options.stall_timeout },
            false => SourceError::Network { url, cause: cause(error) },
        }
    }
}

/// The body of an answer, read under a limit and against the clock.
pub(super) struct Body {
    response: Response,
    url: Url,
    announced: Option<u64>,
    got: u64,
    limit: u64,
}

impl Body {
    /// # Errors
    /// [`SourceError::TooLarge`] if the server announces more than `limit` bytes.
    pub fn new(answer: Answer, limit: u64) -> Result<Self, SourceError> {
        let Answer { response, url, .. } = answer;
        let announced = response.content_length();
        if announced.is_some_and(|announced| announced > limit) {
            return Err(SourceError::TooLarge { url: masked(&url), limit });
        }
        Ok(Self { response, url, announced, got: 0, limit })
    }

    /// Bytes read so far.
    pub fn got(&self) -> u64 {
        self.got
    }

    /// All bytes.
    pub async fn read(mut self, session: &Session) -> Result<Vec<u8>, SourceError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk(session).await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self, session: &Session) -> Result<Option<Bytes>, SourceError> {
        let read = session.within(&self.url, "waiting for more bytes", self.response.chunk()).await?;
        match read {
            Ok(Some(bytes)) => {
                self.got += bytes.len() as u64;
                if self.got > self.limit {
                    return Err(SourceError::TooLarge { url: masked(&self.url), limit: self.limit });
                }
                Ok(Some(bytes))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(match self.announced {
                Some(announced) if !error.is_timeout() && self.got < announced => {
                    SourceError::Truncated { url: masked(&self.url), got: self.got, announced }
                }
                _ => session.network(&self.url, &error),
            }),
        }
    }
}

fn redirect_target(from: &Url, headers: &HeaderMap) -> Result<Url, RedirectFault> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or(RedirectFault::NoLocation)?;
    let mut target = from.join(location).map_err(|_| RedirectFault::NoLocation)?;
    target.set_fragment(None);
    let target = SourceUrl::parse(target.as_str()).map_err(RedirectFault::Target)?;
    if from.scheme() == "https" && target.as_url().scheme() != "https" {
        return Err(RedirectFault::Downgrade(target.to_string()));
    }
    Ok(target.as_url().clone())
}

fn refused(url: &Url, status: StatusCode, headers: &HeaderMap, with_credentials: bool) -> SourceError {
    let url = masked(url);
    let code = status.as_u16();
    match code {
        401 | 403 | 407 => SourceError::AuthenticationFailed { url, status: code, with_credentials },
        404 | 410 => SourceError::NotFound { url, status: code },
        _ => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after =
                seconds.map(Duration::from_secs).map(|wait| wait.clamp(RETRY_AFTER_BOUNDS.0, RETRY_AFTER_BOUNDS.1));
            SourceError::Status { url, status: code, retry_after }
        }
    }
}

/// The innermost causes of `error`, without the URL that it happened for.
fn cause(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let text = error.to_string();
        if texts.last().is_none_or(|last: &String| !last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    if texts.is_empty() {
        texts.push(if error.is_builder() { "invalid configuration" } else { "the request failed" }.to_owned());
    }
    texts.join(": ")
}
