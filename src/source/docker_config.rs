//! Docker's configuration in a Secret (`.dockerconfigjson`): which login is for which registry. Pure: no client, clock, disk
//! or network.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::oci::canonical_registry;

/// The logins of a configuration, by registry and, below it, by path. Nothing of it is ever printed but these names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct DockerConfig(BTreeMap<String, RegistryLogin>);

/// How to log in at one registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RegistryLogin {
    /// User name and password, for the registry or for its token server.
    Basic { username: String, password: String },
    /// A refresh token for its token server.
    Identity(String),
    /// What the registry itself takes.
    Bearer(String),
}

/// Why a text is no configuration that can be used. No value is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigFault {
    /// No JSON, or other JSON.
    #[error(
        "not Docker's configuration: expected JSON like {{\"auths\": {{\"ghcr.io\": {{\"auth\": …}}}}}}, wrong at line {0}, column {1}"
    )]
    Json(usize, usize),
    /// An `auth` that is no user name and password.
    #[error("the entry of {0:?}: auth is not user:password in base64")]
    Auth(String),
    /// A value that cannot be sent.
    #[error("the entry of {0:?}: a value is empty or has a control character")]
    Value(String),
    /// No login at all.
    #[error("no registry has a login; expected auth, username and password, or identitytoken below auths")]
    Empty,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl DockerConfig {
    /// Read the content of `.dockerconfigjson`.
    pub fn parse(content: &[u8]) -> Result<Self, DockerConfigFault> {
        let file: File =
            serde_json::from_slice(content).map_err(|error| DockerConfigFault::Json(error.line(), error.column()))?;
        let mut logins = BTreeMap::new();
        for (key, entry) in file.auths {
            if let Some(login) = login(&key, entry)? {
                logins.entry(place(&key)).or_insert(login);
            }
        }
        if logins.is_empty() { Err(DockerConfigFault::Empty) } else { Ok(Self(logins)) }
    }

    /// The login for the repository `name` of `registry`: host, and port where it is not the scheme's own. Of several the
    /// one with the longest path above the repository, as for the kubelet.
    pub fn login(&self, registry: &str, name: &str) -> Option<&RegistryLogin> {
        let registry = canonical_registry(registry);
        let above = name.rmatch_indices('/').map(|(end, _)| &name[..end]);
        let places = std::iter::once(name).chain(above).map(|path| format!("{registry}/{path}"));
        places.chain([registry.to_owned()]).find_map(|place| self.0.get(&place))
    }

    /// What of all logins nobody may see.
    pub fn secrets(&self) -> Vec<String> {
        let of = |login: &RegistryLogin| match login {
            RegistryLogin::Basic { username, password } => vec![password.clone(), format!("{username}:{password}")],
            RegistryLogin::Identity(token) | RegistryLogin::Bearer(token) => vec![token.clone()],
        };
        self.0.values().flat_map(of).collect()
    }

    /// The registries, and paths in them, that have one.
    pub fn registries(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// The registry that a key means, with the path below it: without scheme, and without the version of the API that Docker
/// writes (`https://index.docker.io/v1/`).
fn place(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    let path = match path.split_once('/') {
        Some(("v1" | "v2", below)) => below,
        None if matches!(path, "v1" | "v2") => "",
        _ => path,
    };
    [canonical_registry(&host), path].join("/").trim_end_matches('/').to_owned()
}

fn login(key: &str, entry: Entry) -> Result<Option<RegistryLogin>, DockerConfigFault> {
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let sendable = |value: &str| !value.is_empty() && !value.chars().any(char::is_control);
    let login = if let Some(token) = given(entry.identitytoken) {
        RegistryLogin::Identity(token)
    } else if let Some(token) = given(entry.registrytoken) {
        RegistryLogin::Bearer(token)
    } else if let Some(auth) = given(entry.auth) {
        let (username, password) = decoded(&auth).ok_or_else(|| DockerConfigFault::Auth(key.to_owned()))?;
        RegistryLogin::Basic { username, password }
    } else if let (Some(username), Some(password)) = (given(entry.username), given(entry.password)) {
        RegistryLogin::Basic { username, password }
    } else {
        return Ok(None);
    };
    let good = match &login {
        RegistryLogin::Basic { username, password } => sendable(username) && sendable(password),
        RegistryLogin::Identity(token) | RegistryLogin::Bearer(token) => sendable(token),
    };
    if good { Ok(Some(login)) } else { Err(DockerConfigFault::Value(key.to_owned())) }
}

/// Some writers leave the padding out, and Docker's own pads with NUL.
fn decoded(auth: &str) -> Option<(String, String)> {
    let auth = auth.trim();
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(auths: Value) -> Result<DockerConfig, String> {
        DockerConfig::parse(json!({"auths": auths}).to_string().as_bytes()).map_err(|fault| fault.to_string())
    }

    fn basic(config: &DockerConfig, registry: &str) -> Option<String> {
        match config.login(registry, "team/ext")? {
            RegistryLogin::Basic { username, password } => Some(format!("{username}:{password}")),
            _ => panic!("another login"),
        }
    }

    #[test]
    fn each_way_to_write_a_login_is_read() {
        let config = parsed(json!({
            "ghcr.io": {"auth": STANDARD.encode("bob:hun:ter2")},
            "a.example:5000": {"username": "eve", "password": "x", "email": "e@example.com"},
            "azure.example": {"auth": STANDARD.encode("0000:"), "identitytoken": "refresh"},
            "b.example": {"registrytoken": "bearer"},
            "empty.example": {},
        }))
        .unwrap();
        assert_eq!(basic(&config, "ghcr.io").as_deref(), Some("bob:hun:ter2"));
        assert_eq!(basic(&config, "a.example:5000").as_deref(), Some("eve:x"));
        assert!(
            matches!(config.login("azure.example", "x"), Some(RegistryLogin::Identity(token)) if token == "refresh")
        );
        assert!(matches!(config.login("b.example", "x"), Some(RegistryLogin::Bearer(token)) if token == "bearer"));
        for other in ["a.example", "empty.example", "x.ghcr.io", "ghcr.io:443x"] {
            assert!(config.login(other, "x").is_none(), "{other}");
        }
        assert_eq!(config.registries(), ["a.example:5000", "azure.example", "b.example", "ghcr.io"]);
    }

    #[test]
    fn keys_match_as_docker_matches_them() {
        for key in ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", "http://INDEX.docker.io"] {
            let config = parsed(json!({key: {"auth": STANDARD.encode("bob:x")}})).unwrap();
            assert!(config.login("registry-1.docker.io", "library/x").is_some(), "{key}");
            assert!(config.login("ghcr.io", "x").is_none());
        }
        let config = parsed(json!({"https://ghcr.io/v2/": {"auth": STANDARD_NO_PAD.encode("bob:xx\0\0")}})).unwrap();
        assert_eq!(basic(&config, "ghcr.io").as_deref(), Some("bob:xx"));
    }

    #[test]
    fn the_longest_path_above_the_repository_wins_and_another_repository_gets_no_login_of_a_path() {
        let login = |name: &str| json!({"auth": STANDARD.encode(format!("{name}:x"))});
        let config = parsed(json!({
            "ghcr.io": login("all"), "ghcr.io/team": login("team"), "https://ghcr.io/v2/team/ext/": login("ext"),
            "quay.io/team": login("quay"),
        }))
        .unwrap();
        let user = |registry: &str, name: &str| match config.login(registry, name)? {
            RegistryLogin::Basic { username, .. } => Some(username.as_str()),
            _ => None,
        };
        for (name, expected) in [
            ("team/ext", "ext"),
            ("team/ext/part", "ext"),
            ("team/extra", "team"),
            ("team", "team"),
            ("teams/ext", "all"),
            ("other", "all"),
        ] {
            assert_eq!(user("ghcr.io", name), Some(expected), "{name}");
        }
        assert_eq!((user("quay.io", "team/x"), user("quay.io", "other/x")), (Some("quay"), None));
        assert_eq!(config.registries(), ["ghcr.io", "ghcr.io/team", "ghcr.io/team/ext", "quay.io/team"]);
    }

    #[test]
    fn faults_name_the_registry_and_never_a_value() {
        for (auths, expected) in [
            (json!({}), "no registry has a login; expected auth, username and password, or identitytoken below auths"),
            (json!({"ghcr.io": {"username": "bob"}}), "no registry has a login"),
            (json!({"ghcr.io": {"auth": "hunter2!"}}), "the entry of \"ghcr.io\": auth is not user:password in base64"),
            (json!({"ghcr.io": {"auth": STANDARD.encode("hunter2")}}), "auth is not user:password"),
            (
                json!({"ghcr.io": {"auth": STANDARD.encode("bob:hunter2\n")}}),
                "the entry of \"ghcr.io\": a value is empty",
            ),
            (json!({"ghcr.io": "hunter2"}), "not Docker's configuration: expected JSON like {\"auths\": {\"ghcr.io\""),
        ] {
            let Err(fault) = parsed(auths) else { panic!("{expected}") };
            assert!(fault.contains(expected) && !fault.contains("hunter2"), "{fault}");
        }
    }
}
