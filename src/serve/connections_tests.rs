//! Tests of a listener whose peers mean no good: an honest request is answered meanwhile.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::issue::{names, new_ca, new_leaf, provider, roots};
use super::super::serving::ServingCertificate;
use super::super::tls::serve_tls;
use super::*;
use crate::protocol::SERVER_NAME;

/// Far beyond what anything here takes, unless it waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);
/// The beginning of an HTTP/2 connection: preface and an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct Server {
    address: SocketAddr,
    ca: String,
}

/// Answers with the length of what was posted.
async fn start(limits: Limits) -> Server {
    let ca = new_ca(SystemTime::now()).unwrap();
    let leaf = new_leaf(&ca, &names("outrigger-system", &[]).unwrap(), SystemTime::now()).unwrap();
    let serving = ServingCertificate::new(&leaf, []).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() }));
    let router = router.route("/owed", post(async |_: Bytes| std::future::pending::<()>().await));
    tokio::spawn(serve_tls(listener, serving.server_config().unwrap(), router, limits, std::future::pending()));
    Server { address, ca: ca.certificate }
}

fn tls(server: &Server, alpn: &str) -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&server.ca).unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

/// Connects from `from`, one of this machine's many loopback addresses.
async fn connect(server: &Server, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    timeout(PATIENCE, socket.connect(server.address)).await.unwrap().unwrap()
}

async fn connect_tls(server: &Server, from: [u8; 4], alpn: &str) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(tls(server, alpn)));
    let tcp = connect(server, from).await;
    connector.connect(ServerName::try_from(SERVER_NAME).unwrap(), tcp).await.unwrap()
}

async fn honest(server: &Server, body: Vec<u8>) -> (StatusCode, String) {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(server, "h2"))
        .resolve(SERVER_NAME, server.address)
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let url = format!("https://{SERVER_NAME}:{}/", server.address.port());
    let response = client.post(url).body(body).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

async fn is_answered(server: &Server) {
    assert_eq!(honest(server, vec![b'x'; 100_000]).await, (StatusCode::OK, "100000".to_owned()));
}

fn is_closed(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1024]), Ok(0))
        || stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn thousands_of_silent_connections_from_many_addresses_keep_no_request_waiting() {
    let server = start(Limits::TLS).await;
    let mut silent = Vec::new();
    for number in 0..2500_u16 {
        let [high, low] = number.to_be_bytes();
        silent.push(connect(&server, [127, 1, high, low]).await);
    }
    is_answered(&server).await;
    let open = silent.iter().filter(|stream| !is_closed(stream)).count();
    assert!(open <= Limits::TLS.connections, "{open} connections are open");
}

#[tokio::test]
async fn connections_from_the_clients_own_address_keep_no_request_waiting() {
    let server = start(Limits::TLS).await;
    let mut silent = Vec::new();
    for _ in 0..2000 {
        silent.push(connect(&server, [127, 0, 0, 1]).await);
    }
    is_answered(&server).await;
    let open = silent.iter().filter(|stream| !is_closed(stream)).count();
    assert!(open <= Limits::TLS.per_peer, "{open} connections are open");
}

#[tokio::test]
async fn idle_http2_connections_keep_no_request_waiting() {
    let server = start(Limits { connections: 200, per_peer: 20, ..Limits::TLS }).await;
    let mut idle = Vec::new();
    for number in 0..400_u16 {
        let [high, low] = (number / 10).to_be_bytes();
        let mut stream = connect_tls(&server, [127, 2, high, low], "h2").await;
        let _ = stream.write_all(HTTP2).await;
        idle.push(stream);
    }
    is_answered(&server).await;
}

