//! What all reconciles of extensions share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::Semaphore;

use super::backoff;
use super::dereference::Linked;
use super::events::Events;
use super::plan::Known;
use super::postpone::Postponed;
use super::volume::Volume;
use crate::archive::Limits;
use crate::digest::Digest;
use crate::source::Fetcher;
use crate::store::LazyStore;
use crate::telemetry::Metrics;
use crate::validate::ContractLevels;

/// Clients, volume and memory of the extension controller.
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// The operator's own namespace, where Secrets are.
    pub namespace: String,
    /// Whether this process leads at this moment: only then it writes.
    pub may_write: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The shared volume.
    pub store: Arc<LazyStore>,
    /// The work on it that is under way.
    pub volume: Volume,
    /// The one door through which sources are fetched.
    pub fetcher: Fetcher,
    /// Turns at fetching. Looks at what is installed wait for none, so that slow sources do not hold them up. Closed when the
    /// process is told to end.
    pub fetches: Semaphore,
    /// Turns at listing all runs.
    pub listings: Semaphore,
    /// Limits on what is unpacked.
    pub limits: Limits,
    /// Contract levels that the operator serves.
    pub contracts: ContractLevels,
    /// Whether nothing is installed that nobody signed.
    pub require_verification: bool,
    /// Events.
    pub events: Events,
    /// Counters.
    pub metrics: Metrics,
    /// What earlier reconciles learned, by UID.
    pub memory: MemoryMap,
}

/// Memory of all extensions, by UID.
pub type MemoryMap = Mutex<HashMap<String, Memory>>;

/// What is remembered of one extension between reconciles. Losing it costs a download, perhaps an event or a
/// question too early, nothing else.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What was fetched last.
    pub known: Option<Known>,
    /// The manifest behind `manifestURL`, as it was fetched last.
    pub linked: Option<Linked>,
    /// Failures in a row that may pass by themselves.
    pub failures: u32,
    /// The generation at which they were counted.
    pub generation: Option<i64>,
    /// Until when the source's server does not want to be asked.
    pub postponed: Option<Postponed>,
    /// The tree to which the extension's link was led last, or was to be. Status names it a little later.
    pub led: Option<Digest>,
    /// What is wrong with the tree according to the last event about it, unless it was well since.
    pub told: Option<String>,
}

impl Context {
    /// Memory for the extension with this UID.
    pub fn memory(&self, uid: &str) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned().unwrap_or_default()
    }

    /// Changes the memory for the extension with this UID.
    pub fn remember<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.memory.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.to_owned()).or_default())
    }

    /// Forgets a deleted extension.
    pub fn forget(&self, uid: &str) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Counts one more failure of the extension with this UID: how long to wait before the next try.
    pub fn pause(&self, uid: &str) -> Duration {
        let failures = self.remember(uid, |memory| {
            memory.failures = memory.failures.saturating_add(1);
            memory.failures
        });
        backoff::pause(failures, jitter())
    }
}

/// Between 0 and 1. Where the system gives no randomness, no jitter is the best there is.
pub fn jitter() -> f64 {
    getrandom::u32().map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}
