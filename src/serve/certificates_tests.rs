//! Tests of the certificates' Secret, against an API in memory.

use axum::http::{Method, StatusCode};
use serde_json::json;

use super::super::issue::{LEAF_LIFETIME, names};
use super::*;
use crate::fake_api::FakeApi;

const PATH: &str = "/api/v1/namespaces/outrigger-system/secrets/outrigger-tls";

async fn ensured(api: &FakeApi, now: SystemTime, addresses: &[&str]) -> Result<Certificates, CertificatesError> {
    let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    ensure(&api.client(), "outrigger-system", &names("outrigger-system", &addresses).unwrap(), now).await
}

#[tokio::test]
async fn certificates_are_made_once_and_read_ever_after() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    let first = ensured(&api, now, &[]).await.unwrap();
    assert_eq!(ensured(&api, now, &[]).await.unwrap(), first);
    assert_eq!(api.log().iter().filter(|line| !line.starts_with("GET")).count(), 1);
    assert_eq!(api.get(PATH).unwrap()["type"], "kubernetes.io/tls");
}

#[tokio::test]
async fn a_new_address_or_the_last_third_of_its_life_replaces_the_leaf_and_keeps_the_ca() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    let first = ensured(&api, now, &[]).await.unwrap();
    let second = ensured(&api, now, &["192.0.2.7"]).await.unwrap();
    assert_eq!(second.ca, first.ca);
    assert_ne!(second.leaf, first.leaf);
    let third = ensured(&api, now + LEAF_LIFETIME, &[]).await.unwrap();
    assert_eq!(third.ca, first.ca);
    assert_ne!(third.leaf, second.leaf);
}

#[tokio::test]
async fn replicas_that_start_together_serve_the_same_certificate() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    let (one, two, three) = tokio::join!(ensured(&api, now, &[]), ensured(&api, now, &[]), ensured(&api, now, &[]));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_eq!(one, three.unwrap());
}

#[tokio::test]
async fn a_write_that_always_loses_ends_with_an_error() {
    let api = FakeApi::default();
    api.before(|_, method, _| (*method == Method::POST).then_some(StatusCode::CONFLICT));
    let error = ensured(&api, SystemTime::now(), &[]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "secret outrigger-system/outrigger-tls was changed by somebody else 5 times while it was being written"
    );
}

#[tokio::test]
async fn a_ca_that_is_not_usable_is_named_and_left_alone() {
    let api = FakeApi::default();
    api.put(PATH, json!({"metadata": {"name": SECRET}, "data": {"ca.crt": "AAAA", "ca.key": "AAAA"}}));
    let stored = api.get(PATH);
    let error = ensured(&api, SystemTime::now(), &[]).await.unwrap_err().to_string();
    assert!(error.starts_with("secret outrigger-system/outrigger-tls: ca.key cannot be read: "), "{error}");
    assert!(error.contains("restore the Secret"), "{error}");
    api.put(PATH, json!({"metadata": {"name": SECRET}}));
    let error = ensured(&api, SystemTime::now(), &[]).await.unwrap_err().to_string();
    assert!(error.contains("entry \"ca.crt\" is missing"), "{error}");
    assert_ne!(stored, None);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_leaves_the_served_one() {
    let api = FakeApi::default();
    let good = ensured(&api, SystemTime::now(), &[]).await.unwrap();
    let serving = ServingCertificate::new(&good).unwrap();
    let broken = Certificates { leaf: Pair { certificate: String::new(), key: String::new() }, ..good };
    assert!(serving.replace(&broken).unwrap_err().to_string().starts_with("tls.key cannot be read: "));
    assert!(serving.server_config().is_ok());
}
