//! How the controller's process is told to end, and when its listeners close.

use std::time::Duration;

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

    /// Resolves when webhooks are no longer answered.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        reached(self.closing.clone())
    }
}

async fn reached(mut moment: watch::Receiver<bool>) {
    let _ = moment.wait_for(|reached| *reached).await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
    async fn a_second_signal_or_an_interrupt_ends_it_at_once() {
        told(&[LONG, LONG]).await.closing().await;
        told(&[Duration::ZERO]).await.closing().await;
    }
}
