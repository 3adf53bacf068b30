//! What `gix` speaks HTTP through: its requests are sent from the one door, under one limit and one deadline.

use std::any::Any;
use std::io::{self, BufRead, Cursor, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::error::{ErrorExt as _, validation};
use gix::protocol::transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use hyper::body::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use url::Url;

use super::said::Said;
use crate::source::door::{Authorization, Body, Outgoing, Session};
use crate::source::error::{RedirectFault, SourceError};
use crate::source::url::{SourceUrl, masked};

/// Bytes of one request to a git server: a few wants and capabilities.
const MAX_REQUEST_BYTES: usize = 256 << 10;
/// Characters of what a server says, or is found wrong with it.
const CAUSE_CHARACTERS: usize = 400;
const ADVERTISEMENT: &str = "/info/refs";
const SERVICE: &str = "service=git-upload-pack";

/// What all requests of one exchange share.
pub(super) struct Shared {
    pub session: Session,
    pub url: SourceUrl,
    handle: Handle,
    /// Bytes that all answers together may have.
    limit: AtomicU64,
    got: AtomicU64,
    pub interrupt: AtomicBool,
    /// The first error, which says more than what `gix` makes of it.
    failure: Mutex<Option<SourceError>>,
    said: Said,
}

impl Shared {
    pub fn new(session: Session, url: SourceUrl) -> Self {
        Self {
            session,
            url,
            handle: Handle::current(),
            limit: AtomicU64::new(0),
            got: AtomicU64::new(0),
            interrupt: AtomicBool::new(false),
            failure: Mutex::new(None),
            said: Said::default(),
        }
    }

    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    pub fn take_failure(&self) -> Option<SourceError> {
        lock(&self.failure).take()
    }

    /// Told what the server says as it gives up.
    pub fn said(&self) -> Said {
        self.said.clone()
    }

    /// The error of the server, which says itself why, or else for `cause`. It may repeat what it was sent.
    pub fn git(&self, cause: &str) -> SourceError {
        let cause = self.said.text().map_or_else(|| cause.to_owned(), |said| format!("the server says: {said}"));
        let line = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = self.session.credentials().map_or_else(|| line.clone(), |credentials| credentials.masked(&line));
        let shown = line.chars().take(CAUSE_CHARACTERS).fold(String::new(), |mut shown, c| {
            if c.is_control() {
                shown.extend(c.escape_default())
            } else {
                shown.push(c)
            }
            shown
        });
        SourceError::Git { url: self.url.to_string(), cause: shown }
    }

    /// Keep `error` for later and give `gix` a word for it.
    pub fn fail(&self, error: SourceError) -> io::Error {
        let text = error.to_string();
        lock(&self.failure).get_or_insert(error);
        io::Error::other(text)
    }

    /// Wait for a turn, but not beyond the deadline.
    pub fn wait(
        &self,
        turn: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<OwnedSemaphorePermit, SourceError> {
        let limit = self.session.door.options.total_timeout;
        let url = self.url.to_string();
        let timed_out = || SourceError::TimedOut { url, what: "waiting for other git sources", limit };
        let waited = self.handle.block_on(async { tokio::time::timeout_at(self.session.deadline, turn).await });
        waited.ok().and_then(Result::ok).ok_or_else(timed_out)
    }

    fn send(&self, url: &Url, outgoing: Outgoing) -> Result<Received, SourceError> {
        let answer = self.handle.block_on(self.session.send(url, outgoing))?;
        let mut head = Vec::new();
        for (name, value) in answer.response.headers() {
            head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
        }
        let (from, anonymous) = (answer.url.clone(), answer.anonymous);
        Ok(Received { body: Body::new(answer, self.limit.load(Ordering::Relaxed))?, head, from, anonymous })
    }

    fn chunk(&self, body: &mut Body) -> Result<Option<Bytes>, SourceError> {
        let cancelled = || SourceError::Network { url: self.url.to_string(), cause: "cancelled".to_owned() };
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(cancelled());
        }
        let bytes = self.handle.block_on(body.chunk(&self.session))?;
        let limit = self.limit.load(Ordering::Relaxed);
        let new = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.got.fetch_add(new, Ordering::Relaxed) + new > limit {
            return Err(SourceError::TooLarge { url: self.url.to_string(), limit });
        }
        Ok(bytes)
    }
}

/// An answer whose body is still to be read.
struct Received {
    body: Body,
    head: Vec<u8>,
    from: Url,
    anonymous: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `gix`'s HTTP backend.
pub(super) struct Bridge {
    shared: Arc<Shared>,
    redirected: Option<String>,
    /// Whether a redirect has led out of the origins that may see the credentials.
    anonymous: bool,
}

impl Bridge {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, redirected: None, anonymous: false }
    }
}

fn outgoing(method: Method, lines: impl IntoIterator<Item = impl AsRef<str>>) -> Outgoing {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some((name, value)) = line.as_ref().split_once(':') else { continue };
        if let (Ok(name), Ok(value)) = (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
            headers.insert(name, value);
        }
    }
    Outgoing { follow: method == Method::GET, method, headers, body: None, authorization: Authorization::Secret }
}

/// The repository's URL, if `url` is its ref advertisement and that alone.
fn base_of(url: &Url) -> Option<String> {
    let path = url.path().strip_suffix(ADVERTISEMENT)?;
    let mut base = url.clone();
    base.set_path(path);
    base.set_query(None);
    (url.query() == Some(SERVICE)).then(|| base.to_string())
}

