//! The certificates that a listener serves now; they can be replaced while it listens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::issue::{IssueError, Pair, certified_key, provider};

/// Pause between two looks at the files of [`ServingCertificate::follow`].
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The certificates of a listener: one for every name that clients ask for, and one for all other clients.
#[derive(Debug)]
pub struct ServingCertificate(RwLock<Served>);

#[derive(Debug)]
struct Served {
    named: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Served {
    fn new<'a>(default: &Pair, named: impl IntoIterator<Item = (String, &'a Pair)>) -> Result<Self, IssueError> {
        let named = named.into_iter().map(|(name, pair)| Ok((name, Arc::new(certified_key(pair)?))));
        Ok(Self { named: named.collect::<Result<_, IssueError>>()?, default: Arc::new(certified_key(default)?) })
    }
}

/// Why there is no certificate in a directory.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The files hold something else.
    #[error("certificate in {directory}: {source}")]
    Content {
        /// The directory.
        directory: String,
        /// What is wrong.
        #[source]
        source: IssueError,
    },
}

impl ServingCertificate {
    /// Serves with `default`, and with another certificate those clients that ask for its name.
    ///
    /// # Errors
    /// [`IssueError::Pem`] where certificate and key cannot be read or do not belong together.
    pub fn new<'a>(
        default: &Pair,
        named: impl IntoIterator<Item = (String, &'a Pair)>,
    ) -> Result<Arc<Self>, IssueError> {
        Ok(Arc::new(Self(RwLock::new(Served::new(default, named)?))))
    }

    /// From the next handshake on, serves with these certificates.
    ///
    /// # Errors
    /// As [`ServingCertificate::new`]; the old certificates stay.
    pub fn replace<'a>(
        &self,
        default: &Pair,
        named: impl IntoIterator<Item = (String, &'a Pair)>,
    ) -> Result<(), IssueError> {
        let new = Served::new(default, named)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Serves with `tls.crt` and `tls.key` of a directory, as a mounted Secret of cert-manager has them.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn of_directory(directory: &Path) -> Result<(Arc<Self>, Pair), FilesError> {
        let pair = read(directory)?;
        let serving = Self::new(&pair, []).map_err(|source| content(directory, source))?;
        Ok((serving, pair))
    }

    /// Takes over what is written into the directory that [`ServingCertificate::of_directory`] read. Never returns.
    pub async fn follow(&self, directory: &Path, first: Pair) {
        let mut served = first;
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            match self.reload(directory, &served) {
                Ok(Some(pair)) => {
                    info!(directory = %directory.display(), "another certificate is served from now on");
                    served = pair;
                }
                Ok(None) => {}
                Err(error) => warn!("serving certificate stays as it is: {error}"),
            }
        }
    }

    fn reload(&self, directory: &Path, served: &Pair) -> Result<Option<Pair>, FilesError> {
        let pair = read(directory)?;
        if pair == *served {
            return Ok(None);
        }
        self.replace(&pair, []).map_err(|source| content(directory, source))?;
        Ok(Some(pair))
    }

    /// A TLS server's configuration that offers HTTP/2 and HTTP/1.1 and always serves the current certificates.
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
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = hello.server_name().and_then(|name| served.named.get(name));
        Some(named.unwrap_or(&served.default).clone())
    }
}

fn read(directory: &Path) -> Result<Pair, FilesError> {
    let text = |name: &str| {
        let file = directory.join(name);
        std::fs::read_to_string(&file).map_err(|source| FilesError::Read { file: file.display().to_string(), source })
    };
    Ok(Pair { certificate: text("tls.crt")?, key: text("tls.key")? })
}

fn content(directory: &Path, source: IssueError) -> FilesError {
    FilesError::Content { directory: directory.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::issue::{names, new_ca, new_leaf};
    use super::*;

    fn pair() -> Pair {
        let now = SystemTime::now();
        new_leaf(&new_ca(now).unwrap(), &names("outrigger-system", &[]).unwrap(), now).unwrap()
    }

    fn write(directory: &Path, pair: &Pair) {
        std::fs::write(directory.join("tls.crt"), &pair.certificate).unwrap();
        std::fs::write(directory.join("tls.key"), &pair.key).unwrap();
    }

    #[test]
    fn what_is_written_into_the_directory_is_served_and_a_half_written_pair_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (pair(), pair());
        write(directory.path(), &old);
        let (serving, read) = ServingCertificate::of_directory(directory.path()).unwrap();
        assert_eq!(read, old);
        assert_eq!(serving.reload(directory.path(), &old).unwrap(), None);
        write(directory.path(), &Pair { certificate: new.certificate.clone(), key: old.key.clone() });
        let error = serving.reload(directory.path(), &old).unwrap_err().to_string();
        assert!(error.starts_with("certificate in /") && error.contains("tls.crt cannot be read: "), "{error}");
        write(directory.path(), &new);
        assert_eq!(serving.reload(directory.path(), &old).unwrap(), Some(new));
    }

    #[test]
    fn a_directory_without_a_certificate_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = ServingCertificate::of_directory(directory.path()).unwrap_err().to_string();
        assert!(error.contains("/tls.crt cannot be read: No such file"), "{error}");
    }
}
