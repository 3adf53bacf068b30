//! An archive over HTTP: hashed as it comes, and not again if it has not changed.

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::door::{Answer, Body, Outgoing, Session};
use super::error::SourceError;
use super::spool::{MEMORY_BYTES, Spool, Spooled};
use super::url::SourceUrl;
use crate::digest::Digest;

/// Bytes of a validator that is worth remembering.
const MAX_VALIDATOR_BYTES: usize = 1024;

/// As it is (RFC 9110, section 12.5.3).
const IDENTITY: &str = "identity";

/// What a server said to recognise unchanged bytes by (RFC 9110, section 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= MAX_VALIDATOR_BYTES).then(|| value.to_owned())
        };
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    fn conditions(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(IF_NONE_MATCH, &self.etag), (IF_MODIFIED_SINCE, &self.last_modified)] {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// Bytes that were downloaded in full.
pub(super) struct Downloaded {
    pub content: Spooled,
    pub digest: Digest,
    pub bytes: u64,
    pub validators: Validators,
}

/// Download `url`; `None` if the server says that it is what `known` describes.
pub(super) async fn download(
    session: &Session,
    url: &SourceUrl,
    known: Option<&Validators>,
) -> Result<Option<Downloaded>, SourceError> {
    let Some((validators, answer)) = changed(session, url, HeaderMap::new(), known).await? else { return Ok(None) };
    let mut spool = Spool::new(&session.door.options.work_dir, MEMORY_BYTES);
    let mut hasher = Sha256::new();
    let mut body = Body::new(answer, session.door.options.max_download_bytes)?;
    while let Some(bytes) = body.chunk(session).await? {
        hasher.update(&bytes);
        spool.write(&bytes).await?;
    }
    let content = spool.finish().await?;
    Ok(Some(Downloaded { content, digest: Digest::from_hasher(hasher), bytes: body.got(), validators }))
}

/// The bytes at `url`, of which there may be at most `limit`.
pub(super) async fn read(session: &Session, url: &SourceUrl, limit: u64) -> Result<Vec<u8>, SourceError> {
    let read = read_if_changed(session, url, limit, None).await?;
    Ok(read.map(|(bytes, _)| bytes).unwrap_or_default())
}

/// The bytes at `url`, of which there may be at most `limit`, and what their server recognises them by; `None` if it says
/// that they are what `known` describes.
pub(super) async fn read_if_changed(
    session: &Session,
    url: &SourceUrl,
    limit: u64,
    known: Option<&Validators>,
) -> Result<Option<(Vec<u8>, Validators)>, SourceError> {
    let identity = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(IDENTITY))]);
    let Some((validators, answer)) = changed(session, url, identity, known).await? else { return Ok(None) };
    // An archive is told by its content; a text that is not what it should be only confuses whoever reads it next.
    if let Some(encoding) = answer.response.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != IDENTITY) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).chars().take(40).collect();
        return Err(SourceError::Encoded { url: url.to_string(), encoding });
    }
    Ok(Some((Body::new(answer, limit)?.read(session).await?, validators)))
}

/// The answer to a request for `url`; `None` if it says that nothing has changed since `known`.
async fn changed(
    session: &Session,
    url: &SourceUrl,
    mut headers: HeaderMap,
    known: Option<&Validators>,
) -> Result<Option<(Validators, Answer)>, SourceError> {
    let conditions = known.map(Validators::conditions).unwrap_or_default();
    let conditional = !conditions.is_empty();
    headers.extend(conditions);
    let answer = session.send(url.as_url(), Outgoing::get(headers)).await?;
    if answer.response.status() == StatusCode::NOT_MODIFIED {
        let status = StatusCode::NOT_MODIFIED.as_u16();
        return if conditional {
            Ok(None)
        } else {
            Err(SourceError::Status { url: url.to_string(), status, retry_after: None })
        };
    }
    Ok(Some((Validators::of(answer.response.headers()), answer)))
}
