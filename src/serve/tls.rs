//! Listeners: accept connections, speak TLS and HTTP/1.1 or HTTP/2, bound what a peer may hold.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

pub use super::connections::Limits;
use super::connections::{Connection, Connections, HEAD_BYTES, Kind};

/// Requests at a time in one HTTP/2 connection.
const STREAMS: u32 = 128;
/// What a peer may send ahead of what is read, in bytes, of one request and of one connection.
const WINDOWS: (u32, u32) = (64 << 10, 256 << 10);
/// What is buffered of an HTTP/1.1 connection, in bytes: no head is larger.
const BUFFER_BYTES: usize = 64 << 10;
/// Time that open requests have to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Time that a connection has to take its leave, once it has been idle for too long.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves `router` over TLS until `shutdown` resolves, then lets open requests end.
pub async fn serve_tls(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    serve(listener, Some(TlsAcceptor::from(config)), router, limits, shutdown).await;
}

/// Serves `router` without TLS until `shutdown` resolves, then lets open requests end.
pub async fn serve_plain(listener: TcpListener, router: Router, limits: Limits, shutdown: impl Future<Output = ()>) {
    serve(listener, None, router, limits, shutdown).await;
}

async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Connections::new(limits);
    let (stop, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.admit(peer.ip()) {
                Some(connection) => {
                    let (acceptor, router, stopped) = (acceptor.clone(), router.clone(), stopped.clone());
                    tasks.spawn(async move {
                        tokio::select! {
                            () = serve_connection(stream, acceptor, router, &connection, stopped) => {}
                            () = connection.evicted() => debug!(%peer, "connection is closed: others need its place"),
                        }
                    });
                }
                None => debug!(%peer, "connection is refused: all others wait for an answer"),
            },
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only spin.
                warn!("connection cannot be accepted: {error}");
                connections.make_room();
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let drained = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        debug!("connections are closed although requests are open");
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    connection: &Arc<Connection>,
    stopped: watch::Receiver<()>,
) {
    // Requests and answers are small: waiting to fill packets would only delay them.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => http(stream, router, connection, stopped).await,
        Some(acceptor) => match timeout(connection.limits().head, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => http(stream, router, connection, stopped).await,
            Ok(Err(error)) => debug!("TLS handshake failed: {error}"),
            Err(_) => debug!("TLS handshake took too long"),
        },
    }
}

async fn http<S>(stream: S, router: Router, connection: &Arc<Connection>, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = connection.limits();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(limits.head);
    let service = service_fn(|request: Request<Incoming>| answer(router.clone(), connection.clone(), request));
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = stopped.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        () = connection.idle() => {
            served.as_mut().graceful_shutdown();
            timeout(GOODBYE, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!("connection ended early: {error}");
    }
}

async fn answer(
    router: Router,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(connection.peer());
    let (exchange, body) = connection.begin(Body::new(body), Kind::of(parts.uri.path()));
    let answer = router.oneshot(Request::from_parts(parts, body));
    let answered = tokio::select! {
        biased;
        () = exchange.gives_way() => {
            let busy = "too much is held of requests from your address; try again\n";
            return Ok((StatusCode::SERVICE_UNAVAILABLE, busy).into_response());
        }
        answered = timeout(connection.limits().request, answer) => answered,
    };
    let response = match answered {
        Ok(Ok(response)) if !exchange.is_late() => response,
        Ok(Ok(_)) => (StatusCode::REQUEST_TIMEOUT, "the request's body took too long; try again\n").into_response(),
        Ok(Err(never)) => match never {},
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the request took too long; try again\n").into_response(),
    };
    Ok(response)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
