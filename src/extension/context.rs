//! What all reconciles of extensions share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;

use super::events::Events;
use super::plan::Known;
use crate::archive::Limits;
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
    /// The shared volume.
    pub store: Arc<LazyStore>,
    /// The one door through which sources are fetched.
    pub fetcher: Fetcher,
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

/// What is remembered of one extension between reconciles. Losing it costs a download, nothing else.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What was fetched last.
    pub known: Option<Known>,
    /// Failures in a row that may pass by themselves.
    pub failures: u32,
}

impl Context {
    /// Memory for the extension with this UID.
    pub fn memory(&self, uid: &str) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned().unwrap_or_default()
    }

    /// Replaces the memory for the extension with this UID.
    pub fn remember(&self, uid: &str, memory: Memory) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), memory);
    }

    /// Forgets a deleted extension.
    pub fn forget(&self, uid: &str) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
