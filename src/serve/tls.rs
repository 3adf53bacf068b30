//! Listeners: accept connections, speak TLS and HTTP/1.1 or HTTP/2, bound what a peer may hold.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Connections that may be open at a time; further ones wait in the kernel.
const CONNECTIONS: usize = 1024;
/// Time for the TLS handshake, and for the head of each request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole request, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests at a time in one HTTP/2 connection.
const STREAMS: u32 = 256;
/// Time that open requests have to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves `router` over TLS until `shutdown` resolves, then lets open requests end.
pub async fn serve_tls(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    serve(listener, Some(TlsAcceptor::from(config)), router, shutdown).await;
}

/// Serves `router` without TLS until `shutdown` resolves, then lets open requests end.
pub async fn serve_plain(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve(listener, None, router, shutdown).await;
}

async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let router = router.layer(from_fn(in_time));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, router, stopped) = (acceptor.clone(), router.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, acceptor, router, stopped).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only spin.
                warn!("connection cannot be accepted: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let drained = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        debug!("connections are closed although requests are open");
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router, stopped: watch::Receiver<()>) {
    // Requests and answers are small: waiting to fill packets would only delay them.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => http(stream, router, stopped).await,
        Some(acceptor) => match timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => http(stream, router, stopped).await,
            Ok(Err(error)) => debug!("TLS handshake failed: {error}"),
            Err(_) => debug!("TLS handshake took too long"),
        },
    }
}

async fn http<S>(stream: S, router: Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("connection ended early: {error}");
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the request took too long; try again\n").into_response(),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
