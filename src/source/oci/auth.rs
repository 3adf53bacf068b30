//! How a registry is asked who asks: its challenge, and a token from its token server.
//!
//! The flow is that of the distribution project ("Token Authentication Specification"). A registry names the token server
//! itself, so that a Secret is sent there only if the Secret allows that origin too (CVE-2026-40161).

use std::collections::BTreeMap;

use hyper::body::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::fault::OciFault;
use super::reference::OciUrl;
use crate::source::credentials::{Credentials, CredentialsFault, CredentialsFaultKind, Login, basic, header};
use crate::source::docker_config::RegistryLogin;
use crate::source::door::{Authorization, Body, Outgoing, Session};
use crate::source::error::SourceError;
use crate::source::url::{Origin, SourceUrl};

/// Bytes of a token server's answer.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// Who a token server is told to hand out a token to.
const CLIENT_ID: &str = "outrigger";

/// The login that `credentials` have for `repository`.
pub(super) fn login(credentials: &Credentials, repository: &OciUrl) -> Result<Option<RegistryLogin>, CredentialsFault> {
    match &credentials.login {
        None => Ok(None),
        Some(Login::Basic { username, password }) => {
            Ok(Some(RegistryLogin::Basic { username: username.clone(), password: password.clone() }))
        }
        Some(Login::Bearer(token)) => Ok(Some(RegistryLogin::Bearer(token.clone()))),
        Some(Login::Docker(config)) => {
            let registry = repository.registry();
            let kind = || CredentialsFaultKind::NoEntry { registry: registry.clone(), present: config.registries() };
            config.login(&registry, repository.name()).cloned().map(Some).ok_or_else(|| credentials.fault(kind()))
        }
    }
}

/// One scheme that a server offers (RFC 9110, section 11.6.1).
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In lower case.
    scheme: String,
    /// By name in lower case.
    parameters: BTreeMap<String, String>,
}

/// What to answer to the challenges in `headers`, with which `registry` refused a request; `None` if nothing can be.
pub(super) async fn answer(
    session: &Session,
    repository: &OciUrl,
    login: Option<&RegistryLogin>,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, SourceError> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<Challenge> = values.flat_map(challenges).collect();
    let of = |scheme: &str| offered.iter().find(|challenge| challenge.scheme == scheme);
    match (of("bearer"), of("basic"), login) {
        // It was sent, and is not taken.
        (_, _, Some(RegistryLogin::Bearer(_))) => Ok(None),
        (Some(bearer), _, _) => token(session, repository, login, bearer).await.map(Some),
        (None, Some(_), Some(RegistryLogin::Basic { username, password })) => Ok(basic(username, password)),
        _ => Ok(None),
    }
}

async fn token(
    session: &Session,
    repository: &OciUrl,
    login: Option<&RegistryLogin>,
    challenge: &Challenge,
) -> Result<HeaderValue, SourceError> {
    let fault = |fault| SourceError::Oci { url: repository.to_string(), fault };
    let realm = token_server(repository, challenge).map_err(fault)?;
    let origin = realm.origin();
    if let Some(credentials) =
        session.credentials().filter(|credentials| login.is_some() && !credentials.allows(&origin))
    {
        return Err(fault(OciFault::RealmNotAllowed { origin, secret: credentials.secret.clone() }));
    }
    let scope = scope(repository, challenge);
    let answer =
        session.send(&address(&realm, login, challenge, &scope), request(&origin, login, challenge, &scope)).await?;
    let answered = Body::new(answer, MAX_TOKEN_BYTES)?.read(session).await?;
    bearer(&answered).ok_or_else(|| fault(OciFault::NoToken(origin)))
}

/// The token server that `challenge` names.
fn token_server(repository: &OciUrl, challenge: &Challenge) -> Result<SourceUrl, OciFault> {
    let realm = challenge.parameters.get("realm").map(String::as_str).unwrap_or_default();
    let realm = SourceUrl::parse(realm).map_err(OciFault::Realm)?;
    match repository.origin().is_https() && !realm.origin().is_https() {
        true => Err(OciFault::RealmDowngrade(realm.origin())),
        false => Ok(realm),
    }
}

/// The token server's address, with what is asked for: a refresh token goes into the body instead.
fn address(realm: &SourceUrl, login: Option<&RegistryLogin>, challenge: &Challenge, scope: &str) -> Url {
    let mut url = realm.as_url().clone();
    if !matches!(login, Some(RegistryLogin::Identity(_))) {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(challenge.parameters.get("service").map(|service| ("service", service)));
        query.append_pair("scope", scope);
    }
    url
}

fn request(origin: &Origin, login: Option<&RegistryLogin>, challenge: &Challenge, scope: &str) -> Outgoing {
    let get = Outgoing::get(HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]));
    match login {
        Some(RegistryLogin::Basic { username, password }) => {
            let own = basic(username, password).map(|value| (origin.clone(), value));
            Outgoing { authorization: Authorization::Own(own), ..get }
        }
        Some(RegistryLogin::Identity(refresh)) => {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
            form.extend_pairs(challenge.parameters.get("service").map(|service| ("service", service)));
            form.append_pair("scope", scope).append_pair("refresh_token", refresh);
            let mut headers = get.headers;
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            Outgoing {
                method: Method::POST,
                headers,
                body: Some(Bytes::from(form.finish())),
                follow: false,
                authorization: Authorization::Own(None),
            }
        }
        Some(RegistryLogin::Bearer(_)) | None => Outgoing { authorization: Authorization::Own(None), ..get },
    }
}

