//! Events about extensions: published in the background and in order, one at a time, so that they delay no reconcile.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, Recorder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Events that may wait. More are lost: where so many wait, the API server does not take them.
const WAITING: u32 = 4096;
/// How long the end of the process waits for those that still wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes events, and publishes them when their turn comes. A lost event is only logged.
pub struct Events {
    sender: mpsc::UnboundedSender<(Event, ObjectReference, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl Events {
    /// Publishes through `recorder`, in a task that ends when this is dropped and nothing waits any more.
    pub fn start(recorder: Recorder) -> Self {
        let (sender, mut waiting) = mpsc::unbounded_channel::<(Event, ObjectReference, OwnedSemaphorePermit)>();
        tokio::spawn(async move {
            while let Some((event, about, _room)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::warn!(extension = about.name, %error, "an event could not be written");
                }
            }
        });
        Self { sender, room: Arc::new(Semaphore::new(WAITING as usize)) }
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

    /// Resolves when nothing waits any more, or after a few seconds.
    pub async fn published(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.room.acquire_many(WAITING)).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use kube::runtime::events::{EventType, Reporter};

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
        Events::start(Recorder::new(api.client(), Reporter { controller: "test".to_owned(), instance: None }))
    }

    fn posted(api: &FakeApi) -> usize {
        api.log().iter().filter(|line| line.starts_with("POST") && line.contains("/events")).count()
    }

    #[tokio::test]
    async fn what_was_published_is_written_before_the_process_ends() {
        let api = FakeApi::default();
        let events = events(&api);
        for name in ["a", "b", "c"] {
            events.publish(event("installed"), about(name));
        }
        assert_eq!(posted(&api), 0, "nobody waits for it");
        events.published().await;
        assert_eq!(posted(&api), 3);
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
}
