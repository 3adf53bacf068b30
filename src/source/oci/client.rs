//! A repository in a registry, read over the distribution API: manifests, blobs, tags, referrers.
//!
//! Nothing that a registry sends is believed before it hashes to what was asked for; where a tag was asked for, the digest is
//! that of the bytes, not the one in a header.

use std::borrow::Cow;
use std::sync::Mutex;

use hyper::body::Bytes;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::auth;
use super::fault::OciFault;
use super::manifest::{Descriptor, MAX_MANIFEST_BYTES, Referrer, referrers};
use super::reference::{OciUrl, Reference, Tag};
use crate::digest::Digest;
use crate::source::credentials::header;
use crate::source::docker_config::RegistryLogin;
use crate::source::door::{Answer, Authorization, Body, Outgoing, Session};
use crate::source::error::SourceError;
use crate::source::url::Origin;

/// What manifests may be.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The header in which registries name the digest of a manifest.
const DIGEST_HEADER: &str = "docker-content-digest";
/// Pages of a list.
const MAX_PAGES: usize = 100;
/// Bytes of a list, in all pages: what is kept of it takes a few times as much memory.
const MAX_LIST_BYTES: u64 = 8 << 20;
/// Tags of a repository, in all pages.
const MAX_TAGS: usize = 50_000;
/// Referrers of a manifest, in all pages.
const MAX_REFERRERS: usize = 1000;

/// A repository, for one resolve or fetch: it has a deadline.
pub struct Repository {
    session: Session,
    url: OciUrl,
    login: Option<RegistryLogin>,
    /// What the registry has asked for, once it has.
    authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes: at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Vec<u8>,
}

impl Repository {
    /// # Errors
    /// [`SourceError`] if the credentials of `session` may not be sent to the registry, or have no login for it.
    pub(in crate::source) fn new(session: Session, url: &OciUrl) -> Result<Self, SourceError> {
        session.check_origin(url.origin(), url)?;
        let login = session.credentials().map(|credentials| auth::login(credentials, url)).transpose()?.flatten();
        let authorization = match &login {
            Some(RegistryLogin::Bearer(token)) => header("Bearer", token),
            _ => None,
        };
        Ok(Self { session, url: url.clone(), login, authorization: Mutex::new(authorization) })
    }

    /// Where it is.
    pub fn url(&self) -> &OciUrl {
        &self.url
    }

    /// The manifest that `reference` means.
    ///
    /// # Errors
    /// [`SourceError::RefNotFound`] if there is none, [`OciFault::Digest`] if its bytes have another digest.
    pub async fn manifest(&self, reference: &Reference) -> Result<RawManifest, SourceError> {
        let url = self.url.endpoint(&format!("manifests/{}", reference.segment()));
        let answer = self.found(self.ask(Method::GET, &url, MANIFEST_TYPES).await?, reference)?;
        let bytes = Body::new(answer, MAX_MANIFEST_BYTES)?.read(&self.session).await?;
        let actual = Digest::of(&bytes);
        match reference {
            Reference::Digest(expected) if *expected != actual => {
                Err(self.fault(OciFault::Digest { expected: *expected, actual, bytes: bytes.len() as u64 }))
            }
            _ => Ok(RawManifest { digest: actual, bytes }),
        }
    }

