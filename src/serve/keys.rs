//! The operator's secret keys, made once and kept in a Secret of its namespace.

use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};

use crate::api::{MANAGED_BY_LABEL, MANAGER};

/// Name of the Secret that holds the keys.
pub const SECRET: &str = "outrigger-keys";

const TOKEN_KEY: &str = "token-key";
const STAMP_KEY: &str = "stamp-key";
const KEY_BYTES: usize = 32;

/// The keys. Whoever has them can act as any runner and admit runs in anybody's name.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Derives the runners' tokens.
    pub token_key: Vec<u8>,
    /// Signs callers' stamps.
    pub stamp_key: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The API refused or failed.
    #[error("secret {namespace}/{SECRET} cannot be read or created: {source}")]
    Api {
        /// Namespace of the Secret.
        namespace: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret is there and not usable.
    #[error(
        "secret {namespace}/{SECRET}: entry {entry:?} {problem}: expected at least {KEY_BYTES} bytes; restore the Secret, \
         or delete it and restart the operator (runs that have not started yet must then be created again)"
    )]
    Malformed {
        /// Namespace of the Secret.
        namespace: String,
        /// The entry.
        entry: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gave no random bytes.
    #[error("random bytes for a new key cannot be read: {0}")]
    Random(getrandom::Error),
}

/// Reads the keys from Secret `outrigger-keys`, which is created if absent and never overwritten. Replicas that start
/// at the same time end up with the same keys.
///
/// # Access
/// `get` and `create` on Secrets of the namespace.
///
/// # Errors
/// [`KeysError`].
pub async fn ensure(client: &Client, namespace: &str) -> Result<Keys, KeysError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let api_error = |source| KeysError::Api { namespace: namespace.to_owned(), source: Box::new(source) };
    if let Some(secret) = secrets.get_opt(SECRET).await.map_err(api_error)? {
        return read(&secret, namespace);
    }
    match secrets.create(&PostParams::default(), &new_secret(random()?, random()?)).await {
        Ok(secret) => read(&secret, namespace),
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => {
            read(&secrets.get(SECRET).await.map_err(api_error)?, namespace)
        }
        Err(error) => Err(api_error(error)),
    }
}

fn random() -> Result<Vec<u8>, KeysError> {
    let mut key = vec![0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(KeysError::Random)?;
    Ok(key)
}

fn new_secret(token_key: Vec<u8>, stamp_key: Vec<u8>) -> Secret {
    let mut secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(
            [(TOKEN_KEY.to_owned(), ByteString(token_key)), (STAMP_KEY.to_owned(), ByteString(stamp_key))].into(),
        ),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    secret.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    secret
}

fn read(secret: &Secret, namespace: &str) -> Result<Keys, KeysError> {
    let entry = |entry: &'static str| {
        let malformed = |problem: String| KeysError::Malformed { namespace: namespace.to_owned(), entry, problem };
        let value = secret.data.as_ref().and_then(|data| data.get(entry));
        match value {
            None => Err(malformed("is missing".to_owned())),
            Some(ByteString(key)) if key.len() < KEY_BYTES => Err(malformed(format!("has {} bytes", key.len()))),
            Some(ByteString(key)) => Ok(key.clone()),
        }
    };
    Ok(Keys { token_key: entry(TOKEN_KEY)?, stamp_key: entry(STAMP_KEY)? })
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::fake_api::FakeApi;

    const PATH: &str = "/api/v1/namespaces/outrigger-system/secrets/outrigger-keys";

    #[tokio::test]
    async fn keys_are_made_once_and_read_ever_after() {
        let api = FakeApi::default();
        let first = ensure(&api.client(), "outrigger-system").await.unwrap();
        assert_eq!((first.token_key.len(), first.stamp_key.len()), (32, 32));
        assert_ne!(first.token_key, first.stamp_key);
        let stored = api.get(PATH);
        assert_eq!(ensure(&api.client(), "outrigger-system").await.unwrap(), first);
        assert_eq!(api.get(PATH), stored);
    }

    #[tokio::test]
    async fn a_replica_that_loses_the_race_takes_the_winners_keys() {
        let api = FakeApi::default();
        let winner = api.clone();
        let secret = serde_json::to_value(new_secret(vec![1; 32], vec![2; 32])).unwrap();
        let mut first = true;
        api.before(move |_, method, _| {
            let lost = *method == Method::GET && std::mem::take(&mut first);
            lost.then_some(StatusCode::NOT_FOUND)
        });
        winner.put(PATH, secret);
        let keys = ensure(&api.client(), "outrigger-system").await.unwrap();
        assert_eq!(keys.token_key, [1; 32]);
        assert!(api.log().iter().any(|line| line.starts_with("POST ")), "{:?}", api.log());
    }

    #[tokio::test]
    async fn a_malformed_secret_is_named_and_left_alone() {
        let api = FakeApi::default();
        api.put(PATH, json!({"metadata": {"name": SECRET}, "data": {"token-key": "AAAA"}}));
        let stored = api.get(PATH);
        let error = ensure(&api.client(), "outrigger-system").await.unwrap_err().to_string();
        assert!(
            error.starts_with("secret outrigger-system/outrigger-keys: entry \"token-key\" has 3 bytes: expected at least 32 bytes; restore the Secret"),
            "{error}"
        );
        assert_eq!(api.get(PATH), stored);
    }

    #[tokio::test]
    async fn a_forbidden_read_says_which_secret() {
        let api = FakeApi::default();
        api.before(|_, _, _| Some(StatusCode::FORBIDDEN));
        let error = ensure(&api.client(), "outrigger-system").await.unwrap_err().to_string();
        assert!(error.starts_with("secret outrigger-system/outrigger-keys cannot be read or created: "), "{error}");
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", Keys { token_key: vec![1], stamp_key: vec![2] }), "Keys(…)");
    }
}
