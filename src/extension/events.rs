//! Events about extensions: published in the background and in order, at a bounded rate, so that they delay no reconcile.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

/// Events that may wait. More are lost: where so many wait, the API server does not take them.
const WAITING: u32 = 4096;
/// How long the end of the process waits for those that still wait.
const PATIENCE: Duration = Duration::from_secs(3);
/// Events that are published at once.
const BURST: u32 = 30;
/// Pause between two events after a burst. What a thousand installs have to say may be late, their status may not: both
/// cost the API server about the same.
const PAUSE: Duration = Duration::from_millis(100);

/// Lets a burst through, and then one each [`PAUSE`] (the "generic cell rate algorithm").
struct Pace {
    /// When all that was let through would have come, had each come a pause after the one before.
    due: Instant,
}

impl Pace {
    /// How long one more has to wait that comes now.
    fn wait(&mut self, now: Instant) -> Duration {
        let due = self.due.max(now);
        self.due = due + PAUSE;
        due.duration_since(now).saturating_sub(PAUSE * (BURST - 1))
    }
}

/// Takes events, and publishes them when their turn comes. A lost event is only logged.
pub struct Events {
    sender: mpsc::UnboundedSender<(Event, ObjectReference, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    is_ending: watch::Sender<bool>,
}

impl Events {
    /// Publishes through `client`, in a task that ends when this is dropped and nothing waits any more.
    pub fn start(client: Client, reporter: Reporter) -> Self {
        let (sender, mut waiting) = mpsc::unbounded_channel::<(Event, ObjectReference, OwnedSemaphorePermit)>();
        let (is_ending, mut ending) = watch::channel(false);
        tokio::spawn(async move {
            let mut pace = Pace { due: Instant::now() };
            while let Some((event, about, _room)) = waiting.recv().await {
                let _ = tokio::time::timeout(pace.wait(Instant::now()), ending.wait_for(|is_ending| *is_ending)).await;
                // Each through a recorder of its own: one would count an event of the same reason as a repetition of the
                // one before, and keep the note of that, which names another revision.
                let recorder = Recorder::new(client.clone(), reporter.clone());
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::warn!(extension = about.name, %error, "an event could not be written");
                }
            }
        });
        Self { sender, room: Arc::new(Semaphore::new(WAITING as usize)), is_ending }
    }

    /// Publishes `event` about `about` after those that wait already.
    pub fn publish(&self, event: Event, about: ObjectReference) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            tracing::warn!(extension = about.name, "an event could not be written: {WAITING} others wait");
            return;
        };
        // The task that receives lives as long as this sender.
        let _ = self.sender.send((event, about, room));
    }

    /// Publishes without pause what still waits; resolves when nothing does, or after a few seconds.
    pub async fn published(&self) {
        self.is_ending.send_replace(true);
        let _ = tokio::time::timeout(PATIENCE, self.room.acquire_many(WAITING)).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use kube::runtime::events::EventType;

    use super::*;
    use crate::fake_api::FakeApi;

    fn event(note: &str) -> Event {
        let (reason, action) = ("Installed".to_owned(), "Reconcile".to_owned());
        Event { type_: EventType::Normal, reason, note: Some(note.to_owned()), action, secondary: None }
    }

    fn about(name: &str) -> ObjectReference {
        ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() }
    }

    fn events(api: &FakeApi) -> Events {
        Events::start(api.client(), Reporter { controller: "test".to_owned(), instance: None })
    }

    fn posted(api: &FakeApi) -> usize {
        api.log().iter().filter(|line| line.starts_with("POST") && line.contains("/events")).count()
    }

    #[tokio::test]
    async fn what_was_published_is_written_before_the_process_ends() {
        let api = FakeApi::default();
        let events = events(&api);
        for number in 0..2 * BURST {
            events.publish(event("installed"), about(&number.to_string()));
        }
        assert_eq!(posted(&api), 0, "nobody waits for it");
        events.published().await;
        assert_eq!(posted(&api), 2 * BURST as usize);
    }

    #[test]
    fn a_burst_is_published_at_once_and_what_follows_at_a_bounded_rate() {
        let start = Instant::now();
        let mut pace = Pace { due: start };
        let waits: Vec<_> = (0..BURST + 2).map(|_| pace.wait(start)).collect();
        assert!(waits[..BURST as usize].iter().all(Duration::is_zero));
        assert_eq!(waits[BURST as usize..], [PAUSE, 2 * PAUSE]);
        let rested = start + PAUSE * 2 * BURST;
        assert!((0..BURST).all(|_| pace.wait(rested).is_zero()), "a pause earns another burst");
    }

    #[tokio::test]
    async fn an_event_that_is_refused_holds_up_no_other() {
        let api = FakeApi::default();
        let mut first = true;
        api.before(move |_, method, _| {
            (*method == Method::POST && std::mem::take(&mut first)).then_some(StatusCode::FORBIDDEN)
        });
        let events = events(&api);
        events.publish(event("refused"), about("a"));
        events.publish(event("written"), about("b"));
        events.published().await;
        assert_eq!(posted(&api), 2);
    }

    #[tokio::test]
    async fn each_revision_has_an_event_of_its_own() {
        let api = FakeApi::default();
        let events = events(&api);
        for revision in ["installed revision main@1", "installed revision main@2"] {
            events.publish(event(revision), about("a"));
        }
        events.published().await;
        assert_eq!((posted(&api), api.log().len()), (2, 2), "none is a repetition: {:?}", api.log());
    }
}
