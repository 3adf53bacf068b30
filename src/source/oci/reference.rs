//! What is meant in a registry: the repository, and the tag, range or digest in it. Pure: no client, clock, disk or network.

use std::fmt;
use std::str::FromStr;

use semver::VersionReq;
use url::Url;

use crate::digest::Digest;
use crate::source::url::{Origin, SourceUrl, UrlFault};
use crate::source::version::{self, Written};

/// Bytes that the name of a repository may have.
const MAX_NAME_BYTES: usize = 255;
/// Bytes that a tag may have (OCI distribution specification, "Pulling manifests").
const MAX_TAG_BYTES: usize = 128;
/// What `docker.io` and its older name stand for.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// Names of Docker Hub in URLs and in Docker's configuration.
const DOCKER_HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", DOCKER_HUB];

/// A repository in a registry: `oci://host[:port]/repo/name`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OciUrl {
    /// Scheme, host and port of the registry's API.
    base: Url,
    name: String,
}

/// Why a text is no [`OciUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OciUrlFault {
    /// Another scheme.
    #[error("a registry's address begins with oci://, like oci://ghcr.io/team/extension")]
    Scheme,
    /// What is no part of an address: credentials, fragment, white space.
    #[error(transparent)]
    Url(UrlFault),
    /// A query.
    #[error("a query (?…) is not allowed; leave it out")]
    Query,
    /// A tag or digest in the address.
    #[error("{0:?} names a tag or digest: write the tag into refs, the digest into digest")]
    Reference(String),
    /// No name, or one that no repository can have.
    #[error(
        "{0:?} is no repository: expected lower-case words of letters and digits, which . _ or - may join, separated by /"
    )]
    Name(String),
}

impl OciUrl {
    /// Parse `text`. The registry is asked over HTTPS, or, where `insecure`, over plain HTTP.
    ///
    /// `docker.io` stands for the host that serves it, and a single word there for an official image, as for Docker.
    ///
    /// # Errors
    /// The [`OciUrlFault`] that `text` has.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, OciUrlFault> {
        let rest = text.strip_prefix("oci://").ok_or(OciUrlFault::Scheme)?;
        let scheme = if insecure { "http" } else { "https" };
        let url = SourceUrl::parse(&format!("{scheme}://{rest}")).map_err(OciUrlFault::Url)?;
        let mut base = url.as_url().clone();
        if base.query().is_some() {
            return Err(OciUrlFault::Query);
        }
        let mut name = base.path().trim_start_matches('/').to_owned();
        // what stands before it may be a password with an unescaped slash
        if name.rsplit_once('@').is_some_and(|(_, digest)| !digest.starts_with("sha256:")) {
            return Err(OciUrlFault::Url(UrlFault::Credentials));
        }
        if name.contains(['@', ':']) {
            return Err(OciUrlFault::Reference(shortened(&name)));
        }
        base.set_path("/");
        if base.host_str().is_some_and(|host| DOCKER_HUB_NAMES.contains(&host)) {
            base.set_host(Some(DOCKER_HUB)).map_err(|_| OciUrlFault::Scheme)?;
            if !name.is_empty() && !name.contains('/') {
                name.insert_str(0, "library/");
            }
        }
        if !is_name(&name) {
            return Err(OciUrlFault::Name(shortened(&name)));
        }
        Ok(Self { base, name })
    }

    /// The repository's name, without the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the registry's API is.
    pub fn origin(&self) -> Origin {
        Origin::of(&self.base)
    }

    /// Host and port as Docker's configuration names the registry.
    pub(super) fn registry(&self) -> String {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        canonical_registry(&format!("{}{port}", self.base.host_str().unwrap_or_default())).to_owned()
    }

    /// The URL of `rest` below the repository in the API.
    pub(super) fn endpoint(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.name));
        url
    }
}

impl fmt::Display for OciUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "oci://{}{port}/{}", self.base.host_str().unwrap_or_default(), self.name)
    }
}

impl fmt::Debug for OciUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} at {}", self.origin())
    }
}

