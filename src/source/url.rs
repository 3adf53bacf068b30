//! The address of a source: parsed once, and never shown with what may be secret.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// Bytes that a source's URL may have.
pub const MAX_URL_BYTES: usize = 2048;

/// An `http` or `https` URL with a host and without user name, password or fragment.
///
/// `Display` and `Debug` leave out the query, because it may hold a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SourceUrl(Url);

/// Why a text is no [`SourceUrl`]. No message shows any part of the text but a scheme: what reads as host or path may be part of a
/// password with an unescaped `/` or `#`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Longer than [`MAX_URL_BYTES`].
    #[error("{0} bytes are too long; at most {MAX_URL_BYTES} are allowed")]
    TooLong(usize),
    /// White space, control characters or backslashes, which clients read in different ways.
    #[error("white space, control characters and backslashes are not allowed; write them percent-encoded")]
    Character,
    /// No URL at all.
    #[error("not a URL ({0}); expected one like https://example.com/path")]
    Malformed(String),
    /// Another scheme, among them `file`, `ssh`, `git` and git's `ext` (CVE-2024-10220, CVE-2024-32021).
    #[error("the scheme {0:?} is not allowed; use https (or http)")]
    Scheme(String),
    /// Credentials in the URL.
    #[error("a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef")]
    Credentials,
    /// A query where none is sent.
    #[error("a query (?…) is not allowed for git; leave it out")]
    Query,
    /// A fragment, which is never sent to a server.
    #[error("a fragment (#…) is not allowed; leave it out")]
    Fragment,
}

impl SourceUrl {
    /// Parse `text`.
    ///
    /// # Errors
    /// The [`UrlFault`] that `text` has.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        if text.len() > MAX_URL_BYTES {
            return Err(UrlFault::TooLong(text.len()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(UrlFault::Character);
        }
        let url = Url::parse(text).map_err(|error| UrlFault::Malformed(error.to_string()))?;
        let after_scheme = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
        if !matches!(url.scheme(), "http" | "https") {
            // without "//" the first word may be a user name
            return Err(match after_scheme.is_none() && text.contains('@') {
                true => UrlFault::Malformed("it has no scheme".to_owned()),
                false => UrlFault::Scheme(url.scheme().chars().take(30).collect()),
            });
        }
        if after_scheme.is_none_or(|rest| rest.starts_with('/')) {
            return Err(UrlFault::Malformed("no host follows the scheme".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlFault::Credentials);
        }
        if url.fragment().is_some() {
            return Err(UrlFault::Fragment);
        }
        Ok(Self(url))
    }

    /// The URL itself, its query included.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The same address with `suffix` at the end of the path; a query stays behind it.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{suffix}", self.0.path()));
        Self(url)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> Origin {
        Origin::of(&self.0)
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `url` without user name, password, fragment and the text of its query: fit for a message.
pub(crate) fn masked(url: &Url) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}{}{query}", Origin::of(url), url.path())
}

/// Scheme, host and port: what credentials are bound to (RFC 6454).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin(String);

/// Why a text is no [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin: expected scheme, host and perhaps port, like https://example.com or https://example.com:8443"
)]
pub struct OriginFault(String);

