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
    assert_eq!(second.current.ca, first.current.ca);
    assert_ne!(second.current.leaf, first.current.leaf);
    let third = ensured(&api, now + LEAF_LIFETIME, &[]).await.unwrap();
    assert_eq!(third.current.ca, first.current.ca);
    assert_ne!(third.current.leaf, second.current.leaf);
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
    let serving = good.serving().unwrap();
    let leaf = Pair { certificate: String::new(), key: String::new() };
    let broken = Certificates::only(good.current.ca, leaf);
    assert!(broken.serve(&serving).unwrap_err().to_string().starts_with("tls.key cannot be read: "));
    assert!(serving.server_config().is_ok());
}

const JOBS: &str = "/apis/batch/v1/namespaces/outrigger-system/jobs";

fn jobs(api: &FakeApi, pins: &[Option<&str>]) {
    for (number, pin) in pins.iter().enumerate() {
        let annotations = pin.map(|pin| json!({CA_ANNOTATION: pin}));
        let metadata = json!({"name": number.to_string(), "annotations": annotations});
        let kind = "PartialObjectMetadata";
        let job = json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata});
        api.put(&format!("{JOBS}/{number}"), job);
    }
}

fn ask_for_another(api: &FakeApi) {
    let mut secret = api.get(PATH).unwrap();
    secret["metadata"]["annotations"][ROTATE_ANNOTATION] = "now".into();
    api.put(PATH, secret);
}

#[tokio::test]
async fn a_new_ca_serves_beside_the_old_one_until_no_job_pins_it() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    let first = ensured(&api, now, &[]).await.unwrap();
    ask_for_another(&api);
    let both = ensured(&api, now, &[]).await.unwrap();
    assert_ne!(both.current, first.current);
    assert_eq!(both.old.as_ref(), Some(&first.current));
    assert_eq!(api.get(PATH).unwrap()["metadata"]["annotations"].get(ROTATE_ANNOTATION), None);
    let trust = both.trust();
    assert_eq!(trust.pinned, both.current.ca.certificate);
    assert_eq!(trust.bundle, format!("{}{}", both.current.ca.certificate, first.current.ca.certificate));

    let later = now + 2 * rotation::OVERLAP;
    let known = Certificates { is_known: true, ..both.clone() };
    api.before(|_, _, path| path.ends_with("/jobs").then_some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(ensured(&api, later, &[]).await.unwrap(), known, "the Jobs cannot be read");
    api.before(|_, _, _| None);
    let old = server_name(&first.current.ca.certificate).unwrap();
    let new = server_name(&both.current.ca.certificate).unwrap();
    for pins in [[Some(old.as_str()), Some(&new)], [None, Some(&new)]] {
        jobs(&api, &pins);
        assert_eq!(ensured(&api, later, &[]).await.unwrap(), known);
    }
    jobs(&api, &[Some(&new), Some(&new)]);
    assert_eq!(ensured(&api, now, &[]).await.unwrap(), both, "a leader may not know the new one yet");
    let after = ensured(&api, later, &[]).await.unwrap();
    assert_eq!((&after.current, &after.old), (&both.current, &None));
    assert!(!api.get(PATH).unwrap()["data"].to_string().contains("old-"));
}

#[tokio::test]
async fn who_names_no_ca_is_served_by_the_new_one_well_before_the_old_one_goes() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    ensured(&api, now, &[]).await.unwrap();
    ask_for_another(&api);
    let both = ensured(&api, now, &[]).await.unwrap();
    let half = rotation::OVERLAP / 2;
    let later = ensured(&api, now + half, &[]).await.unwrap();
    assert_eq!(both.default(), both.old.as_ref().unwrap());
    assert_eq!(later.default(), &later.current);
    // A replica that has not looked again since serves what those trust who know the new one alone.
    let after = ensured(&api, now + rotation::OVERLAP, &[]).await.unwrap();
    assert_eq!((after.old, after.current.ca), (None, later.default().ca.clone()));
}

#[tokio::test]
async fn replicas_that_are_asked_for_a_new_ca_together_make_one() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    let first = ensured(&api, now, &[]).await.unwrap();
    ask_for_another(&api);
    let (one, two) = tokio::join!(ensured(&api, now, &[]), ensured(&api, now, &[]));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_eq!(one.old, Some(first.current));
}

#[tokio::test]
async fn a_ca_in_the_last_third_of_its_life_is_followed_by_another() {
    let api = FakeApi::default();
    let now = SystemTime::now();
    let first = ensured(&api, now, &[]).await.unwrap();
    let due = now + (super::super::issue::CA_LIFETIME - rotation::ROTATE_BEFORE);
    let both = ensured(&api, due, &[]).await.unwrap();
    assert_eq!(both.old.unwrap().ca, first.current.ca);
    assert_ne!(both.current.ca, first.current.ca);
}