/// One name for each registry: Docker Hub has several.
pub(in crate::source) fn canonical_registry(host: &str) -> &str {
    if DOCKER_HUB_NAMES.contains(&host) { DOCKER_HUB } else { host }
}

/// The grammar of the OCI distribution specification.
fn is_name(name: &str) -> bool {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    let component = |text: &str| {
        let dashes = text.replace("__", ".");
        let mut rest = dashes.as_str();
        loop {
            let end = rest.find(['.', '_', '-']).unwrap_or(rest.len());
            let (first, after) = rest.split_at(end);
            if !word(first) {
                return false;
            }
            if after.is_empty() {
                return true;
            }
            rest = if after.starts_with('-') { after.trim_start_matches('-') } else { &after[1..] };
        }
    };
    name.len() <= MAX_NAME_BYTES && name.split('/').all(component)
}

/// The name of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(String);

/// Why a text is no [`Tag`] and no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagFault {
    /// Not a name that a registry allows.
    #[error("{0:?} is no tag or semantic version range of a registry; a digest goes into digest")]
    Name(String),
    /// Written as a range, but not well.
    #[error("{0:?} is no semantic version range ({1}); expected one such as ^1.2, 1.x or >=1.0.0 <2.0.0")]
    Range(String, String),
}

impl Tag {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `latest`, which is meant where nothing is said.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// `sha256-<hex><suffix>`: where what belongs to `digest` is found in registries that list no referrers.
    pub fn of_digest(digest: &Digest, suffix: &str) -> Self {
        Self(format!("sha256-{}{suffix}", digest.hex()))
    }
}

impl FromStr for Tag {
    type Err = TagFault;

    fn from_str(text: &str) -> Result<Self, TagFault> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let begins = !text.is_empty() && !text.starts_with(['.', '-']);
        if begins && text.len() <= MAX_TAG_BYTES && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TagFault::Name(shortened(text)))
        }
    }
}

/// What a source asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OciRef {
    /// What a tag points to now.
    Tag(Tag),
    /// The tag with the highest semantic version in a range such as `^1.2` or `>=1.0 <2.0`.
    Range(VersionReq),
    /// A tag called like a range, such as `4.x`; where there is none, that range.
    TagOrRange(Tag, VersionReq),
    /// The manifest with this digest.
    Digest(Digest),
}

impl FromStr for OciRef {
    type Err = TagFault;

    /// A tag or a range, as `refs` names them.
    fn from_str(text: &str) -> Result<Self, TagFault> {
        match version::read(text) {
            Written::Name => text.parse().map(Self::Tag),
            Written::Range(range) => Ok(Self::Range(range)),
            Written::NameOrRange(range) => Ok(Self::TagOrRange(text.parse()?, range)),
            Written::Broken(why) => Err(TagFault::Range(shortened(text), why)),
        }
    }
}

/// What one manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// Whatever a tag points to.
    Tag(Tag),
    /// These bytes and no others.
    Digest(Digest),
}