impl Origin {
    /// The origin of `url`. The port is left out where it is the scheme's own.
    pub(crate) fn of(url: &Url) -> Self {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Self(format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()))
    }

    /// Whether what is sent there is encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Parse `text`, as in the annotation `outrigger.dev/allowed-origins`. A single `/` may end it.
    ///
    /// # Errors
    /// [`OriginFault`] for anything with a path, a query or credentials, or without scheme or host.
    pub fn parse(text: &str) -> Result<Self, OriginFault> {
        let fault = || {
            let shown = text.rsplit('@').next().unwrap_or_default();
            OriginFault(shown.chars().take(200).collect())
        };
        let url = SourceUrl::parse(text).map_err(|_| fault())?;
        if url.0.path() != "/" || url.0.query().is_some() {
            return Err(fault());
        }
        Ok(url.origin())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        SourceUrl::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn only_http_and_https_are_taken() {
        for text in
            ["file:///etc/passwd", "ssh://git@example.com/x", "ext::sh -c true", "git://example.com/x", "/srv/x"]
        {
            assert!(SourceUrl::parse(text).is_err(), "{text}");
        }
        assert_eq!(fault("file:///etc/passwd"), r#"the scheme "file" is not allowed; use https (or http)"#);
        assert_eq!(fault("ext::sh"), r#"the scheme "ext" is not allowed; use https (or http)"#);
        assert!(SourceUrl::parse("https://example.com/x.git").is_ok());
    }

    #[test]
    fn credentials_in_the_url_are_refused_without_being_shown() {
        let text = fault("https://bob:hunter2@example.com/x?token=s3cret");
        assert_eq!(
            text,
            "a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef"
        );
        for text in
            ["https://bob:hunter2/x@example.com/", "https://bob:1234#hunter2@example.com/", "hunter2:x@example.com"]
        {
            let text = fault(text);
            assert!(!["bob", "1234", "hunter2"].iter().any(|secret| text.contains(secret)), "{text}");
        }
    }

    #[test]
    fn what_clients_read_in_different_ways_is_refused() {
        for text in
            ["https://a.example\\@b.example/", "https://a.example/ x", "https://a.example/\nx", " https://a.example"]
        {
            assert_eq!(SourceUrl::parse(text), Err(UrlFault::Character), "{text:?}");
        }
        assert!(fault("https://a.example/#x").contains("a fragment (#…) is not allowed"));
        assert!(fault(&format!("https://a.example/{}", "x".repeat(3000))).contains("at most 2048"));
    }

    #[test]
    fn a_query_is_kept_but_never_shown() {
        let url = SourceUrl::parse("https://example.com/x.zip?X-Amz-Signature=abc").unwrap();
        assert_eq!(url.to_string(), "https://example.com/x.zip?…");
        assert_eq!(format!("{url:?}"), "https://example.com/x.zip?…");
        assert_eq!(url.as_url().query(), Some("X-Amz-Signature=abc"));
    }

    #[test]
    fn a_suffix_goes_before_the_query() {
        let with = |text: &str| SourceUrl::parse(text).unwrap().with_suffix(".sig").as_url().to_string();
        assert_eq!(with("https://example.com/x%20y.zip"), "https://example.com/x%20y.zip.sig");
        assert_eq!(with("https://example.com/x.zip?token=a.b"), "https://example.com/x.zip.sig?token=a.b");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = ["https://Example.com", "https://example.com/", "https://example.com:443"];
        for text in same {
            assert_eq!(Origin::parse(text).unwrap().to_string(), "https://example.com");
        }
        assert_ne!(Origin::parse("http://example.com").unwrap(), Origin::parse("https://example.com").unwrap());
        assert_ne!(Origin::parse("https://example.com:8443").unwrap(), Origin::parse("https://example.com").unwrap());
        for text in ["example.com", "*", "https://example.com/x", "https://example.com?x", ""] {
            assert!(Origin::parse(text).unwrap_err().to_string().contains("expected scheme, host"), "{text}");
        }
        assert!(!Origin::parse("https://bob:hunter2@example.com").unwrap_err().to_string().contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused_and_no_secret_is_shown(
            scheme in "https?|file|ext", user in "[a-z]{0,3}", host in "[a-z0-9.\\[\\]:%@\\\\]{0,20}", tail in "\\PC{0,20}",
        ) {
            let text = format!("{scheme}://{user}:hunter2@{host}/{tail}");
            let refused = SourceUrl::parse(&text).unwrap_err();
            proptest::prop_assert!(!refused.to_string().contains("hunter2"), "{}", refused);
            if let Ok(url) = SourceUrl::parse(&format!("{scheme}://{host}/?hunter2{tail}")) {
                proptest::prop_assert!(!url.to_string().contains("hunter2"));
            }
            let _ = Origin::parse(&text);
        }
    }
}