/// The scope to ask for. The registry's own word counts only where it asks for no more than to pull from one repository,
/// which a registry behind a proxy may know under another name.
fn scope(repository: &OciUrl, challenge: &Challenge) -> String {
    let asked = challenge.parameters.get("scope").filter(|scope| {
        let name = scope.strip_prefix("repository:").and_then(|rest| rest.strip_suffix(":pull"));
        name.is_some_and(|name| !name.is_empty() && !name.contains([':', ' ', ',']))
    });
    asked.cloned().unwrap_or_else(|| format!("repository:{}:pull", repository.name()))
}

/// The header for a token server's answer, which has the token under one of two names.
fn bearer(answer: &[u8]) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    header("Bearer", &token)
}

/// The challenges of one `WWW-Authenticate` header. What follows something malformed is not read.
fn challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        let after = after.trim_start_matches([' ', '\t']);
        rest = match (after.strip_prefix('='), found.last_mut()) {
            _ if word.is_empty() => return found,
            (None, _) => {
                found.push(Challenge { scheme: word, parameters: BTreeMap::new() });
                after
            }
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else { return found };
                challenge.parameters.entry(word).or_insert(value);
                after
            }
            (Some(_), None) => return found,
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// The value at the start of `text`, a token or a quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Vec<(String, String)>)> {
        let of = |challenge: Challenge| (challenge.scheme, challenge.parameters.into_iter().collect());
        challenges(text).into_iter().map(of).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let one = read(r#"Bearer realm="https://a.example/token",service="a \"b\"",scope="repository:x:pull,push""#);
        let parameters =
            [("realm", "https://a.example/token"), ("scope", "repository:x:pull,push"), ("service", "a \"b\"")];
        assert_eq!(one, [("bearer".to_owned(), parameters.map(|(name, value)| pair(name, value)).to_vec())]);
        let two = read(r#"BASIC realm=tests , charset="UTF-8", Negotiate, bearer Realm = "x""#);
        assert_eq!(
            two,
            [
                ("basic".to_owned(), vec![pair("charset", "UTF-8"), pair("realm", "tests")]),
                ("negotiate".to_owned(), vec![]),
                ("bearer".to_owned(), vec![pair("realm", "x")]),
            ]
        );
        for malformed in ["", ",", "realm=x", "\"", "=", "Bearer realm=\"open", "Bearer realm=\"x\\"] {
            assert!(read(malformed).iter().all(|(_, parameters)| parameters.is_empty()), "{malformed}");
        }
    }

    #[test]
    fn a_token_server_is_not_asked_over_plain_http_for_a_registry_with_https() {
        let of = |insecure: bool, realm: &str| {
            let repository = OciUrl::parse("oci://a.example/team/ext", insecure).unwrap();
            let parameters = [pair("realm", realm)].into();
            let challenge = Challenge { scheme: "bearer".to_owned(), parameters };
            token_server(&repository, &challenge).map(|realm| realm.to_string()).map_err(|fault| fault.to_string())
        };
        assert_eq!(of(true, "http://a.example/t").as_deref(), Ok("http://a.example/t"));
        assert_eq!(of(false, "https://b.example/t?x=1").as_deref(), Ok("https://b.example/t?…"));
        assert_eq!(
            of(false, "http://b.example/t").unwrap_err(),
            "the registry names the token server http://b.example, but a token is not fetched over plain HTTP for a registry \
             with HTTPS"
        );
        for realm in ["file:///etc/passwd", "", "https://bob:hunter2@b.example/"] {
            let fault = of(false, realm).unwrap_err();
            assert!(fault.starts_with("the registry names a token server that cannot be used: "), "{fault}");
            assert!(!fault.contains("hunter2"));
        }
    }

    #[test]
    fn no_more_than_to_pull_is_asked_for() {
        let repository = OciUrl::parse("oci://a.example/team/ext", false).unwrap();
        let of = |asked: &str| {
            let parameters = [pair("scope", asked)].into();
            scope(&repository, &Challenge { scheme: "bearer".to_owned(), parameters })
        };
        assert_eq!(of("repository:proxied/team/ext:pull"), "repository:proxied/team/ext:pull");
        for asked in
            ["repository:team/ext:pull,push", "registry:catalog:*", "repository:a:pull repository:b:pull", "x", ""]
        {
            assert_eq!(of(asked), "repository:team/ext:pull", "{asked}");
        }
    }

    #[test]
    fn a_token_has_two_names_and_must_be_sendable() {
        let value = |json: &str| bearer(json.as_bytes()).map(|header| header.to_str().unwrap().to_owned());
        assert_eq!(value(r#"{"token": "a.b", "expires_in": 300}"#).as_deref(), Some("Bearer a.b"));
        assert_eq!(value(r#"{"access_token": "x"}"#).as_deref(), Some("Bearer x"));
        for none in [r#"{"token": ""}"#, "{}", "<html>", r#"{"token": "a\nb"}"#] {
            assert_eq!(value(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_crashes_the_parser(text in "\\PC{0,80}|[a-zA-Z=\", \\\\]{0,60}") {
            let _ = challenges(&text);
        }
    }
}