impl Reference {
    /// As it stands in the API's paths.
    pub(super) fn segment(&self) -> String {
        match self {
            Self::Tag(tag) => tag.0.clone(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "tag {:?}", tag.0),
            Self::Digest(digest) => write!(f, "manifest {digest}"),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        OciUrl::parse(text, false).map(|url| format!("{url:?}")).map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_address_is_a_registry_and_a_repository() {
        for (text, expected) in [
            ("oci://GHCR.io/team/ext", "oci://ghcr.io/team/ext at https://ghcr.io"),
            ("oci://127.0.0.1:5000/a/b__c/d--e.f_g", "oci://127.0.0.1:5000/a/b__c/d--e.f_g at https://127.0.0.1:5000"),
            ("oci://[::1]:5000/ext", "oci://[::1]:5000/ext at https://[::1]:5000"),
            ("oci://docker.io/team/ext", "oci://registry-1.docker.io/team/ext at https://registry-1.docker.io"),
            ("oci://docker.io/ext", "oci://registry-1.docker.io/library/ext at https://registry-1.docker.io"),
        ] {
            assert_eq!(parsed(text).unwrap(), expected);
        }
        let plain = OciUrl::parse("oci://registry.local:80/ext", true).unwrap();
        assert_eq!(format!("{plain:?}"), "oci://registry.local/ext at http://registry.local");
        assert_eq!(plain.endpoint("tags/list").as_str(), "http://registry.local/v2/ext/tags/list");
    }

    #[test]
    fn other_addresses_are_refused_with_what_is_allowed() {
        for (text, expected) in [
            ("https://ghcr.io/a", "a registry's address begins with oci://, like oci://ghcr.io/team/extension"),
            ("oci://ghcr.io/a:v1", "\"a:v1\" names a tag or digest: write the tag into refs, the digest into digest"),
            ("oci://ghcr.io/a@sha256:00", "\"a@sha256:00\" names a tag or digest"),
            ("oci://ghcr.io", "\"\" is no repository: expected lower-case words"),
            ("oci://ghcr.io/Team/ext", "\"Team/ext\" is no repository: expected lower-case words"),
            ("oci://ghcr.io/a//b", "\"a//b\" is no repository"),
            ("oci://ghcr.io/a/", "\"a/\" is no repository"),
            ("oci://ghcr.io/a___b", "\"a___b\" is no repository"),
            ("oci://ghcr.io/-a", "\"-a\" is no repository"),
            ("oci://ghcr.io/a%2fb", "is no repository"),
            ("oci://ghcr.io/a?x=1", "a query (?…) is not allowed"),
            ("oci://bob:12/hunter2@ghcr.io/a", "a user name or password in the URL is not allowed"),
            ("oci://bob:hunter2@ghcr.io/a", "a user name or password in the URL is not allowed"),
            ("oci:///a/b c", "white space"),
        ] {
            let fault = parsed(text).unwrap_err();
            assert!(fault.contains(expected) && !fault.contains("hunter2"), "{text}: {fault}");
        }
        assert!(OciUrl::parse(&format!("oci://ghcr.io/{}", "a".repeat(256)), false).is_err());
    }

    #[test]
    fn a_tag_is_told_from_a_range() {
        assert_eq!("v1.2".parse(), Ok(OciRef::Tag(Tag("v1.2".into()))));
        assert!(matches!("^1.2".parse(), Ok(OciRef::Range(_))));
        assert!(matches!("4.x".parse(), Ok(OciRef::TagOrRange(tag, _)) if tag.as_str() == "4.x"));
        assert!(matches!(">=1.0.0 <2.0.0".parse(), Ok(OciRef::Range(_))));
        let fault = "^y".parse::<OciRef>().unwrap_err().to_string();
        assert!(
            fault.contains("is no semantic version range (") && fault.contains("expected one such as ^1.2"),
            "{fault}"
        );
        for text in ["", "-x", ".x", "a/b", "a:b", "sha256:00", "a b", &"x".repeat(129)] {
            let fault = text.parse::<OciRef>().unwrap_err().to_string();
            assert!(fault.contains("is no tag or semantic version range"), "{fault}");
        }
    }

    #[test]
    fn every_name_of_docker_hub_is_the_same_registry() {
        let hub = OciUrl::parse("oci://index.docker.io/a/b", false).unwrap();
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert_eq!(canonical_registry(name), hub.registry());
        }
        assert_eq!(OciUrl::parse("oci://a.example:5000/x", false).unwrap().registry(), "a.example:5000");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused_and_what_is_taken_stays_below_the_api(text in "oci://\\PC{0,60}|oci://[a-z.:/_@%-]{0,40}") {
            if let Ok(url) = OciUrl::parse(&text, false) {
                let path = url.endpoint("x").path().to_owned();
                proptest::prop_assert_eq!(path, format!("/v2/{}/x", url.name()));
                proptest::prop_assert!(!url.name().split('/').any(|part| part == ".." || part == "."));
            }
        }
    }
}
