//! Tests of the webhooks over HTTP, and of what hostile reviews do.

use axum::body::{Body, to_bytes};
use axum::http::Request as HttpRequest;
use proptest::prelude::*;
use serde_json::json;
use tower::ServiceExt as _;

use super::super::stamp::{RunName, sign};
use super::*;
use crate::api::EXTENSION_FINALIZER;

fn admission() -> Admission {
    Admission {
        stamp_key: b"key".to_vec(),
        operator: Some("system:serviceaccount:outrigger-system:outrigger".to_owned()),
        check_run: Arc::new(|run| {
            assert_eq!(run.metadata.namespace.as_deref(), Some("team-a"));
            let refusals = vec!["a is wrong".to_owned(), "b is wrong".to_owned()];
            Box::pin(async { RunCheck { refusals, ..RunCheck::default() } })
        }),
        check_extension: Arc::new(|extension| {
            extension.spec.source.as_ref().ok_or_else(|| vec!["spec.source is missing".to_owned()])?;
            Ok(extension.spec.version.iter().map(|version| format!("version {version} is odd")).collect())
        }),
    }
}

async fn post_to(path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = HttpRequest::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let response = router(admission()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn review(resource: &str, operation: &str, object: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5",
            "kind": {"group": "outrigger.dev", "version": "v1alpha1", "kind": "Any"},
            "resource": {"group": "outrigger.dev", "version": "v1alpha1", "resource": resource},
            "namespace": "team-a", "operation": operation, "userInfo": {"username": "alice"},
            "object": object, "oldObject": null, "dryRun": false,
        },
    })
}

fn a_run() -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": {"name": "nightly"},
        "spec": {"extensionRef": {"name": "orchestrator"}, "action": "backup"},
    })
}

async fn answered(path: &str, review: Value) -> Value {
    let (status, text) = post_to(path, review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    assert_eq!(answer["response"]["uid"], "705ab4f5");
    answer["response"].clone()
}

#[tokio::test]
async fn a_created_run_comes_back_with_a_json_patch_in_base64() {
    let response = answered(MUTATE_RUNS, review("actionruns", "CREATE", a_run())).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["path"], "/spec/caller");
    assert_eq!(patch[0]["value"]["username"], "alice");
    assert_eq!(patch[1], json!({"op": "add", "path": "/metadata/finalizers", "value": ["outrigger.dev/job"]}));
}

#[tokio::test]
async fn a_created_extension_comes_back_with_its_finalizer() {
    let response = answered(
        MUTATE_EXTENSIONS,
        review(
            "orchestratorextensions",
            "CREATE",
            json!({
                "apiVersion": "outrigger.dev/v1alpha1", "kind": "OrchestratorExtension", "metadata": {"name": "x"},
                "spec": {"source": {"url": "https://example.com/x.tar.gz"}},
            }),
        ),
    )
    .await;
    assert_eq!(response["allowed"], true);
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&patch).unwrap(),
        json!([{"op": "add", "path": "/metadata/finalizers", "value": [EXTENSION_FINALIZER]}])
    );
}

#[tokio::test]
async fn a_refusal_joins_all_problems() {
    let response = answered(MUTATE_EXTENSIONS, review("orchestratorextensions", "CREATE", json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "OrchestratorExtension", "metadata": {"name": "x"}, "spec": {},
    })))
    .await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["message"], "spec.source is missing");
    assert_eq!(response["status"]["code"], 422);
    let response = answered(VALIDATE_RUNS, review("actionruns", "CREATE", a_run())).await;
    assert!(response["status"]["message"].as_str().unwrap().starts_with("spec.caller is missing"), "{response}");
}

#[tokio::test]
async fn a_deletion_or_a_subresource_passes() {
    let response = answered(VALIDATE_RUNS, review("actionruns", "DELETE", Value::Null)).await;
    assert_eq!(response["allowed"], true);
    let mut status = review("actionruns", "CREATE", a_run());
    status["request"]["subResource"] = json!("status");
    assert_eq!(answered(VALIDATE_RUNS, status).await["allowed"], true);
}

