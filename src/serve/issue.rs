//! The operator's own CA and serving certificate: making them, and deciding when to make another. Pure but for the
//! random numbers in keys.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use crate::protocol::{SERVER_NAME, server_name};

const DAY: Duration = Duration::from_secs(86400);
/// How long the CA is valid.
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// How long a serving certificate is valid.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(365 * DAY.as_secs());
/// A serving certificate that is valid for less than this is replaced: a third of its life.
pub const RENEW_BEFORE: Duration = Duration::from_secs(LEAF_LIFETIME.as_secs() / 3);
/// Certificates start to be valid this long ago, for clients whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refused.
    #[error("certificate cannot be made: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// A PEM entry holds something else.
    #[error("{what} cannot be read: {reason}")]
    Pem {
        /// Which entry.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A certificate and its private key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The names and addresses for which the serving certificate of an operator in `namespace` must be valid. Replicas
/// must agree on `addresses`, or they replace each other's certificate for ever.
///
/// # Errors
/// [`IssueError`] for a namespace that is no DNS label.
pub fn names(namespace: &str, addresses: &[IpAddr]) -> Result<Vec<ServerName<'static>>, IssueError> {
    let service = format!("outrigger.{namespace}.svc");
    let mut names = Vec::new();
    for name in [SERVER_NAME.to_owned(), service.clone(), format!("{service}.cluster.local")] {
        let error = |reason| IssueError::Pem { what: "name of the serving certificate", reason };
        names.push(ServerName::try_from(name.clone()).map_err(|cause| error(format!("{name:?}: {cause}")))?);
    }
    names.extend(addresses.iter().map(|address| ServerName::IpAddress((*address).into())));
    Ok(names)
}

/// A new CA, valid from `now` for [`CA_LIFETIME`].
///
/// # Errors
/// [`IssueError::Rcgen`].
pub fn new_ca(now: SystemTime) -> Result<Pair, IssueError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params();
    validity(&mut params, now, CA_LIFETIME);
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// A new serving certificate for `names` and the CA's own name ([`server_name`]), valid from `now` for
/// [`LEAF_LIFETIME`], signed with the CA's key.
///
/// # Errors
/// [`IssueError`], also where the CA cannot be read.
pub fn new_leaf(ca: &Pair, names: &[ServerName<'_>], now: SystemTime) -> Result<Pair, IssueError> {
    let ca_key = KeyPair::from_pem(&ca.key).map_err(|error| pem_error("ca.key", error))?;
    let issuer = Issuer::new(ca_params(), ca_key);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let own_name = server_name(&ca.certificate).ok_or_else(|| pem_error("ca.crt", "it is no certificate"))?;
    let names: Vec<String> = names.iter().map(|name| name.to_str().into_owned()).chain([own_name]).collect();
    let mut params = CertificateParams::new(names)?;
    validity(&mut params, now, LEAF_LIFETIME);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

/// Why the serving certificate must be replaced, if it must: it cannot be read, does not fit its key or the CA, lacks
/// a name, or is valid for less than [`RENEW_BEFORE`] from `now` on.
pub fn needs_renewal(ca: &str, leaf: &Pair, now: SystemTime, names: &[ServerName<'_>]) -> Option<String> {
    renewal_reason(ca, leaf, now, names).err()
}

fn renewal_reason(ca: &str, leaf: &Pair, now: SystemTime, names: &[ServerName<'_>]) -> Result<(), String> {
    certified_key(leaf).map_err(|error| error.to_string())?;
    let certificate = certificate(&leaf.certificate, "tls.crt").map_err(|error| error.to_string())?;
    let roots = Arc::new(roots(ca).map_err(|error| error.to_string())?);
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(|error| error.to_string())?;
    let own_name =
        server_name(ca).and_then(|name| ServerName::try_from(name).ok()).ok_or("ca.crt is no certificate")?;
    for time in [now, now + RENEW_BEFORE] {
        let time = UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        for name in names.iter().chain([&own_name]) {
            verifier
                .verify_server_cert(&certificate, &[], name, &[], time)
                .map_err(|error| format!("{}: {error}", name.to_str()))?;
        }
    }
    Ok(())
}

/// The one cryptography provider of the process.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The CAs as the only trust anchors.
pub(super) fn roots(bundle: &str) -> Result<RootCertStore, IssueError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(bundle, "ca.crt")? {
        roots.add(certificate).map_err(|error| pem_error("ca.crt", error))?;
    }
    Ok(roots)
}

/// The pair in the form that a TLS server needs; certificate and key must belong together.
pub(super) fn certified_key(pair: &Pair) -> Result<CertifiedKey, IssueError> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| pem_error("tls.key", error))?;
    CertifiedKey::from_der(certificates(&pair.certificate, "tls.crt")?, key, &provider())
        .map_err(|error| pem_error("tls.crt", error))
}

/// At least one certificate.
fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, IssueError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| pem_error(what, error))?;
    if certificates.is_empty() {
        return Err(pem_error(what, "it holds no certificate"));
    }
    Ok(certificates)
}

fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, IssueError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| pem_error(what, error))
}

fn pem_error(what: &'static str, error: impl std::fmt::Display) -> IssueError {
    IssueError::Pem { what, reason: error.to_string() }
}

/// The same for every CA that the operator makes, so that a leaf can be signed with nothing but the CA's key.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Outrigger CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + since_epoch + lifetime;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn some_names() -> Vec<ServerName<'static>> {
        names("outrigger-system", &["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()]).unwrap()
    }

    fn issued() -> (Pair, Pair) {
        let ca = new_ca(now()).unwrap();
        let leaf = new_leaf(&ca, &some_names(), now()).unwrap();
        (ca, leaf)
    }

    #[test]
    fn a_new_certificate_holds_for_every_name_and_address() {
        let (ca, leaf) = issued();
        assert_eq!(needs_renewal(&ca.certificate, &leaf, now(), &some_names()), None);
        let texts: Vec<_> = some_names().iter().map(|name| name.to_str().into_owned()).collect();
        assert_eq!(
            texts,
            [
                "outrigger.internal",
                "outrigger.outrigger-system.svc",
                "outrigger.outrigger-system.svc.cluster.local",
                "192.0.2.7",
                "2001:db8::1"
            ]
        );
    }

    #[test]
    fn a_certificate_is_renewed_in_the_last_third_of_its_life() {
        let (ca, leaf) = issued();
        let last_day = now() + LEAF_LIFETIME - RENEW_BEFORE;
        assert_eq!(needs_renewal(&ca.certificate, &leaf, last_day - DAY, &some_names()), None);
        let reason = needs_renewal(&ca.certificate, &leaf, last_day + DAY, &some_names()).unwrap();
        assert!(reason.contains("expired"), "{reason}");
    }

    #[test]
    fn a_missing_name_is_a_reason() {
        let (ca, leaf) = issued();
        let more = names("outrigger-system", &["192.0.2.8".parse().unwrap()]).unwrap();
        let reason = needs_renewal(&ca.certificate, &leaf, now(), &more).unwrap();
        assert!(reason.starts_with("192.0.2.8: "), "{reason}");
    }

    #[test]
    fn a_certificate_of_another_ca_or_another_key_is_a_reason() {
        let (ca, leaf) = issued();
        let (other_ca, other_leaf) = issued();
        assert!(needs_renewal(&other_ca.certificate, &leaf, now(), &some_names()).is_some());
        let mixed = Pair { certificate: leaf.certificate, key: other_leaf.key };
        assert!(needs_renewal(&ca.certificate, &mixed, now(), &some_names()).is_some());
    }

    #[test]
    fn what_is_no_certificate_is_a_reason() {
        let (ca, leaf) = issued();
        for text in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let broken = Pair { certificate: text.to_owned(), key: leaf.key.clone() };
            assert!(needs_renewal(&ca.certificate, &broken, now(), &some_names()).is_some(), "{text}");
        }
    }
}
