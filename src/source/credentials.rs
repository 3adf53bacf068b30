//! Credentials for a source: read from a Secret, and bound to the origins that its owner allows.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::docker_config::{DockerConfig, DockerConfigFault};
use super::error::SourceError;
use super::url::{Origin, OriginFault};
use crate::redact::{Redactor, Secrets};

/// The annotation that lists the origins a Secret's content may be sent to, separated by commas or white space.
pub const ALLOWED_ORIGINS: &str = "outrigger.dev/allowed-origins";

/// The key of a Secret of the type `kubernetes.io/dockerconfigjson`.
const DOCKER: &str = ".dockerconfigjson";
/// The keys that are read, as Flux names them.
const KEYS: [&str; 10] = [
    "username",
    "password",
    "bearerToken",
    DOCKER,
    CA.0,
    CA.1,
    CERTIFICATE.0,
    CERTIFICATE.1,
    PRIVATE_KEY.0,
    PRIVATE_KEY.1,
];
/// Keys with the names that Flux had for them before, and still takes.
const CA: (&str, &str) = ("ca.crt", "caFile");
const CERTIFICATE: (&str, &str) = ("tls.crt", "certFile");
const PRIVATE_KEY: (&str, &str) = ("tls.key", "keyFile");

/// What a Secret gives for fetching. Nothing of it is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) secret: String,
    pub(super) login: Option<Login>,
    /// Roots to trust in addition to the system's, PEM.
    pub(super) ca: Option<Vec<u8>>,
    /// Client certificate chain and key in one PEM text.
    pub(super) client: Option<Vec<u8>>,
    pub(super) allowed_origins: Vec<Origin>,
}

/// What the `Authorization` header says.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Basic {
        username: String,
        password: String,
    },
    Bearer(String),
    /// One login for each registry; for nothing else.
    Docker(DockerConfig),
}

/// Why a Secret cannot be used for a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Secret {secret:?}: {kind}")]
pub struct CredentialsFault {
    /// The Secret's name.
    pub secret: String,
    /// What is wrong with it.
    pub kind: CredentialsFaultKind,
}

