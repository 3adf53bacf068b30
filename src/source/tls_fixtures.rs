//! TLS for tests: certificates, a front that speaks it before any server, and a proxy that leads to that front.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Credentials;

/// A name that no resolver knows: it is for a proxy to know.
pub const BEHIND_PROXY: &str = "source.example";

/// A certificate that is its own authority, and its key.
pub struct Pair {
    pub certificate: rcgen::Certificate,
    pub key: rcgen::KeyPair,
}

pub fn pair() -> Pair {
    let names = ["localhost".to_owned(), BEHIND_PROXY.to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    Pair { certificate: cert, key: signing_key }
}

/// TLS with the certificate of `pair`; clients must show that of `client` if there is one.
pub fn acceptor(pair: &Pair, client: Option<&Pair>) -> TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = match client {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(client.certificate.der().clone()).unwrap();
            ServerConfig::builder()
                .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.key.serialize_der()));
    TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![pair.certificate.der().clone()], key).unwrap()))
}

/// Speaks TLS and hands on to `server` what it hears.
pub async fn front(acceptor: TlsAcceptor, server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    address
}

/// A proxy that connects to `target` whomever it is asked for, and notes whom.
pub async fn proxy(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                noted.lock().unwrap().push(head.split(" HTTP/").next().unwrap().to_owned());
                let mut target = TcpStream::connect(target).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut target).await;
            });
        }
    });
    (address, asked)
}

/// A Secret with these entries, for these origins.
pub fn secret(origins: &str, entries: &[(&str, String)]) -> Credentials {
    let data = entries.iter().map(|(key, value)| (key.to_string(), value.clone().into_bytes())).collect();
    Credentials::from_secret("tls", &data, Some(origins)).unwrap()
}