    /// The digest that the registry says `tag` has: good for finding out that nothing changed, and for nothing else. `None` if it
    /// does not say.
    ///
    /// # Errors
    /// [`SourceError::RefNotFound`] if there is no such tag.
    pub(super) async fn announced(&self, tag: &Tag) -> Result<Option<Digest>, SourceError> {
        let reference = Reference::Tag(tag.clone());
        let url = self.url.endpoint(&format!("manifests/{}", reference.segment()));
        let answer = self.ask(Method::HEAD, &url, MANIFEST_TYPES).await?;
        if matches!(answer.response.status().as_u16(), 400 | 405 | 501) {
            return Ok(None);
        }
        let answer = self.found(answer, &reference)?;
        Ok(answer.response.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// The bytes of a small blob: at most `limit`.
    ///
    /// # Errors
    /// [`SourceError`], also if the bytes are not those that `descriptor` names.
    pub async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        let mut blob = self.open(descriptor, limit).await?;
        let mut all = Vec::new();
        while let Some(bytes) = blob.chunk().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// Begin to receive a blob of at most `limit` bytes.
    pub(super) async fn open<'a>(&'a self, descriptor: &'a Descriptor, limit: u64) -> Result<Blob<'a>, SourceError> {
        if descriptor.size > limit {
            return Err(SourceError::TooLarge { url: self.url.to_string(), limit });
        }
        let url = self.url.endpoint(&format!("blobs/{}", descriptor.digest));
        let answer = self.good(self.ask(Method::GET, &url, "*/*").await?)?;
        Ok(Blob { repository: self, descriptor, body: Body::new(answer, descriptor.size)?, hasher: Sha256::new() })
    }

    /// All tags, without the names that no tag can have.
    ///
    /// # Errors
    /// [`SourceError`], also for a list that is too long.
    pub async fn tags(&self) -> Result<Vec<Tag>, SourceError> {
        #[derive(Deserialize)]
        struct Page<'a> {
            // some registries say null where there are none
            #[serde(borrow)]
            tags: Option<Vec<Cow<'a, str>>>,
        }
        let mut first = self.url.endpoint("tags/list");
        first.set_query(Some("n=1000"));
        let (mut all, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { return Ok(all) };
            let answer = self.good(self.ask(Method::GET, &url, "application/json").await?)?;
            next = self.next_page(&url, answer.response.headers())?;
            let page = self.page(answer, &mut bytes).await?;
            let page: Page<'_> = self.json(&page)?;
            all.extend(page.tags.iter().flatten().filter_map(|tag| tag.parse::<Tag>().ok()));
            if all.len() > MAX_TAGS {
                return Err(self.fault(OciFault::Endless("50000 tags")));
            }
        }
        Err(self.fault(OciFault::Endless("100 pages of tags")))
    }

    /// What refers to the manifest `digest`, such as its signatures. Registries that do not list them are asked for the tag
    /// that stands for the list (OCI distribution specification, "Referrers Tag Schema").
    ///
    /// # Errors
    /// [`SourceError`], also for a list that is too long. No list at all is an empty one.
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Referrer>, SourceError> {
        let (mut all, mut bytes) = (Vec::new(), 0);
        let mut next = Some(self.url.endpoint(&format!("referrers/{digest}")));
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { return Ok(all) };
            let answer = self.ask(Method::GET, &url, MANIFEST_TYPES).await?;
            if answer.response.status() == StatusCode::NOT_FOUND {
                return self.referrers_by_tag(digest).await;
            }
            let answer = self.good(answer)?;
            next = self.next_page(&url, answer.response.headers())?;
            let page = self.page(answer, &mut bytes).await?;
            all.extend(referrers(&page).map_err(|fault| self.fault(fault))?);
            if all.len() > MAX_REFERRERS {
                return Err(self.fault(OciFault::Endless("1000 referrers")));
            }
        }
        Err(self.fault(OciFault::Endless("100 pages of referrers")))
    }

