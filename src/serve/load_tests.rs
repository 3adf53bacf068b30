//! Tests of the two listeners under load: many reviews at once are all answered, and uploads by runners keep none waiting.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::issue::{names, new_ca, new_leaf, provider, roots};
use super::tls::{Limits, serve_tls};
use super::turns::in_turn;
use crate::admission::handlers::{MUTATE_RUNS, VALIDATE_RUNS};
use crate::admission::stamp::{RunName, sign};
use crate::admission::{Admission, RunCheck, router};
use crate::api::ActionRun;
use crate::protocol::SERVER_NAME;

/// Far beyond what anything here takes, unless it waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

struct Listeners {
    ca: String,
    webhooks: SocketAddr,
    runs: SocketAddr,
}

/// Judges runs as the webhooks do, where looking at what a run means takes the API a moment; and takes uploads.
async fn start() -> Listeners {
    let ca = new_ca(SystemTime::now()).unwrap();
    let leaf = new_leaf(&ca, &names("outrigger-system", &[]).unwrap(), SystemTime::now()).unwrap();
    let serving = Certificates::only(ca.clone(), leaf).serving().unwrap();
    let listen = async |router: Router| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = serving.server_config().unwrap();
        tokio::spawn(serve_tls(listener, config, router, Limits::TLS, std::future::pending()));
        address
    };
    let check_run = |run: ActionRun| {
        let refusals = vec![format!("{} is judged", run.metadata.name.unwrap_or_default())];
        let check = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            RunCheck { refusals, ..RunCheck::default() }
        };
        Box::pin(check) as _
    };
    let admission = Admission {
        stamp_key: b"key".to_vec(),
        operator: None,
        check_run: Arc::new(check_run),
        check_extension: Arc::new(|_| Ok(vec![])),
    };
    let uploads =
        Router::new().route("/v1/runs/{uid}/output", post(|body: Bytes| async move { body.len().to_string() }));
    let uploads = uploads.layer(axum::extract::DefaultBodyLimit::disable());
    Listeners {
        ca: ca.certificate.clone(),
        webhooks: listen(in_turn(router(admission))).await,
        runs: listen(uploads).await,
    }
}

fn client(listeners: &Listeners, server: SocketAddr, from: [u8; 4]) -> reqwest::Client {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&listeners.ca).unwrap())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve(SERVER_NAME, server)
        .local_address(IpAddr::from(from))
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

fn url(server: SocketAddr, path: &str) -> String {
    format!("https://{SERVER_NAME}:{}{path}", server.port())
}

/// The review of a run of ordinary size that brings its stamp, if it has one.
fn review(number: usize, is_stamped: bool) -> Value {
    let name = format!("run-{number}");
    let mut run = json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": {"name": name},
        "spec": {"extensionRef": {"name": "orchestrator"}, "action": "backup", "parameters": {"note": "x".repeat(4000)}},
    });
    if is_stamped {
        let typed: ActionRun = serde_json::from_value(run.clone()).unwrap();
        let now = Timestamp::now();
        let caller = sign(b"key", "team-a", RunName::Name(&name), &Default::default(), now, &typed.spec);
        run["spec"]["caller"] = serde_json::to_value(caller).unwrap();
    }
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("uid-{number}"),
            "kind": {"group": "outrigger.dev", "version": "v1alpha1", "kind": "ActionRun"},
            "resource": {"group": "outrigger.dev", "version": "v1alpha1", "resource": "actionruns"},
            "namespace": "team-a", "operation": "CREATE", "userInfo": {"username": "alice"},
            "object": run, "oldObject": null, "dryRun": false,
        },
    })
}

/// Asks both webhooks about a run, one after the other, as the API server does.
async fn is_answered_right(client: &reqwest::Client, server: SocketAddr, number: usize) {
    let ask = async |path: &str, is_stamped: bool| {
        let body = review(number, is_stamped).to_string();
        let response = client.post(url(server, path)).body(body).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["response"].clone()
    };
    let stamped = ask(MUTATE_RUNS, false).await;
    assert_eq!((&stamped["uid"], &stamped["allowed"]), (&json!(format!("uid-{number}")), &json!(true)), "{stamped}");
    assert!(stamped["patch"].is_string(), "{stamped}");
    let judged = ask(VALIDATE_RUNS, true).await;
    assert_eq!((&judged["uid"], &judged["allowed"]), (&json!(format!("uid-{number}")), &json!(false)), "{judged}");
    assert_eq!(judged["status"]["message"], format!("run-{number} is judged"));
}

#[tokio::test]
async fn a_hundred_runs_at_once_are_all_judged() {
    let listeners = start().await;
    let api_server = client(&listeners, listeners.webhooks, [127, 0, 0, 1]);
    let mut reviews = JoinSet::new();
    for number in 0..100 {
        let (api_server, server) = (api_server.clone(), listeners.webhooks);
        reviews.spawn(async move { is_answered_right(&api_server, server, number).await });
    }
    let answered = reviews.join_all().await;
    assert_eq!(answered.len(), 100);
}

#[tokio::test]
async fn a_flood_of_uploads_keeps_no_review_waiting() {
    let listeners = start().await;
    let mut flood = JoinSet::new();
    for number in 0..12 {
        let uploader = client(&listeners, listeners.runs, [127, 6, 0, number]);
        let url = url(listeners.runs, "/v1/runs/6f1c/output");
        flood.spawn(async move {
            // Until it is ended; what does not fit is asked to come back, which it does at once.
            for _ in 0..1000 {
                let _ = uploader.post(&url).body(vec![b'x'; 6 << 20]).send().await;
            }
        });
    }
    let api_server = client(&listeners, listeners.webhooks, [127, 0, 0, 1]);
    for number in 0..30 {
        is_answered_right(&api_server, listeners.webhooks, number).await;
    }
    flood.abort_all();
}