/// What is wrong with a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsFaultKind {
    /// No annotation.
    #[error(
        "the annotation {ALLOWED_ORIGINS} is missing; set it to the origins that may see the content, like https://example.com"
    )]
    NoOrigins,
    /// An annotation that cannot be read.
    #[error("annotation {ALLOWED_ORIGINS}: {0}")]
    Origin(OriginFault),
    /// None of the keys that are read.
    #[error(
        "no key that is used for a source; expected username and password, or bearerToken, or .dockerconfigjson, or ca.crt, or tls.crt and tls.key"
    )]
    Empty,
    /// One key of a pair.
    #[error("{present} without {missing}; both are needed")]
    Pair {
        /// The key that is there.
        present: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Two ways to log in.
    #[error("both {0} and {1}; keep one")]
    TwoLogins(&'static str, &'static str),
    /// A Docker configuration that cannot be read.
    #[error(".dockerconfigjson: {0}")]
    Docker(DockerConfigFault),
    /// A Docker configuration for other registries.
    #[error(".dockerconfigjson: no login for {registry}; it has one for {}", .present.join(", "))]
    NoEntry {
        /// The registry of the source.
        registry: String,
        /// Those that have one.
        present: Vec<String>,
    },
    /// A Docker configuration for what is no registry.
    #[error(".dockerconfigjson is for type oci alone; use username and password, or bearerToken")]
    NoRegistry,
    /// A value that cannot be sent.
    #[error("{0}: empty, not UTF-8, or with a control character (a line break at its end?)")]
    Value(&'static str),
    /// One thing under both of its names.
    #[error("{0} and {1} are two names for the same, and their contents differ; keep one")]
    TwoNames(&'static str, &'static str),
    /// A value without a certificate, which would trust nobody and prove nothing.
    #[error("{0}: not PEM with a certificate in it; expected a text with -----BEGIN CERTIFICATE-----")]
    NoCertificate(&'static str),
    /// A value without a key that can be used.
    #[error(
        "{0}: not PEM with a private key in it; expected a text with -----BEGIN PRIVATE KEY-----, and not an encrypted one"
    )]
    NoPrivateKey(&'static str),
}

impl Credentials {
    /// Read the Secret `secret` with the entries `data` and the value `origins` of its annotation [`ALLOWED_ORIGINS`].
    /// Keys that are not for a source are left alone.
    ///
    /// # Errors
    /// [`CredentialsFault`] names the Secret and the key that is wrong, never a value.
    pub fn from_secret(
        secret: &str,
        data: &BTreeMap<String, Vec<u8>>,
        origins: Option<&str>,
    ) -> Result<Self, CredentialsFault> {
        Self::read(secret, data, origins).map_err(|kind| CredentialsFault { secret: secret.to_owned(), kind })
    }

    /// What is wrong with the Secret for one source.
    pub(super) fn fault(&self, kind: CredentialsFaultKind) -> CredentialsFault {
        CredentialsFault { secret: self.secret.clone(), kind }
    }

    fn read(
        secret: &str,
        data: &BTreeMap<String, Vec<u8>>,
        origins: Option<&str>,
    ) -> Result<Self, CredentialsFaultKind> {
        if !KEYS.iter().any(|key| data.contains_key(*key)) {
            return Err(CredentialsFaultKind::Empty);
        }
        let allowed_origins: Vec<Origin> = origins
            .unwrap_or_default()
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(|part| Origin::parse(part).map_err(CredentialsFaultKind::Origin))
            .collect::<Result<_, _>>()?;
        if allowed_origins.is_empty() {
            return Err(CredentialsFaultKind::NoOrigins);
        }
        let docker = data.get(DOCKER).map(|content| DockerConfig::parse(content)).transpose();
        let docker = docker.map_err(CredentialsFaultKind::Docker)?;
        let login = match (pair(data, "username", "password")?, text(data, "bearerToken")?, docker) {
            (Some(_), Some(_), _) => return Err(CredentialsFaultKind::TwoLogins("bearerToken", "username")),
            (Some(_), _, Some(_)) => return Err(CredentialsFaultKind::TwoLogins(DOCKER, "username")),
            (_, Some(_), Some(_)) => return Err(CredentialsFaultKind::TwoLogins(DOCKER, "bearerToken")),
            (Some((username, password)), None, None) => Some(Login::Basic { username, password }),
            (None, Some(token), None) => Some(Login::Bearer(token)),
            (None, None, Some(config)) => Some(Login::Docker(config)),
            (None, None, None) => None,
        };
        let client = match (named(data, CERTIFICATE)?, named(data, PRIVATE_KEY)?) {
            (Some(chain), Some(key)) => Some([certificates(chain)?, b"\n", private_key(key)?].concat()),
            (Some((present, _)), None) => {
                return Err(CredentialsFaultKind::Pair { present, missing: PRIVATE_KEY.0 });
            }
            (None, Some((present, _))) => {
                return Err(CredentialsFaultKind::Pair { present, missing: CERTIFICATE.0 });
            }
            (None, None) => None,
        };
        let ca = named(data, CA)?.map(certificates).transpose()?.map(<[u8]>::to_vec);
        Ok(Self { secret: secret.to_owned(), login, ca, client, allowed_origins })
    }

    /// Refuse logins that are for registries alone, for a source that is none.
    pub(super) fn check_no_registry(&self) -> Result<(), CredentialsFault> {
        match self.login {
            Some(Login::Docker(_)) => Err(self.fault(CredentialsFaultKind::NoRegistry)),
            _ => Ok(()),
        }
    }

    /// What the `Authorization` header says at once. Registries are asked first what they want.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, SourceError> {
        let value = match &self.login {
            None | Some(Login::Docker(_)) => return Ok(None),
            Some(Login::Bearer(token)) => header("Bearer", token),
            Some(Login::Basic { username, password }) => basic(username, password),
        };
        let refused = || SourceError::Client(format!("Secret {:?}: not sendable in a header", self.secret));
        value.map(Some).ok_or_else(refused)
    }

    /// `text`, in which a server had a part, without what the Secret says.
    pub fn masked(&self, text: &str) -> String {
        let mut redactor = Redactor::new(Secrets::new(&self.secrets()));
        let mut masked = Vec::new();
        redactor.feed(text.as_bytes(), &mut masked);
        redactor.finish(&mut masked);
        String::from_utf8_lossy(&masked).into_owned()
    }

    fn secrets(&self) -> Vec<String> {
        match &self.login {
            None => vec![],
            Some(Login::Docker(config)) => config.secrets(),
            Some(Login::Bearer(token)) => vec![token.clone()],
            Some(Login::Basic { username, password }) => vec![password.clone(), format!("{username}:{password}")],
        }
    }

    /// Whether the content may be sent to `origin`.
    pub fn allows(&self, origin: &Origin) -> bool {
        self.allowed_origins.contains(origin)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("secret", &self.secret)
            .field("allowed_origins", &self.allowed_origins)
            .finish()
    }
}

