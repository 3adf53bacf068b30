//! Tests of the webhooks' definitions and of keeping them right, against an API in memory.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::fake_api::FakeApi;

const OPERATOR: &str = "system:serviceaccount:outrigger-system:outrigger";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/outrigger";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/outrigger";

fn service() -> Endpoint {
    Endpoint::Service { namespace: "outrigger-system".to_owned(), name: "outrigger".to_owned(), port: 443 }
}

fn definitions(endpoint: &Endpoint, ca: Option<&str>, operator: &str) -> [Value; 2] {
    let (mutating, validating) = webhooks(DEFAULT_NAME, endpoint, ca, operator);
    [serde_json::to_value(mutating).unwrap(), serde_json::to_value(validating).unwrap()]
}

fn installed() -> FakeApi {
    let api = FakeApi::default();
    let [mutating, validating] = definitions(&service(), None, OPERATOR);
    api.put(MUTATING, mutating);
    api.put(VALIDATING, validating);
    api
}

fn bundles(api: &FakeApi) -> Vec<Value> {
    let of = |path: &str| api.get(path).unwrap()["webhooks"].as_array().unwrap().clone();
    of(MUTATING).into_iter().chain(of(VALIDATING)).map(|webhook| webhook["clientConfig"]["caBundle"].clone()).collect()
}

#[test]
fn runs_fail_closed_and_extensions_open() {
    let [mutating, validating] = definitions(&service(), None, OPERATOR);
    assert_eq!(
        mutating["webhooks"][0],
        json!({
            "name": "mutate.actionruns.outrigger.dev",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {
                "namespace": "outrigger-system", "name": "outrigger", "port": 443, "path": "/admission/actionruns/mutate",
            }},
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "reinvocationPolicy": "Never",
            "sideEffects": "None", "timeoutSeconds": 5,
            "matchConditions": [
                {
                    "name": "not-being-deleted",
                    "expression": "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp)",
                },
                {
                    "name": "not-by-the-operator",
                    "expression": "request.operation != 'UPDATE' || request.userInfo.username != \"system:serviceaccount:outrigger-system:outrigger\"",
                },
            ],
            "rules": [{
                "apiGroups": ["outrigger.dev"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["actionruns"], "scope": "Namespaced",
            }],
        })
    );
    let policies: Vec<_> = [&mutating, &validating]
        .into_iter()
        .flat_map(|configuration| configuration["webhooks"].as_array().unwrap())
        .map(|webhook| (webhook["name"].as_str().unwrap(), webhook["failurePolicy"].as_str().unwrap()))
        .collect();
    assert_eq!(
        policies,
        [
            ("mutate.actionruns.outrigger.dev", "Fail"),
            ("mutate.orchestratorextensions.outrigger.dev", "Ignore"),
            ("validate.actionruns.outrigger.dev", "Fail"),
        ]
    );
    assert_eq!(mutating["webhooks"][1]["rules"][0]["scope"], "Cluster");
    assert_eq!(mutating["webhooks"][1]["reinvocationPolicy"], "IfNeeded");
}

/// The chart's rendering, in which two files claim to hold the same as the code.
#[test]
fn the_chart_registers_the_same_webhooks() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/outrigger.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n").filter(|document| document.contains("WebhookConfiguration"));
    let rendered: Vec<Value> = documents.map(|document| serde_yaml::from_str(document).unwrap()).collect();
    assert_eq!(rendered.len(), 2);
    for ours in definitions(&service(), None, OPERATOR) {
        let kind = if ours["webhooks"][0]["reinvocationPolicy"].is_string() { "Mutating" } else { "Validating" };
        let chart = rendered.iter().find(|chart| chart["kind"].as_str().unwrap().starts_with(kind)).unwrap();
        assert_eq!(chart["metadata"]["name"], ours["metadata"]["name"]);
        assert_eq!(chart["webhooks"], ours["webhooks"], "{kind}");
    }
}

#[test]
fn an_operator_outside_the_cluster_is_found_by_url_with_its_ca() {
    let [mutating, _] = definitions(&Endpoint::Url("https://192.0.2.7:8443/".to_owned()), Some("ca"), OPERATOR);
    assert_eq!(
        mutating["webhooks"][0]["clientConfig"],
        json!({"caBundle": "Y2E=", "url": "https://192.0.2.7:8443/admission/actionruns/mutate"})
    );
}

#[test]
fn a_user_name_cannot_break_out_of_its_condition() {
    let [mutating, _] = definitions(&service(), None, "a\" || true || \"");
    let expression = &mutating["webhooks"][0]["matchConditions"][1]["expression"];
    assert_eq!(expression, r#"request.operation != 'UPDATE' || request.userInfo.username != "a\" || true || \"""#);
}

#[tokio::test]
async fn the_ca_is_written_once_and_again_after_it_was_taken_out() {
    let api = installed();
    inject_ca(&api.client(), DEFAULT_NAME, "ca").await.unwrap();
    assert_eq!(bundles(&api), ["Y2E=", "Y2E=", "Y2E="]);
    inject_ca(&api.client(), DEFAULT_NAME, "ca").await.unwrap();
    let writes = |api: &FakeApi| api.log().iter().filter(|line| line.starts_with("PUT")).count();
    assert_eq!(writes(&api), 2, "nothing is written where nothing changed");
    api.put(VALIDATING, definitions(&service(), None, OPERATOR)[1].clone());
    inject_ca(&api.client(), DEFAULT_NAME, "ca").await.unwrap();
    assert_eq!(bundles(&api), ["Y2E=", "Y2E=", "Y2E="]);
    assert_eq!(writes(&api), 3);
}

#[tokio::test]
async fn a_lost_race_is_tried_again_and_a_missing_configuration_named() {
    let api = installed();
    let mut once = true;
    api.before(move |_, method, _| {
        (*method == Method::PUT && std::mem::take(&mut once)).then_some(StatusCode::CONFLICT)
    });
    inject_ca(&api.client(), DEFAULT_NAME, "ca").await.unwrap();
    assert_eq!(bundles(&api), ["Y2E=", "Y2E=", "Y2E="]);
    let error = inject_ca(&api.client(), "other", "ca").await.unwrap_err().to_string();
    assert!(error.starts_with("MutatingWebhookConfiguration \"other\" does not exist: "), "{error}");
    api.before(|_, _, _| Some(StatusCode::FORBIDDEN));
    let error = inject_ca(&api.client(), DEFAULT_NAME, "ca").await.unwrap_err().to_string();
    assert!(error.starts_with("MutatingWebhookConfiguration \"outrigger\" cannot be read or written: "), "{error}");
}

#[tokio::test]
async fn the_url_configuration_carries_url_and_ca() {
    let api = FakeApi::default();
    apply_url_configuration(&api.client(), DEFAULT_NAME, "https://192.0.2.7:8443", "ca", "admin").await.unwrap();
    assert_eq!(bundles(&api), ["Y2E=", "Y2E=", "Y2E="]);
    let applied = api.get(MUTATING).unwrap();
    assert_eq!(applied["kind"], "MutatingWebhookConfiguration");
    assert_eq!(applied["webhooks"][1]["clientConfig"]["url"], "https://192.0.2.7:8443/admission/extensions/mutate");
    assert_eq!(api.get(VALIDATING).unwrap()["webhooks"].as_array().unwrap().len(), 1);
}