    async fn referrers_by_tag(&self, digest: &Digest) -> Result<Vec<Referrer>, SourceError> {
        let tag = Reference::Tag(Tag::of_digest(digest, ""));
        match self.manifest(&tag).await {
            Ok(list) => referrers(&list.bytes).map_err(|fault| self.fault(fault)),
            Err(SourceError::RefNotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// A page of a list whose pages had `bytes` so far.
    async fn page(&self, answer: Answer, bytes: &mut u64) -> Result<Vec<u8>, SourceError> {
        let page = Body::new(answer, MAX_MANIFEST_BYTES)?.read(&self.session).await?;
        *bytes += page.len() as u64;
        if *bytes > MAX_LIST_BYTES { Err(self.fault(OciFault::Endless("8 MiB"))) } else { Ok(page) }
    }

    /// Ask, and once again with what the registry wants to see, if it wants something.
    async fn ask(&self, method: Method, url: &Url, accept: &'static str) -> Result<Answer, SourceError> {
        let held = self.held();
        let answer = self.session.ask(url, self.outgoing(&method, accept, held.clone())).await?;
        let is_refusal = answer.response.status() == StatusCode::UNAUTHORIZED;
        if !is_refusal || held.is_some() || Origin::of(&answer.url) != self.url.origin() {
            return Ok(answer);
        }
        let headers = answer.response.headers();
        let Some(value) = auth::answer(&self.session, &self.url, self.login.as_ref(), headers).await? else {
            return Ok(answer);
        };
        *self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(value.clone());
        self.session.ask(url, self.outgoing(&method, accept, Some(value))).await
    }

    fn held(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn outgoing(&self, method: &Method, accept: &'static str, authorization: Option<HeaderValue>) -> Outgoing {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let own = authorization.map(|value| (self.url.origin(), value));
        Outgoing { method: method.clone(), authorization: Authorization::Own(own), ..Outgoing::get(headers) }
    }

    fn good(&self, answer: Answer) -> Result<Answer, SourceError> {
        if answer.response.status().is_success() { Ok(answer) } else { Err(answer.refused(self.login.is_some())) }
    }

    fn found(&self, answer: Answer, reference: &Reference) -> Result<Answer, SourceError> {
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Err(SourceError::RefNotFound { url: self.url.to_string(), what: reference.to_string() });
        }
        self.good(answer)
    }

    /// The next page, if there is one (RFC 8288): within the registry, because its token goes along.
    fn next_page(&self, url: &Url, headers: &HeaderMap) -> Result<Option<Url>, SourceError> {
        let Some(link) = headers.get(LINK).and_then(|value| value.to_str().ok()).and_then(next_link) else {
            return Ok(None);
        };
        let elsewhere = || self.fault(OciFault::Answer("its next page is not within the registry".to_owned()));
        let next = url.join(link).map_err(|_| elsewhere())?;
        if Origin::of(&next) == self.url.origin() { Ok(Some(next)) } else { Err(elsewhere()) }
    }

    fn json<'de, T: Deserialize<'de>>(&self, bytes: &'de [u8]) -> Result<T, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| {
            self.fault(OciFault::Answer(format!(
                "no JSON as expected, at line {}, column {}",
                error.line(),
                error.column()
            )))
        })
    }

    pub(super) fn fault(&self, fault: OciFault) -> SourceError {
        SourceError::Oci { url: self.url.to_string(), fault }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

/// A blob on its way, hashed as it comes. Its bytes may be used once [`chunk`](Self::chunk) has said that it is whole.
pub(super) struct Blob<'a> {
    repository: &'a Repository,
    descriptor: &'a Descriptor,
    body: Body,
    hasher: Sha256,
}

impl Blob<'_> {
    /// The next bytes; `None` at the end, if all of them together are those that were asked for.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        if let Some(bytes) = self.body.chunk(&self.repository.session).await? {
            self.hasher.update(&bytes);
            return Ok(Some(bytes));
        }
        let (bytes, Descriptor { digest, size, .. }) = (self.body.got(), self.descriptor);
        if bytes != *size {
            return Err(self.repository.fault(OciFault::Size { digest: *digest, size: *size, bytes }));
        }
        let actual = Digest::from_hasher(std::mem::take(&mut self.hasher));
        if actual != *digest {
            return Err(self.repository.fault(OciFault::Digest { expected: *digest, actual, bytes }));
        }
        Ok(None)
    }
}

/// The target of `<…>; rel="next"` among the links of a header.
fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| {
            let parameter = parameter.trim();
            parameter.eq_ignore_ascii_case("rel=next") || parameter.eq_ignore_ascii_case("rel=\"next\"")
        };
        parameters.split(';').any(is_next).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        assert_eq!(next_link("</v2/x/tags/list?last=b&n=2>; rel=\"next\""), Some("/v2/x/tags/list?last=b&n=2"));
        assert_eq!(next_link("</a>; rel=\"prev\", </b>; title=x; rel=next"), Some("/b"));
        for none in ["", "</a>", "</a>; rel=\"last\"", "/a; rel=next", "</a; rel=next"] {
            assert_eq!(next_link(none), None, "{none}");
        }
    }
}