impl Http for Bridge {
    type Headers = Head;
    type ResponseBody = Incoming;
    type PostBody = RequestBody;

    fn get(
        &mut self,
        _url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Head, Incoming>> {
        let shared = &self.shared;
        let mut advertisement = shared.url.as_url().clone();
        advertisement.set_path(&format!("{}{ADVERTISEMENT}", advertisement.path().trim_end_matches('/')));
        advertisement.set_query(Some(SERVICE));
        let sent = shared.send(&advertisement, outgoing(Method::GET, headers)).and_then(|received| {
            let base = base_of(&received.from).ok_or_else(|| SourceError::Redirect {
                url: masked(&advertisement),
                fault: RedirectFault::NotGit(masked(&received.from)),
            })?;
            Ok((received, base))
        });
        let (received, base) = sent.map_err(|error| validation(shared.fail(error).to_string()).raise())?;
        self.redirected = Some(base);
        self.anonymous = received.anonymous;
        let Received { body, head, .. } = received;
        let stage = Arc::new(Mutex::new(Stage::Open { body, head }));
        Ok(GetResponse { headers: Head::new(shared, &stage), body: Incoming::new(shared, &stage) })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Head, Incoming, RequestBody>> {
        let shared = &self.shared;
        let url = Url::parse(url).map_err(|error| validation(error.to_string()).raise())?;
        let authorization = if self.anonymous { Authorization::Nothing } else { Authorization::Secret };
        let request = Outgoing { authorization, ..outgoing(Method::POST, headers) };
        let stage = Arc::new(Mutex::new(Stage::Prepared { url, request, body: Vec::new() }));
        Ok(PostResponse {
            post_body: RequestBody { stage: Arc::clone(&stage) },
            headers: Head::new(shared, &stage),
            body: Incoming::new(shared, &stage),
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected.clone()
    }
}

/// A request is sent when its answer is first read: by then its body is complete.
enum Stage {
    Prepared { url: Url, request: Outgoing, body: Vec<u8> },
    Open { body: Body, head: Vec<u8> },
    Failed,
}

fn open<'a>(shared: &Shared, stage: &'a mut Stage) -> io::Result<(&'a mut Body, &'a [u8])> {
    if let Stage::Prepared { .. } = stage {
        let Stage::Prepared { url, mut request, body } = std::mem::replace(stage, Stage::Failed) else {
            return Err(io::Error::other("the request was already sent"));
        };
        request.body = Some(Bytes::from(body));
        let Received { body, head, .. } = shared.send(&url, request).map_err(|error| shared.fail(error))?;
        *stage = Stage::Open { body, head };
    }
    match stage {
        Stage::Open { body, head } => Ok((body, head)),
        Stage::Prepared { .. } | Stage::Failed => Err(io::Error::other("the request failed")),
    }
}

/// The body of a request, collected.
pub(super) struct RequestBody {
    stage: Arc<Mutex<Stage>>,
}

impl Write for RequestBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *lock(&self.stage) {
            Stage::Prepared { body, .. } if body.len() + bytes.len() <= MAX_REQUEST_BYTES => {
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Stage::Prepared { .. } => Err(io::Error::other("the request to the git server is too large")),
            Stage::Open { .. } | Stage::Failed => Err(io::Error::other("the request was already sent")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The header of an answer, as lines.
pub(super) struct Head {
    shared: Arc<Shared>,
    stage: Arc<Mutex<Stage>>,
    text: Option<Cursor<Vec<u8>>>,
}

impl Head {
    fn new(shared: &Arc<Shared>, stage: &Arc<Mutex<Stage>>) -> Self {
        Self { shared: Arc::clone(shared), stage: Arc::clone(stage), text: None }
    }

    fn text(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        let text = match self.text.take() {
            Some(text) => text,
            None => Cursor::new(open(&self.shared, &mut lock(&self.stage))?.1.to_vec()),
        };
        Ok(self.text.insert(text))
    }
}

impl Read for Head {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.text()?.read(buffer)
    }
}

impl BufRead for Head {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.text()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(text) = &mut self.text {
            text.consume(amount);
        }
    }
}

/// The body of an answer.
pub(super) struct Incoming {
    shared: Arc<Shared>,
    stage: Arc<Mutex<Stage>>,
    buffer: Bytes,
    ended: bool,
}

impl Incoming {
    fn new(shared: &Arc<Shared>, stage: &Arc<Mutex<Stage>>) -> Self {
        Self { shared: Arc::clone(shared), stage: Arc::clone(stage), buffer: Bytes::new(), ended: false }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.buffer.is_empty() && !self.ended {
            let mut stage = lock(&self.stage);
            let (body, _) = open(&self.shared, &mut stage)?;
            match self.shared.chunk(body).map_err(|error| self.shared.fail(error))? {
                Some(bytes) => self.buffer = bytes,
                None => self.ended = true,
            }
        }
        Ok(&self.buffer)
    }

    fn consume(&mut self, amount: usize) {
        let _ = self.buffer.split_to(amount.min(self.buffer.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_must_lead_to_a_ref_advertisement() {
        let base = |text: &str| base_of(&Url::parse(text).unwrap());
        let advertisement = "https://b.example/x.git/info/refs?service=git-upload-pack";
        assert_eq!(base(advertisement), Some("https://b.example/x.git".to_owned()));
        assert_eq!(base("https://b.example/x.git/info/refs"), None);
        assert_eq!(base("https://b.example/login?service=git-upload-pack"), None);
    }
}