#[tokio::test]
async fn bodies_that_stop_halfway_keep_no_request_waiting() {
    let server = start(Limits { bytes: 4 << 20, ..Limits::TLS }).await;
    let mut halves = Vec::new();
    for number in 0..100 {
        let mut stream = connect_tls(&server, [127, 3, 0, number], "http/1.1").await;
        let head = format!("POST / HTTP/1.1\r\nhost: {SERVER_NAME}\r\ncontent-length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 200_000]).await.unwrap();
        let _ = stream.flush().await;
        halves.push(stream);
    }
    is_answered(&server).await;
}

#[tokio::test]
async fn complete_requests_that_wait_for_an_answer_keep_no_other_waiting() {
    let server = start(Limits { bytes: 2 << 20, ..Limits::TLS }).await;
    let url = format!("https://{SERVER_NAME}:{}/owed", server.address.port());
    let mut flood = JoinSet::new();
    for number in 0..24_u8 {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&server, "h2"))
            .resolve(SERVER_NAME, server.address)
            .local_address(std::net::IpAddr::from([127, 5, 0, 1 + number / 8]))
            .no_proxy()
            .build()
            .unwrap();
        for _ in 0..20 {
            let asked = client.post(&url).body("{}").send();
            flood.spawn(async move { asked.await.map(|response| response.status()) });
        }
    }
    // What is held is full once somebody is asked to come back. Some lose their connection before it is of use.
    loop {
        let ended = timeout(PATIENCE, flood.join_next()).await.unwrap().unwrap().unwrap();
        if ended.is_ok_and(|status| status == StatusCode::SERVICE_UNAVAILABLE) {
            break;
        }
    }
    for _ in 0..5 {
        is_answered(&server).await;
    }
    flood.abort_all();
}

#[tokio::test]
async fn a_client_that_works_keeps_its_connection_while_others_come() {
    let server = start(Limits { connections: 50, per_peer: 10, ..Limits::TLS }).await;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(&server, "h2"))
        .resolve(SERVER_NAME, server.address)
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("https://{SERVER_NAME}:{}/", server.address.port());
    let mut silent = Vec::new();
    for number in 0..30_u8 {
        let local = client.post(&url).body("x").send().await.unwrap();
        assert_eq!(local.text().await.unwrap(), "1");
        for _ in 0..10 {
            silent.push(connect(&server, [127, 4, 0, number]).await);
        }
    }
}

#[tokio::test]
async fn a_body_that_takes_too_long_is_refused() {
    let server = start(Limits { body: Duration::from_millis(100), ..Limits::TLS }).await;
    let mut stream = connect_tls(&server, [127, 0, 0, 1], "http/1.1").await;
    let head = format!("POST / HTTP/1.1\r\nhost: {SERVER_NAME}\r\ncontent-length: 10\r\n\r\nx");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let read = timeout(PATIENCE, stream.read(&mut text)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&text[..read]);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
}

async fn is_closed_in_time(mut stream: TlsStream<TcpStream>) {
    // The end of the stream, with or without a last word.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = start(Limits { head: Duration::from_millis(300), ..Limits::TLS }).await;
    let mut stream = connect_tls(&server, [127, 0, 0, 1], "h2").await;
    stream.write_all(HTTP2).await.unwrap();
    is_closed_in_time(stream).await;
    let mut stream = connect_tls(&server, [127, 0, 0, 1], "http/1.1").await;
    stream.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    is_closed_in_time(stream).await;
    let mut silent = connect(&server, [127, 0, 0, 1]).await;
    let _ = timeout(PATIENCE, silent.read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_has_been_idle_for_too_long_is_closed() {
    let server = start(Limits { idle: Duration::from_millis(200), ..Limits::TLS }).await;
    let mut stream = connect_tls(&server, [127, 0, 0, 1], "http/1.1").await;
    let request = format!("POST / HTTP/1.1\r\nhost: {SERVER_NAME}\r\ncontent-length: 1\r\n\r\nx");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let read = timeout(PATIENCE, stream.read(&mut text)).await.unwrap().unwrap();
    assert!(text[..read].starts_with(b"HTTP/1.1 200 OK"));
    is_closed_in_time(stream).await;
}

#[tokio::test]
async fn a_place_is_free_again_once_its_connection_has_ended() {
    let connections = Connections::new(Limits { connections: 2, per_peer: 2, ..Limits::TLS });
    let peer = IpAddr::from([192, 0, 2, 1]);
    let first = connections.admit(peer).unwrap();
    let second = connections.admit(peer).unwrap();
    let (owed, _) = first.begin(Body::empty(), Kind::Any);
    let (also_owed, _) = second.begin(Body::empty(), Kind::Any);
    assert!(connections.admit(peer).is_none(), "both are owed an answer");
    drop((owed, first));
    assert!(connections.admit(peer).is_some());
    drop((also_owed, second));
    assert_eq!(connections.state().evictions.len(), 0);
}
