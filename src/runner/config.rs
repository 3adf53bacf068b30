//! What the Job says to its runner, by the environment. Pure.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::protocol::{Token, TreePin, env};

/// Where the termination message goes; kubelet's default, and that of every Job.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Overrides [`TERMINATION_LOG`], for tests outside of a container.
pub const TERMINATION_LOG_VARIABLE: &str = "OUTRIGGER_TERMINATION_LOG";
/// Beginning of the names that never reach the script.
const PREFIX: &[u8] = b"OUTRIGGER_";

/// One runner's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the operator listens.
    pub address: SocketAddr,
    /// PEM of the CA certificates to trust, and no others.
    pub ca: String,
    /// UID of the ActionRun.
    pub run_uid: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Proof of being this attempt's runner.
    pub token: Token,
    /// UID of the pod.
    pub pod_uid: String,
    /// Absolute path of the tree.
    pub tree: PathBuf,
    /// What the tree must be.
    pub pin: TreePin,
    /// Path of the entrypoint, relative to the tree.
    pub entrypoint: PathBuf,
    /// Absolute path of the directory for the payload file.
    pub payload_dir: PathBuf,
    /// File for the termination message.
    pub termination_log: PathBuf,
    /// The container's environment without the runner's own variables.
    pub container_env: BTreeMap<OsString, OsString>,
}

/// A variable that is missing or not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} {problem}")]
pub struct ConfigError {
    name: &'static str,
    problem: &'static str,
}

impl Config {
    /// Reads the configuration from a whole environment.
    pub fn read(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let (own, container_env) = environment
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX));
        let own = Own(own);
        Ok(Self {
            address: own.parsed(env::ADDRESS, "is not https://<IP address>:<port>", |text| {
                text.strip_prefix("https://")?.trim_end_matches('/').parse().ok()
            })?,
            ca: own.text(env::CA)?,
            run_uid: own.parsed(env::RUN_UID, "is not a UID", uid)?,
            attempt: own.parsed(env::ATTEMPT, "is not a number from 1", |text| text.parse().ok().filter(|n| *n > 0))?,
            token: own.parsed(env::TOKEN, "is not 64 hexadecimal digits", Token::from_hex)?,
            pod_uid: own.text(env::POD_UID)?,
            tree: own.absolute_path(env::TREE)?,
            pin: TreePin {
                tree: own.parsed(env::TREE_DIGEST, "is not a digest", |text| text.parse().ok())?,
                entrypoint: own.parsed(env::ENTRYPOINT_DIGEST, "is not a digest", |text| text.parse().ok())?,
            },
            entrypoint: own.text(env::ENTRYPOINT)?.into(),
            payload_dir: own.absolute_path(env::PAYLOAD_DIR)?,
            termination_log: own
                .0
                .get(OsStr::new(TERMINATION_LOG_VARIABLE))
                .map_or_else(|| PathBuf::from(TERMINATION_LOG), PathBuf::from),
            container_env,
        })
    }

    /// The script's environment: the container's, and on top of it `granted`.
    pub fn script_env(&self, granted: &BTreeMap<String, String>) -> BTreeMap<OsString, OsString> {
        let mut environment = self.container_env.clone();
        environment.extend(granted.iter().map(|(name, value)| (name.into(), value.into())));
        environment
    }
}

/// Part of a request's path, so nothing that means something there.
fn uid(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!text.is_empty() && text.bytes().all(is_plain)).then(|| text.to_owned())
}

struct Own(BTreeMap<OsString, OsString>);

impl Own {
    fn text(&self, name: &'static str) -> Result<String, ConfigError> {
        let value = self.0.get(OsStr::new(name)).filter(|value| !value.is_empty());
        let value = value.ok_or(ConfigError { name, problem: "is not set" })?;
        value.to_str().map(str::to_owned).ok_or(ConfigError { name, problem: "is not UTF-8" })
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        problem: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        parse(&self.text(name)?).ok_or(ConfigError { name, problem })
    }

    fn absolute_path(&self, name: &'static str) -> Result<PathBuf, ConfigError> {
        self.parsed(name, "is not an absolute path", |text| Some(PathBuf::from(text)).filter(|path| path.is_absolute()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn environment() -> BTreeMap<OsString, OsString> {
        let digest = Digest::of("x").to_string();
        [
            (env::ADDRESS, "https://[::1]:9443"),
            (env::CA, "-----BEGIN CERTIFICATE-----"),
            (env::RUN_UID, "6f1c0a52-8f3e-4a9b-9d53-000000000001"),
            (env::ATTEMPT, "1"),
            (env::TOKEN, &"ab".repeat(32)),
            (env::POD_UID, "pod"),
            (env::TREE, "/x"),
            (env::TREE_DIGEST, &digest),
            (env::ENTRYPOINT, "bin/run"),
            (env::ENTRYPOINT_DIGEST, &digest),
            (env::PAYLOAD_DIR, "/payload"),
            ("OUTRIGGER_OF_A_LATER_VERSION", "x"),
            ("PATH", "/bin"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
    }

    #[test]
    fn a_complete_environment_is_read() {
        let config = Config::read(environment()).unwrap();
        assert_eq!(config.address, "[::1]:9443".parse().unwrap());
        assert_eq!(config.termination_log, PathBuf::from(TERMINATION_LOG));
    }

    #[test]
    fn the_script_gets_the_containers_variables_and_the_granted_ones_alone() {
        let config = Config::read(environment()).unwrap();
        let env = config.script_env(&BTreeMap::from([("A".to_owned(), "1".to_owned())]));
        let names: Vec<_> = env.keys().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["A", "PATH"]);
    }

    #[test]
    fn each_variable_is_needed_and_checked() {
        for (name, wrong, problem) in [
            (env::ADDRESS, "http://10.0.0.1:80", "is not https://<IP address>:<port>"),
            (env::ADDRESS, "https://host:443", "is not https://<IP address>:<port>"),
            (env::RUN_UID, "../x", "is not a UID"),
            (env::ATTEMPT, "0", "is not a number from 1"),
            (env::TOKEN, "secret", "is not 64 hexadecimal digits"),
            (env::TREE, "x", "is not an absolute path"),
            (env::TREE_DIGEST, "x", "is not a digest"),
            (env::ENTRYPOINT_DIGEST, "x", "is not a digest"),
            (env::PAYLOAD_DIR, "x", "is not an absolute path"),
            (env::CA, "", "is not set"),
            (env::POD_UID, "", "is not set"),
            (env::ENTRYPOINT, "", "is not set"),
        ] {
            let mut environment = environment();
            environment.insert(name.into(), wrong.into());
            let error = Config::read(environment.clone()).unwrap_err().to_string();
            assert_eq!(error, format!("environment variable {name} {problem}"));
            environment.remove(OsStr::new(name));
            let error = Config::read(environment).unwrap_err().to_string();
            assert_eq!(error, format!("environment variable {name} is not set"));
        }
    }
}