/// An `Authorization` header for user name and password; `None` if they cannot be sent.
pub(super) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    header("Basic", &STANDARD.encode(format!("{username}:{password}")))
}

/// An `Authorization` header; `None` if `value` cannot be sent.
pub(super) fn header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn text(data: &BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<String>, CredentialsFaultKind> {
    let Some(value) = data.get(key) else { return Ok(None) };
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => Ok(Some(text.to_owned())),
        _ => Err(CredentialsFaultKind::Value(key)),
    }
}

fn pair(
    data: &BTreeMap<String, Vec<u8>>,
    first: &'static str,
    second: &'static str,
) -> Result<Option<(String, String)>, CredentialsFaultKind> {
    match (text(data, first)?, text(data, second)?) {
        (Some(one), Some(two)) => Ok(Some((one, two))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(CredentialsFaultKind::Pair { present: first, missing: second }),
        (None, Some(_)) => Err(CredentialsFaultKind::Pair { present: second, missing: first }),
    }
}

/// A value with the name that it has.
type Named<'a> = (&'static str, &'a [u8]);

/// What is there under one of two names.
fn named<'a>(
    data: &'a BTreeMap<String, Vec<u8>>,
    (name, former): (&'static str, &'static str),
) -> Result<Option<Named<'a>>, CredentialsFaultKind> {
    match (data.get(name), data.get(former)) {
        (Some(one), Some(other)) if one != other => Err(CredentialsFaultKind::TwoNames(name, former)),
        (Some(value), _) => Ok(Some((name, value.as_slice()))),
        (None, Some(value)) => Ok(Some((former, value.as_slice()))),
        (None, None) => Ok(None),
    }
}

fn certificates((name, pem): Named<'_>) -> Result<&[u8], CredentialsFaultKind> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    if parsed.is_ok_and(|found| !found.is_empty()) { Ok(pem) } else { Err(CredentialsFaultKind::NoCertificate(name)) }
}

