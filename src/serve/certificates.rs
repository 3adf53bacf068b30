//! Keeps CAs and serving certificates in a Secret of the operator's namespace, and the running listener supplied.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tracing::{info, warn};

use super::issue::{IssueError, Pair, needs_renewal, new_ca, new_leaf};
use super::rotation::{self, Pinned, Step};
use super::serving::ServingCertificate;
use crate::api::{CA_ANNOTATION, MANAGED_BY_LABEL, MANAGER};
use crate::protocol::server_name;

/// Name of the Secret that holds `ca.crt`, `ca.key`, `tls.crt` and `tls.key`, and while one CA follows another the old
/// one's as `old-ca.crt`, `old-ca.key`, `old-tls.crt` and `old-tls.key`.
pub const SECRET: &str = "outrigger-tls";
/// Annotation on the Secret, with any value: a new CA is wanted. It is taken off once there is one.
pub const ROTATE_ANNOTATION: &str = "outrigger.dev/rotate-ca";
/// Annotation on the Secret: when the current CA was made.
const MADE_ANNOTATION: &str = "outrigger.dev/ca-made-at";

/// Pause between two looks at the Secret.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How often a write that lost against another replica's is tried again.
const ATTEMPTS: usize = 5;

/// A CA, and the certificate that it gave the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The CA.
    pub ca: Pair,
    /// The serving certificate and its key.
    pub leaf: Pair,
}

/// What the listener serves with, and what its clients trust.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The current CA: new Jobs pin it.
    pub current: Authority,
    /// The one before, as long as Jobs may pin it.
    pub old: Option<Authority>,
    /// Whether everyone who trusts the bundle knows the current CA by now ([`rotation::is_known`]).
    pub is_known: bool,
}

/// The CAs that the operator's clients are told of, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The current one: new Jobs pin it.
    pub pinned: String,
    /// All of them: for webhook configurations and other replicas.
    pub bundle: String,
}

impl Trust {
    /// Trust in one CA that nothing follows.
    pub fn only(ca: &str) -> watch::Receiver<Self> {
        watch::channel(Self { pinned: ca.to_owned(), bundle: ca.to_owned() }).1
    }
}

impl Certificates {
    /// One CA, and its certificate.
    pub fn only(ca: Pair, leaf: Pair) -> Self {
        Self { current: Authority { ca, leaf }, old: None, is_known: true }
    }

    /// What clients are told.
    pub fn trust(&self) -> Trust {
        let pinned = self.current.ca.certificate.clone();
        let old = self.old.as_ref().map_or("", |old| &old.ca.certificate);
        Trust { bundle: format!("{pinned}{old}"), pinned }
    }

    /// A listener's certificates.
    ///
    /// # Errors
    /// [`IssueError::Pem`] where certificate and key cannot be read or do not belong together.
    pub fn serving(&self) -> Result<Arc<ServingCertificate>, IssueError> {
        ServingCertificate::new(&self.default().leaf, self.named())
    }

    /// Puts these certificates in the place of those that `serving` has.
    ///
    /// # Errors
    /// As [`Certificates::serving`]; the old certificates stay.
    pub fn serve(&self, serving: &ServingCertificate) -> Result<(), IssueError> {
        serving.replace(&self.default().leaf, self.named())
    }

    /// Who asks for no CA by name may not know the current one yet, and later the old one no more.
    fn default(&self) -> &Authority {
        self.old.as_ref().filter(|_| !self.is_known).unwrap_or(&self.current)
    }