#[tokio::test]
async fn a_review_that_is_none_is_refused_with_what_is_wrong() {
    for (body, expected) in [
        (String::new(), "admission review cannot be read: EOF"),
        ("[]".to_owned(), "admission review cannot be read: "),
        ("[".repeat(10_000), "admission review cannot be read: "),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_owned(),
            "admission review has no request",
        ),
        (
            review("actionruns", "CREATE", a_run()).to_string().replace("k8s.io/v1\"", "k8s.io/v1beta1\""),
            "admission review has apiVersion \"admission.k8s.io/v1beta1\" and kind \"AdmissionReview\": expected \"admission.k8s.io/v1\"",
        ),
        (
            review("pods", "CREATE", a_run()).to_string(),
            "admission review is about \"pods.outrigger.dev\": this address judges \"actionruns.outrigger.dev\"",
        ),
    ] {
        let (status, text) = post_to(MUTATE_RUNS, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn a_review_that_is_too_large_is_refused() {
    let (status, _) = post_to(MUTATE_RUNS, vec![b' '; REQUEST_BYTES + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

fn stamped(mut run: Value) -> Value {
    let typed: ActionRun = serde_json::from_value(run.clone()).unwrap();
    let caller = sign(b"key", "team-a", RunName::Name("nightly"), &Default::default(), Timestamp::now(), &typed.spec);
    run["spec"]["caller"] = serde_json::to_value(caller).unwrap();
    run
}

#[tokio::test]
async fn a_stamped_run_is_checked_and_all_that_is_wrong_is_told_at_once() {
    let of = async |run: Value| {
        answered(VALIDATE_RUNS, review("actionruns", "CREATE", run)).await["status"]["message"].clone()
    };
    assert_eq!(of(stamped(a_run())).await, "a is wrong; b is wrong");
    let forged = of(a_run()).await;
    assert!(forged.as_str().unwrap().starts_with("spec.caller is missing"), "{forged}");
    let mut large = a_run();
    large["spec"]["parameters"] = json!({"a": [1]});
    let large = of(stamped(large)).await;
    let expected = "spec.parameters.a: is a list; allowed are strings, numbers and booleans; a is wrong; b is wrong";
    assert_eq!(large, expected);
}

#[tokio::test]
async fn what_is_cheap_to_send_and_dear_to_parse_is_refused_unparsed() {
    let bomb = vec![0; 500_000];
    for (path, resource, values) in [
        (MUTATE_RUNS, "actionruns", size::RUN.values),
        (VALIDATE_RUNS, "actionruns", size::RUN.values),
        (MUTATE_EXTENSIONS, "orchestratorextensions", size::OBJECT.values),
    ] {
        let mut object = a_run();
        object["vm"] = json!({"a": bomb});
        let response = answered(path, review(resource, "CREATE", object)).await;
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(413)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("the object is too large to be admitted: its admission review has "), "{message}");
        assert!(message.contains(&format!("JSON values, at most {values} are")), "{message}");
    }
    let mut run = a_run();
    run["metadata"]["annotations"] = json!({"a": "x".repeat(size::RUN.bytes)});
    let response = answered(MUTATE_RUNS, review("actionruns", "CREATE", run)).await;
    assert!(
        response["status"]["message"].as_str().unwrap().contains("bytes, at most 2097152 are allowed"),
        "{response}"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        ".{0,6}",
        Just("spec".to_owned()),
        Just("caller".to_owned()),
        Just("metadata".to_owned()),
        Just("parameters".to_owned()),
        Just("annotations".to_owned()),
        Just("finalizers".to_owned()),
        Just("cancel".to_owned()),
        Just("time".to_owned()),
        Just("mac".to_owned()),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_objects_get_an_answer(spec in any_json(), metadata in any_json(), old in any_json(), update: bool) {
        let object = json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": metadata, "spec": spec});
        let operation = if update { "UPDATE" } else { "CREATE" };
        let mut review = review("actionruns", operation, object.clone());
        review["request"]["oldObject"] = json!({"metadata": object["metadata"], "spec": old});
        let body = review.to_string();
        for path in [MUTATE_RUNS, VALIDATE_RUNS] {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (status, text) = runtime.block_on(post_to(path, body.clone()));
            prop_assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{} {}", status, text);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (status, _) = runtime.block_on(post_to(MUTATE_EXTENSIONS, body));
        prop_assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn what_is_only_warned_of_in_an_extension_is_let_in() {
    let object = |version: Value| {
        json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "OrchestratorExtension", "metadata": {"name": "x"},
            "spec": {"source": {"url": "https://example.com/x.git"}, "version": version},
        })
    };
    let odd = answered(MUTATE_EXTENSIONS, review("orchestratorextensions", "CREATE", object(json!("0")))).await;
    assert_eq!(odd["allowed"], true, "{odd}");
    assert_eq!(odd["warnings"], json!(["version 0 is odd"]));
    let plain = answered(MUTATE_EXTENSIONS, review("orchestratorextensions", "CREATE", object(Value::Null))).await;
    assert_eq!((&plain["allowed"], &plain["warnings"]), (&json!(true), &Value::Null), "{plain}");
}