fn private_key((name, pem): Named<'_>) -> Result<&[u8], CredentialsFaultKind> {
    PrivateKeyDer::from_pem_slice(pem).map(|_| pem).map_err(|_| CredentialsFaultKind::NoPrivateKey(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)], origins: Option<&str>) -> Result<Credentials, String> {
        let data = entries.iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec())).collect();
        Credentials::from_secret("git-login", &data, origins).map_err(|fault| fault.to_string())
    }

    /// A certificate and its key.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn tls_keys_have_the_names_that_flux_gives_them_now_and_gave_them_before() {
        let (certificate, key) = &pair();
        let origins = Some("https://a.example");
        let now = [("ca.crt", certificate.as_str()), ("tls.crt", certificate), ("tls.key", key), ("bearerToken", "x")];
        let before =
            [("caFile", certificate.as_str()), ("certFile", certificate), ("keyFile", key), ("bearerToken", "x")];
        let read = |entries: &[_]| read(entries, origins).unwrap();
        assert!(read(&now).ca.is_some() && read(&now).client.is_some());
        assert!(read(&before) == read(&now));
        assert!(read(&[now, before].concat()) == read(&now), "the same under both names");
    }

    #[test]
    fn a_login_is_bound_to_the_origins_of_the_annotation() {
        let login = [("username", "bob"), ("password", "hunter2")];
        let read = read(&login, Some("https://git.example.com, https://b.example:8443\n")).unwrap();
        assert!(read.allows(&Origin::parse("https://git.example.com").unwrap()));
        assert!(read.allows(&Origin::parse("https://b.example:8443").unwrap()));
        assert!(!read.allows(&Origin::parse("http://git.example.com").unwrap()));
        assert!(!read.allows(&Origin::parse("https://evil.example").unwrap()));
        assert!(!format!("{read:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_without_the_annotation_is_refused() {
        let expected = "Secret \"git-login\": the annotation outrigger.dev/allowed-origins is missing; \
                        set it to the origins that may see the content, like https://example.com";
        assert_eq!(read(&[("bearerToken", "x")], None).unwrap_err(), expected);
        assert_eq!(read(&[("bearerToken", "x")], Some(" , ")).unwrap_err(), expected);
        assert!(read(&[("bearerToken", "x")], Some("*")).unwrap_err().contains("\"*\" is not an origin"));
    }

    #[test]
    fn incomplete_and_contradictory_secrets_are_refused_by_key() {
        let origins = Some("https://a.example");
        let (certificate, key) = &pair();
        for (entries, expected) in [
            (vec![("username", "bob")], "username without password; both are needed"),
            (vec![("password", "x")], "password without username; both are needed"),
            (vec![("tls.crt", "-----BEGIN CERTIFICATE-----")], "tls.crt without tls.key; both are needed"),
            (vec![("tls.key", "-----BEGIN PRIVATE KEY-----")], "tls.key without tls.crt; both are needed"),
            (vec![("certFile", "-----BEGIN CERTIFICATE-----")], "certFile without tls.key; both are needed"),
            (
                vec![("username", "b"), ("password", "x"), ("bearerToken", "y")],
                "both bearerToken and username; keep one",
            ),
            (
                vec![("bearerToken", "y"), (".dockerconfigjson", r#"{"auths": {"a": {"auth": "Yjp4"}}}"#)],
                "both .dockerconfigjson and bearerToken; keep one",
            ),
            (vec![(".dockerconfigjson", "{}")], ".dockerconfigjson: no registry has a login"),
            (vec![("bearerToken", "x\n")], "bearerToken: empty, not UTF-8, or with a control character"),
            (
                vec![("ca.crt", "hello")],
                "ca.crt: not PEM with a certificate in it; expected a text with -----BEGIN CERTIFICATE-----",
            ),
            (vec![("ca.crt", "")], "ca.crt: not PEM with a certificate in it"),
            (vec![("caFile", key)], "caFile: not PEM with a certificate in it"),
            (vec![("tls.crt", key), ("tls.key", key)], "tls.crt: not PEM with a certificate in it"),
            (
                vec![("tls.crt", certificate), ("tls.key", certificate)],
                "tls.key: not PEM with a private key in it; expected a text with -----BEGIN PRIVATE KEY-----, and not an \
                 encrypted one",
            ),
            (
                vec![("ca.crt", certificate), ("caFile", "other")],
                "ca.crt and caFile are two names for the same, and their contents differ; keep one",
            ),
            (vec![("identity", "ssh key")], "no key that is used for a source"),
        ] {
            let text = read(&entries, origins).unwrap_err();
            assert!(text.starts_with("Secret \"git-login\": ") && text.contains(expected), "{text}");
        }
    }
}