    fn named(&self) -> Vec<(String, &Pair)> {
        let authorities = [Some(&self.current), self.old.as_ref()];
        let named = authorities.into_iter().flatten();
        named.filter_map(|authority| Some((server_name(&authority.ca.certificate)?, &authority.leaf))).collect()
    }
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

/// Reads CAs and serving certificates from Secret `outrigger-tls`. An absent Secret is created; a serving certificate
/// that [`needs_renewal`] at `now` is replaced; CAs come and go as [`rotation::step`] says.
///
/// # Access
/// `get`, `create` and `update` on Secrets of the namespace; `list` on Jobs.
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
            None => secrets.create(&parameters, &secret(names, now)?).await,
            Some(mut secret) => {
                let read = read(&secret, now).map_err(malformed)?;
                let pinned = match &read.old {
                    Some(_) => pinned(client, namespace).await,
                    None => None,
                };
                let wanted = wanted(&secret, &read, pinned.as_ref(), names, now).map_err(malformed)?;
                let Some(wanted) = wanted else { return Ok(read) };
                write(&mut secret, &read, &wanted, now);
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

/// The CAs that Jobs pin. `None` where the Jobs cannot be read: the old CA stays.
async fn pinned(client: &Client, namespace: &str) -> Option<Pinned> {
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let jobs = match Api::<Job>::namespaced(client.clone(), namespace).list_metadata(&ours).await {
        Ok(jobs) => jobs,
        Err(error) => {
            warn!("the old CA stays: Jobs in namespace {namespace} cannot be read: {error}");
            return None;
        }
    };
    let mut pinned = Pinned::default();
    for job in &jobs.items {
        match job.annotations().get(CA_ANNOTATION) {
            Some(name) => drop(pinned.names.insert(name.clone())),
            None => pinned.unknown = true,
        }
    }
    Some(pinned)
}

/// What the Secret is to hold instead, if anything.
fn wanted(
    secret: &Secret,
    read: &Certificates,
    pinned: Option<&Pinned>,
    names: &[ServerName<'_>],
    now: SystemTime,
) -> Result<Option<Certificates>, String> {
    let made = made_at(secret);
    let old_name = read.old.as_ref().and_then(|old| server_name(&old.ca.certificate)).unwrap_or_default();
    let old = read.old.as_ref().map(|_| rotation::Old { name: &old_name, since: made.unwrap_or(now), pinned });
    let asked = secret.annotations().contains_key(ROTATE_ANNOTATION);
    let error = |error: IssueError| error.to_string();
    let wanted = match rotation::step(&rotation::Seen { now, made, asked, old }) {
        Step::Rotate => {
            let ca = new_ca(now).map_err(error)?;
            let leaf = new_leaf(&ca, names, now).map_err(error)?;
            info!(secret = SECRET, "a new CA serves beside the old one");
            // The new one's leaf may be wanted at once; the old one's is looked at again in the next round.
            Certificates { current: Authority { ca, leaf }, old: Some(read.current.clone()), is_known: false }
        }
        Step::Drop => {
            info!(secret = SECRET, "the old CA is dropped: no Job pins it");
            Certificates { old: None, ..read.clone() }
        }
        Step::Keep => Certificates {
            is_known: read.is_known,
            current: renewed(&read.current, names, now)?,
            old: read.old.as_ref().map(|old| renewed(old, names, now)).transpose()?,
        },
    };
    Ok((wanted != *read).then_some(wanted))
}

fn renewed(authority: &Authority, names: &[ServerName<'_>], now: SystemTime) -> Result<Authority, String> {
    let ca = &authority.ca;
    let Some(reason) = needs_renewal(&ca.certificate, &authority.leaf, now, names) else {
        return Ok(authority.clone());
    };
    if ca.key.is_empty() {
        return Err("entry \"ca.key\" is missing".to_owned());
    }
    let leaf = new_leaf(ca, names, now).map_err(|error| error.to_string())?;
    if let Some(reason) = needs_renewal(&ca.certificate, &leaf, now, names) {
        return Err(format!("ca.crt and ca.key make no valid certificate: {reason}"));
    }
    info!(secret = SECRET, "serving certificate is replaced: {reason}");
    Ok(Authority { ca: ca.clone(), leaf })
}

/// When the current CA was made, if that is known.
fn made_at(secret: &Secret) -> Option<SystemTime> {
    let made = secret.annotations().get(MADE_ANNOTATION).and_then(|text| text.parse::<Timestamp>().ok());
    made.or(secret.metadata.creation_timestamp.as_ref().map(|time| time.0)).map(SystemTime::from)
}

fn read(secret: &Secret, now: SystemTime) -> Result<Certificates, String> {
    let entry = |key: String| {
        let ByteString(bytes) = secret.data.as_ref()?.get(&key)?;
        String::from_utf8(bytes.clone()).ok()
    };
    let authority = |prefix: &str| {
        let pair = |name: &str| Pair {
            certificate: entry(format!("{prefix}{name}.crt")).unwrap_or_default(),
            key: entry(format!("{prefix}{name}.key")).unwrap_or_default(),
        };
        Authority { ca: pair("ca"), leaf: pair("tls") }
    };
    let current = authority("");
    if current.ca.certificate.is_empty() {
        return Err("entry \"ca.crt\" is missing".to_owned());
    }
    let old = Some(authority(OLD)).filter(|old| !old.ca.certificate.is_empty());
    let is_known = old.is_none() || made_at(secret).is_some_and(|made| rotation::is_known(made, now));
    Ok(Certificates { current, old, is_known })
}

/// Prefix of the old CA's entries.
const OLD: &str = "old-";

fn entries(prefix: &str, authority: &Authority) -> impl Iterator<Item = (String, ByteString)> {
    let Authority { ca, leaf } = authority;
    let texts =
        [("ca.crt", &ca.certificate), ("ca.key", &ca.key), ("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)];
    texts.map(|(name, text)| (format!("{prefix}{name}"), ByteString(text.as_bytes().to_vec()))).into_iter()
}

fn write(secret: &mut Secret, read: &Certificates, wanted: &Certificates, now: SystemTime) {
    if wanted.current.ca != read.current.ca {
        secret.annotations_mut().remove(ROTATE_ANNOTATION);
        made_now(secret, now);
    }
    let data = secret.data.get_or_insert_default();
    data.retain(|name, _| !name.starts_with(OLD));
    data.extend(entries("", &wanted.current));
    data.extend(wanted.old.iter().flat_map(|old| entries(OLD, old)));
    secret.metadata.managed_fields = None;
}

fn made_now(secret: &mut Secret, now: SystemTime) {
    if let Ok(now) = Timestamp::try_from(now) {
        secret.annotations_mut().insert(MADE_ANNOTATION.to_owned(), now.to_string());
    }
}

fn secret(names: &[ServerName<'_>], now: SystemTime) -> Result<Secret, IssueError> {
    let ca = new_ca(now)?;
    let leaf = new_leaf(&ca, names, now)?;
    let mut secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(entries("", &Authority { ca, leaf }).collect()),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    secret.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    made_now(&mut secret, now);
    Ok(secret)
}

/// Renews what the Secret holds and takes over what other replicas renewed: `serving` serves it, `trust` tells of it.
/// Never returns.
pub async fn keep_current(
    serving: &ServingCertificate,
    trust: watch::Sender<Trust>,
    client: Client,
    namespace: String,
    names: Vec<ServerName<'static>>,
) {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        let ensured = ensure(&client, &namespace, &names, SystemTime::now()).await;
        let served = ensured.and_then(|certificates| {
            certificates.serve(serving)?;
            Ok(certificates.trust())
        });
        match served {
            // Served first: nobody is told of a CA whose certificate is not there yet.
            Ok(new) => drop(trust.send_if_modified(|told| std::mem::replace(told, new.clone()) != new)),
            Err(error) => warn!("serving certificate stays as it is: {error}"),
        }
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
