//! How the controller's process is told to end, and when its listeners close.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// How long webhooks are answered after SIGTERM where a Service is in front: until every node knows that it has an
/// endpoint fewer, the API server goes on calling this one, and refuses what it got no answer for.
pub const LAST_CALLS: Duration = Duration::from_secs(10);

/// The two moments of an end. Clones see the same ones.
#[derive(Clone, Debug)]
pub struct Shutdown {
    told: watch::Receiver<bool>,
    closing: watch::Receiver<bool>,
}

impl Shutdown {
    /// Listens to SIGTERM, after which webhooks are answered for `last_calls`, and to SIGINT, after which they are not. A
    /// second signal cuts that short.
    ///
    /// # Errors
    /// Where the system lets nobody listen to signals.
    pub fn at_signals(last_calls: Duration) -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (send, signals) = mpsc::channel(2);
        tokio::spawn(async move {
            loop {
                let last_calls = tokio::select! {
                    _ = terminate.recv() => last_calls,
                    _ = interrupt.recv() => Duration::ZERO,
                };
                if send.send(last_calls).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self::at(signals))
    }

    /// Each signal says how long webhooks are answered after it.
    fn at(mut signals: mpsc::Receiver<Duration>) -> Self {
        let (tell, told) = watch::channel(false);
        let (close, closing) = watch::channel(false);
        tokio::spawn(async move {
            let Some(last_calls) = signals.recv().await else { return std::future::pending().await };
            tracing::info!("told to end; webhooks are answered for {} s more", last_calls.as_secs());
            tell.send_replace(true);
            tokio::select! { () = tokio::time::sleep(last_calls) => {} Some(_) = signals.recv() => {} }
            close.send_replace(true);
        });
        Self { told, closing }
    }

    /// Resolves when the process is told to end: what writes comes to its end, and the Lease is let go.
    pub fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        reached(self.told.clone())
    }

    /// `routes`, of which each answer is the last on its connection once the process was told to end. A client that kept the
    /// connection would send another request just when it is closed, and the API server repeats none.
    pub fn last_answers(&self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self.clone(), answer))
    }

    /// Resolves when webhooks are no longer answered.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        reached(self.closing.clone())
    }
}

async fn answer(State(shutdown): State<Shutdown>, request: Request, next: Next) -> Response {
    // HTTP/2 has a goodbye of its own
    let is_kept = request.version() == Version::HTTP_11;
    let mut response = next.run(request).await;
    if is_kept && *shutdown.told.borrow() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn reached(mut moment: watch::Receiver<bool>) {
    let _ = moment.wait_for(|reached| *reached).await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(86_400);

    /// Sends signals as if each said how long webhooks are answered after it; waits until the process is told to end.
    async fn told(signals: &[Duration]) -> Shutdown {
        let (send, receive) = mpsc::channel(2);
        let shutdown = Shutdown::at(receive);
        assert!(!*shutdown.told.borrow() && !*shutdown.closing.borrow(), "nobody has told it");
        for signal in signals {
            send.send(*signal).await.unwrap();
        }
        shutdown.told().await;
        shutdown
    }

    #[tokio::test]
    async fn webhooks_are_answered_for_a_while_after_the_process_was_told_to_end() {
        assert!(!*told(&[LONG]).await.closing.borrow());
        let (started, pause) = (Instant::now(), Duration::from_millis(30));
        told(&[pause]).await.closing().await;
        assert!(started.elapsed() >= pause);
    }

    #[tokio::test]
    async fn each_answer_after_the_process_was_told_to_end_is_the_last_on_its_connection() {
        async fn answered(shutdown: &Shutdown, version: Version) -> Response {
            let routes = shutdown.last_answers(Router::new().fallback(|| async {}));
            let request = Request::builder().version(version).body(Body::empty()).unwrap();
            routes.oneshot(request).await.unwrap()
        }
        let (_send, receive) = mpsc::channel(2);
        let untold = Shutdown::at(receive);
        assert_eq!(answered(&untold, Version::HTTP_11).await.headers().get(CONNECTION), None);
        let told = told(&[LONG]).await;
        assert_eq!(answered(&told, Version::HTTP_11).await.headers()[CONNECTION], "close");
        assert_eq!(answered(&told, Version::HTTP_2).await.headers().get(CONNECTION), None);
    }

    #[tokio::test]
    async fn a_second_signal_or_an_interrupt_ends_it_at_once() {
        told(&[LONG, LONG]).await.closing().await;
        told(&[Duration::ZERO]).await.closing().await;
    }
}
