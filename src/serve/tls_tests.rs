//! Tests of the listeners with real sockets on the loopback interface.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::routing::get;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::super::certificates::Certificates;
use super::super::issue::{names, new_ca, new_leaf, provider, roots};
use super::super::serving::ServingCertificate;
use super::*;
use crate::protocol::{ClaimRequest, Nonce, SERVER_NAME, env};
use crate::runner::client::{Client, RequestError};
use crate::runner::config::Config;

struct Server {
    address: SocketAddr,
    certificates: Certificates,
    serving: Arc<ServingCertificate>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

fn certificates() -> Certificates {
    let ca = new_ca(SystemTime::now()).unwrap();
    let leaf = new_leaf(&ca, &names("outrigger-system", &[]).unwrap(), SystemTime::now()).unwrap();
    Certificates::only(ca, leaf)
}

async fn start(router: Router) -> Server {
    start_with(router, Limits::TLS).await
}

async fn start_with(router: Router, limits: Limits) -> Server {
    let certificates = certificates();
    let serving = certificates.serving().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let config = serving.server_config().unwrap();
    let task = tokio::spawn(serve_tls(listener, config, router, limits, async { drop(stopped.await) }));
    Server { address, certificates, serving, stop, task }
}

fn client_config(ca: &str, alpn: &[&str]) -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca).unwrap())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

async fn get_with(server: &Server, ca: &str, alpn: &[&str]) -> reqwest::Result<(reqwest::Version, String)> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(ca, alpn))
        .resolve(SERVER_NAME, server.address)
        .no_proxy()
        .build()?;
    let response = client.get(format!("https://{SERVER_NAME}:{}/", server.address.port())).send().await?;
    Ok((response.version(), response.text().await?))
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn http1_and_http2_are_answered() {
    let server = start(hello()).await;
    let (version, text) = get_with(&server, &server.certificates.current.ca.certificate, &["http/1.1"]).await.unwrap();
    assert_eq!((version, text.as_str()), (reqwest::Version::HTTP_11, "hello"));
    let (version, text) = get_with(&server, &server.certificates.current.ca.certificate, &["h2"]).await.unwrap();
    assert_eq!((version, text.as_str()), (reqwest::Version::HTTP_2, "hello"));
}

#[tokio::test]
async fn a_client_that_pins_another_ca_does_not_connect() {
    let server = start(hello()).await;
    assert!(get_with(&server, &certificates().current.ca.certificate, &[]).await.is_err());
}

#[tokio::test]
async fn a_replaced_certificate_is_served_to_the_next_client() {
    let server = start(hello()).await;
    let new = certificates();
    assert!(get_with(&server, &new.current.ca.certificate, &[]).await.is_err());
    new.serve(&server.serving).unwrap();
    assert_eq!(get_with(&server, &new.current.ca.certificate, &[]).await.unwrap().1, "hello");
}

#[tokio::test]
async fn one_connection_that_says_nothing_or_rubbish_keeps_no_other_waiting() {
    let server = start(hello()).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut rubbish = TcpStream::connect(server.address).await.unwrap();
    rubbish.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(get_with(&server, &server.certificates.current.ca.certificate, &[]).await.unwrap().1, "hello");
}

#[tokio::test]
async fn shutdown_lets_an_open_request_end_and_accepts_no_more() {
    let slow = || async {
        sleep(Duration::from_millis(300)).await;
        "done"
    };
    let server = start(Router::new().route("/", get(slow))).await;
    let connector = TlsConnector::from(Arc::new(client_config(&server.certificates.current.ca.certificate, &[])));
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from(SERVER_NAME).unwrap(), tcp).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    server.stop.send(()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.ends_with("done"), "{text}");
    timeout(Duration::from_secs(1), server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn the_plain_listener_answers_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(serve_plain(listener, hello(), Limits::HEALTH, std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("hello"), "{text}");
    task.abort();
}

/// What a runner that pins this CA hears.
fn ask_as_runner(address: SocketAddr, ca: &str) -> RequestError {
    let digest = format!("sha256:{}", "0".repeat(64));
    let variables = [
        (env::ADDRESS, format!("https://{address}")),
        (env::CA, ca.to_owned()),
        (env::RUN_UID, "7".to_owned()),
        (env::ATTEMPT, "1".to_owned()),
        (env::TOKEN, "0".repeat(64)),
        (env::POD_UID, "pod".to_owned()),
        (env::TREE, "/tree".to_owned()),
        (env::TREE_DIGEST, digest.clone()),
        (env::ENTRYPOINT, "run.sh".to_owned()),
        (env::ENTRYPOINT_DIGEST, digest),
        (env::PAYLOAD_DIR, "/payload".to_owned()),
    ];
    let config = Config::read(variables.map(|(name, value)| (name.into(), value.into()))).unwrap();
    let nonce = Nonce::from_bytes([1; 16]);
    let claim = ClaimRequest { attempt: 1, pod_uid: "pod".to_owned(), nonce };
    Client::new(&config).unwrap().claim(&claim).unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_ca_follows_another_runners_of_either_are_served_and_others_by_the_old() {
    let server = start(Router::new().fallback(|| async { StatusCode::GONE })).await;
    let (old, new) = (server.certificates.current.clone(), certificates().current);
    let both = Certificates { current: new.clone(), old: Some(old.clone()), is_known: false };
    both.serve(&server.serving).unwrap();
    let refused = RequestError::Refused { status: 410, message: String::new() };
    for ca in [&old.ca.certificate, &new.ca.certificate] {
        let (address, ca) = (server.address, ca.clone());
        assert_eq!(tokio::task::spawn_blocking(move || ask_as_runner(address, &ca)).await.unwrap(), refused);
    }
    assert!(get_with(&server, &old.ca.certificate, &[]).await.is_ok(), "a bundle that does not hold the new one yet");
    assert!(get_with(&server, &both.trust().bundle, &[]).await.is_ok());
    assert!(get_with(&server, &new.ca.certificate, &[]).await.is_err());

    Certificates { current: new.clone(), old: None, is_known: true }.serve(&server.serving).unwrap();
    assert!(get_with(&server, &new.ca.certificate, &[]).await.is_ok());
    let (address, ca) = (server.address, old.ca.certificate);
    let error = tokio::task::spawn_blocking(move || ask_as_runner(address, &ca)).await.unwrap();
    assert!(matches!(&error, RequestError::Failed(message) if message.contains("certificate")), "{error}");
}
