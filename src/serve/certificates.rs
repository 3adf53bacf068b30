//! Keeps CA and serving certificate in a Secret of the operator's namespace, and the running listener supplied.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::issue::{IssueError, Pair, certified_key, needs_renewal, new_ca, new_leaf, provider};
use crate::api::{MANAGED_BY_LABEL, MANAGER};

/// Name of the Secret that holds `ca.crt`, `ca.key`, `tls.crt` and `tls.key`.
pub const SECRET: &str = "outrigger-tls";

/// Pause between two looks at the Secret.
const CHECK_EVERY: Duration = Duration::from_secs(600);
/// How often a write that lost against another replica's is tried again.
const ATTEMPTS: usize = 5;

/// What the listener serves with, and what its clients trust.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The CA, PEM: pinned by Jobs, standbys and webhook configurations.
    pub ca: String,
    /// The serving certificate and its key.
    pub leaf: Pair,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(…)")
    }
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// The API refused or failed.
    #[error("secret {namespace}/{SECRET} cannot be read or written: {source}")]
    Api {
        /// Namespace of the Secret.
        namespace: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret holds a CA that no certificate can be made with.
    #[error(
        "secret {namespace}/{SECRET}: {reason}; restore the Secret, or delete it and restart the operator (runs that are \
         under way then cannot report)"
    )]
    Malformed {
        /// Namespace of the Secret.
        namespace: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Replicas keep replacing each other's certificate.
    #[error("secret {namespace}/{SECRET} was changed by somebody else {ATTEMPTS} times while it was being written")]
    Contended {
        /// Namespace of the Secret.
        namespace: String,
    },
}

/// Reads CA and serving certificate from Secret `outrigger-tls`. An absent Secret is created; a serving certificate that
/// [`needs_renewal`] at `now` is replaced; a CA is never replaced.
///
/// # Access
/// `get`, `create` and `update` on Secrets of the namespace.
///
/// # Errors
/// [`CertificatesError`].
pub async fn ensure(
    client: &Client,
    namespace: &str,
    names: &[ServerName<'_>],
    now: SystemTime,
) -> Result<Certificates, CertificatesError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let api_error = |source| CertificatesError::Api { namespace: namespace.to_owned(), source: Box::new(source) };
    let malformed = |reason| CertificatesError::Malformed { namespace: namespace.to_owned(), reason };
    let parameters = PostParams::default();
    for _ in 0..ATTEMPTS {
        let written = match secrets.get_opt(SECRET).await.map_err(api_error)? {
            None => {
                let ca = new_ca(now)?;
                let leaf = new_leaf(&ca.key, names, now)?;
                secrets.create(&parameters, &secret(&ca, &leaf)).await
            }
            Some(mut secret) => {
                let ca = entry(&secret, "ca.crt").ok_or_else(|| malformed("entry \"ca.crt\" is missing".to_owned()))?;
                let leaf = Pair {
                    certificate: entry(&secret, "tls.crt").unwrap_or_default(),
                    key: entry(&secret, "tls.key").unwrap_or_default(),
                };
                let Some(reason) = needs_renewal(&ca, &leaf, now, names) else {
                    return Ok(Certificates { ca, leaf });
                };
                let ca_key =
                    entry(&secret, "ca.key").ok_or_else(|| malformed("entry \"ca.key\" is missing".to_owned()))?;
                let leaf = new_leaf(&ca_key, names, now).map_err(|error| malformed(error.to_string()))?;
                if let Some(reason) = needs_renewal(&ca, &leaf, now, names) {
                    return Err(malformed(format!("ca.crt and ca.key make no valid certificate: {reason}")));
                }
                info!(secret = SECRET, "serving certificate is replaced: {reason}");
                secret.data.get_or_insert_default().extend(leaf_entries(&leaf));
                secret.metadata.managed_fields = None;
                secrets.replace(SECRET, &parameters, &secret).await
            }
        };
        match written {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(api_error(error)),
        }
        // Read back in the next round: what is served is what every replica sees.
    }
    Err(CertificatesError::Contended { namespace: namespace.to_owned() })
}

fn entry(secret: &Secret, key: &str) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.clone()).ok()
}

fn leaf_entries(leaf: &Pair) -> [(String, ByteString); 2] {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    [("tls.crt".to_owned(), bytes(&leaf.certificate)), ("tls.key".to_owned(), bytes(&leaf.key))]
}

fn secret(ca: &Pair, leaf: &Pair) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let ca = [("ca.crt".to_owned(), bytes(&ca.certificate)), ("ca.key".to_owned(), bytes(&ca.key))];
    let mut secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(ca.into_iter().chain(leaf_entries(leaf)).collect()),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    secret.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    secret
}

/// The certificate that a listener serves now; can be replaced while it listens.
#[derive(Debug)]
pub struct ServingCertificate(RwLock<Arc<CertifiedKey>>);

impl ServingCertificate {
    /// Serves with this certificate.
    ///
    /// # Errors
    /// [`IssueError::Pem`] where certificate and key cannot be read or do not belong together.
    pub fn new(certificates: &Certificates) -> Result<Arc<Self>, IssueError> {
        Ok(Arc::new(Self(RwLock::new(Arc::new(certified_key(&certificates.leaf)?)))))
    }

    /// From the next handshake on, serves with this certificate.
    ///
    /// # Errors
    /// As [`ServingCertificate::new`]; the old certificate stays.
    pub fn replace(&self, certificates: &Certificates) -> Result<(), IssueError> {
        let new = Arc::new(certified_key(&certificates.leaf)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// A TLS server's configuration that offers HTTP/2 and HTTP/1.1 and always serves the current certificate.
    ///
    /// # Errors
    /// Where the cryptography provider lacks a protocol version.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Renews the certificate in the Secret and takes over what other replicas renewed. Never returns.
    pub async fn keep_current(&self, client: Client, namespace: String, names: Vec<ServerName<'static>>) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let replaced = match ensure(&client, &namespace, &names, SystemTime::now()).await {
                Ok(certificates) => self.replace(&certificates).map_err(CertificatesError::from),
                Err(error) => Err(error),
            };
            if let Err(error) = replaced {
                warn!("serving certificate stays as it is: {error}");
            }
        }
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
