//! The last that was seen of pods which are gone. A pod may vanish right after its end: what its runner left, which is the one
//! proof that a script ended so, or never started, is then at no API any more, and is remembered from the watch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;

/// Pods that are remembered at most: more than end while a leader falls behind. One takes a few KiB.
const PODS: usize = 500;

/// Pods that had ended when they vanished, the newest last.
#[derive(Debug, Default)]
pub struct Gone(Mutex<VecDeque<Arc<Pod>>>);

impl Gone {
    /// Remembers what is told of a pod with the news that it is gone. One that had not ended says nothing.
    pub fn note(&self, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if !matches!(phase, Some("Succeeded" | "Failed")) {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == PODS {
            kept.pop_front();
        }
        kept.push_back(Arc::new(Pod { spec: None, ..pod.clone() }));
    }

    /// The pod with this UID, as it was when it vanished.
    pub fn last_seen(&self, uid: &str) -> Option<Arc<Pod>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().find(|pod| pod.metadata.uid.as_deref() == Some(uid)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture;
    use super::*;

    fn pod(uid: &str, phase: &str) -> Pod {
        serde_json::from_value(fixture::pod(uid, 1, json!({"phase": phase, "message": "last"}))).unwrap()
    }

    #[test]
    fn the_newest_pods_that_had_ended_are_remembered() {
        let gone = Gone::default();
        gone.note(&pod("running", "Running"));
        assert!(gone.last_seen("running").is_none());
        for number in 0..=PODS {
            gone.note(&pod(&number.to_string(), "Failed"));
        }
        assert!(gone.last_seen("0").is_none());
        for number in [1, PODS] {
            let seen = gone.last_seen(&number.to_string()).unwrap();
            assert_eq!(seen.status.as_ref().unwrap().message.as_deref(), Some("last"));
        }
    }
}
