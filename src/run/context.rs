//! What controller and handlers share: client, keys, caches, and what is remembered between two looks at a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::watch;

use super::caches::{CACHE_LAG, Caches};
use super::decide::phase;
use super::entrypoint::Entrypoints;
use super::job::Operator;
use super::request::Policy;
use super::slots::Slots;
use super::tries::Pauses;
use super::view;
use crate::api::{
    ActionRun, ExtensionTarget, GROUP, MANAGER, OrchestratorExtension, Phase, RUN_UID_LABEL, Reason, VERSION,
};
use crate::digest::Digest;
use crate::protocol::{ClaimGrant, Ending, Outcome, Token};
use crate::serve::certificates::Trust;
use crate::serve::keys::Keys;
use crate::telemetry::Metrics;

/// What the run controller reads from the store.
pub trait Trees: Send + Sync {
    /// Digest of a file's bytes in an installed tree; `path` is relative to the tree.
    ///
    /// # Errors
    /// For people: the tree or the file is not there, or cannot be read.
    fn entrypoint_digest(&self, tree: &Digest, path: &str) -> Result<Digest, String>;

    /// The tree's directory, relative to the volume: what a Job mounts.
    fn subpath(&self, tree: &Digest) -> String;

    /// The effective manifest with this digest, as JSON.
    ///
    /// # Errors
    /// For people: it is not kept, or cannot be read.
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        Err(format!("manifest {digest} is not kept"))
    }
}

/// What the operator's settings say about runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What every Job has in common; [`Context::operator`] fills in the CA.
    pub operator: Operator,
    /// The CA that new Jobs pin.
    pub trust: watch::Receiver<Trust>,
    /// Timeouts and contract levels.
    pub policy: Policy,
    /// Start runs that carry no stamp of the operator's admission: anybody who may create a run then acts as anybody.
    pub insecure_without_admission: bool,
    /// Most reconciles at a time.
    pub concurrency: u16,
    /// Most runs at a time, from the decision to start one until it has ended. `None`: as many as there are.
    pub max_concurrent_runs: Option<u32>,
    /// The same for each namespace.
    pub max_concurrent_runs_per_namespace: Option<u32>,
    /// Finished runs with generated names that are kept per namespace and extension, where the extension says nothing.
    /// `None`: all.
    pub run_history_limit: Option<u32>,
    /// Seconds after its end that the Secret with what a run answered secretly is kept. `None`: as long as the run.
    pub secret_result_seconds: Option<u64>,
    /// Most bytes of each stream that are kept of an attempt; 0: none.
    pub output_bytes: u64,
    /// Learn outcomes from termination messages alone, for measurements.
    pub skip_report: bool,
}

/// What controller and handlers share. Only the leader uses it.
pub struct Context {
    /// API client.
    pub client: Client,
    /// Settings.
    pub settings: Settings,
    /// The operator's keys.
    pub keys: Keys,
    /// The store.
    pub trees: Arc<dyn Trees>,
    /// Caches.
    pub caches: Caches,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    pub(super) slots: Slots,
    pub(super) entrypoints: Entrypoints,
    leading_since: OnceLock<Timestamp>,
    recorder: Recorder,
    memory: Mutex<Memory>,
}

/// Lost with the leader, and never needed for safety: it only saves writes and time.
#[derive(Default)]
pub(super) struct Memory {
    /// When a Job was created, by name.
    created_jobs: HashMap<String, Instant>,
    /// Since when a stop is known, by run UID.
    stop_since: HashMap<String, Timestamp>,
    /// When tails were last written, by run UID.
    tails_written: HashMap<String, Instant>,
    /// The answer to a claim, by run UID: a lost answer is given again, word for word.
    pub(super) grants: HashMap<String, (String, ClaimGrant)>,
    /// Since when the report of a runner is held back that was told to end, by run UID.
    held: HashMap<String, Instant>,
    /// Runs that could not be deleted when their time was over.
    pub(super) uncollected: Pauses,
    /// Runs whose secret result could not be deleted when its time was over.
    pub(super) unexpired: Pauses,
    /// Failed reconciles in a row, by run.
    failures: HashMap<ObjectRef<DeserializeGuard<ActionRun>>, u32>,
}

impl Context {
    /// A context around caches.
    pub fn new(
        client: Client,
        settings: Settings,
        keys: Keys,
        trees: Arc<dyn Trees>,
        caches: Caches,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let recorder = Recorder::new(client.clone(), Reporter { controller: MANAGER.into(), instance: None });
        Arc::new(Self {
            client,
            settings,
            keys,
            trees,
            caches,
            metrics,
            slots: Slots::default(),
            entrypoints: Entrypoints::default(),
            leading_since: OnceLock::new(),
            recorder,
            memory: Mutex::default(),
        })
    }

    /// What every Job has in common now.
    pub fn operator(&self) -> Operator {
        Operator { ca_pem: self.settings.trust.borrow().pinned.clone(), ..self.settings.operator.clone() }
    }

    /// The runner's token of an attempt.
    pub fn token(&self, run_uid: &str, attempt: u32) -> Token {
        Token::derive(&self.keys.token_key, run_uid, attempt)
    }

    /// The cached extension of a run.
    pub fn extension(&self, run: &ActionRun) -> Option<OrchestratorExtension> {
        let key = ObjectRef::new(&run.spec.extension_ref.name);
        self.caches.extensions.get(&key).and_then(|guard| guard.0.as_ref().ok().cloned())
    }

    /// The cached target of a run.
    pub fn target(&self, run: &ActionRun) -> Option<ExtensionTarget> {
        let key = ObjectRef::new(&run.spec.target_ref.as_ref()?.name);
        self.caches.targets.get(&key).and_then(|guard| guard.0.as_ref().ok().cloned())
    }

    /// The cached run with this UID.
    pub fn run(&self, uid: &str) -> Option<ActionRun> {
        let is_it = |guard: &DeserializeGuard<ActionRun>| guard.meta().uid.as_deref() == Some(uid);
        self.caches.runs.find(is_it).and_then(|guard| guard.0.as_ref().ok().cloned())
    }

    /// Whether the cache holds a run with this UID, be it one that cannot be read.
    pub(super) fn is_cached(&self, uid: &str) -> bool {
        self.caches.runs.find(|guard| guard.meta().uid.as_deref() == Some(uid)).is_some()
    }

    /// The cached Jobs of a run.
    pub fn jobs(&self, run_uid: &str) -> Vec<Arc<Job>> {
        self.caches.jobs.state_filter(|job| job.labels().get(RUN_UID_LABEL).is_some_and(|uid| uid == run_uid))
    }

    /// The cached pods of a run.
    pub fn pods(&self, run_uid: &str) -> Vec<Arc<Pod>> {
        self.caches.pods.state_filter(|pod| pod.labels().get(RUN_UID_LABEL).is_some_and(|uid| uid == run_uid))
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a Job that the cache cannot show yet.
    pub(super) fn job_created(&self, name: &str) {
        let mut memory = self.memory();
        memory.created_jobs.retain(|_, at| at.elapsed() < CACHE_LAG);
        memory.created_jobs.insert(name.to_owned(), Instant::now());
    }

    /// Whether this Job was created a moment ago.
    pub(super) fn was_just_created(&self, name: &str) -> bool {
        self.memory().created_jobs.get(name).is_some_and(|at| at.elapsed() < CACHE_LAG)
    }

    /// As a new leader knows nothing of it.
    #[cfg(test)]
    pub(super) fn forget_created(&self, job: &str) {
        self.memory().created_jobs.remove(job);
    }

    /// Since when runners are heard: reports are taken once the caches are filled, and so is the first decision.
    pub(super) fn leading_since(&self, now: Timestamp) -> Timestamp {
        *self.leading_since.get_or_init(|| now)
    }

    /// Since when it is known that a run is to stop.
    pub(super) fn stop_since(&self, run: &ActionRun, now: Timestamp) -> Option<Timestamp> {
        let uid = run.metadata.uid.clone().unwrap_or_default();
        let deleted = run.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let is_cancelled = run.spec.cancel == Some(true) && !phase(run).is_finished();
        let seen = is_cancelled.then(|| *self.memory().stop_since.entry(uid).or_insert(now));
        match (deleted, seen) {
            (Some(deleted), Some(seen)) => Some(deleted.min(seen)),
            (deleted, seen) => deleted.or(seen),
        }
    }

    /// What kubelet says of the claimed pod, if it evicted it.
    pub(super) fn eviction(&self, run: &ActionRun) -> Option<String> {
        let pod = self.claimed_pod(run)?;
        let seen = view::pod(&pod, &self.token(run.metadata.uid.as_deref().unwrap_or_default(), 0));
        seen.evicted.then(|| seen.trouble.unwrap_or_else(|| "the pod was evicted".into()))
    }

    /// Whether kubelet ends the claimed pod by itself, and has not said why: it says so only when the containers have ended.
    /// Nor does it where its node shuts down, and then nothing else may be heard of the script.
    pub(super) fn may_be_evicted(&self, run: &ActionRun, outcome: &Outcome) -> bool {
        let is_alive = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        let is_ended = outcome.ending == Ending::PodDeleted && phase(run) == Phase::Running;
        is_ended && self.claimed_pod(run).is_some_and(|pod| is_alive(&pod)) && self.eviction(run).is_none()
    }

    /// Holds a report back from now on whose pod [may be evicted](Self::may_be_evicted). Returns whether none of the run's was
    /// held before.
    pub(super) fn hold(&self, run_uid: &str) -> bool {
        let mut memory = self.memory();
        let is_first = !memory.held.contains_key(run_uid);
        memory.held.entry(run_uid.to_owned()).or_insert_with(Instant::now);
        is_first
    }

    /// Whether a report of the run is held back, and has not been for long enough: where a disk is full kubelet gives a pod a
    /// second, takes another to see its end, and on a busy node many to write it.
    pub(super) fn is_held(&self, run_uid: &str) -> bool {
        const PATIENCE: Duration = Duration::from_secs(30);
        self.memory().held.get(run_uid).is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// As if the time were over for which a report of the run is held back.
    #[cfg(test)]
    pub(super) fn lose_patience(&self, run_uid: &str) {
        if let Some(since) = self.memory().held.get_mut(run_uid) {
            *since = since.checked_sub(Duration::from_secs(3600)).unwrap_or(*since);
        }
    }

    fn claimed_pod(&self, run: &ActionRun) -> Option<Arc<Pod>> {
        let claimed = run.status.as_ref()?.attempts.last()?.pod_uid.as_deref()?;
        self.caches.pods.find(|pod| pod.metadata.uid.as_deref() == Some(claimed))
    }

    /// Whether tails may be written again: at most every two seconds per run.
    pub(super) fn may_write_tails(&self, run_uid: &str) -> bool {
        const PAUSE: Duration = Duration::from_secs(2);
        let mut memory = self.memory();
        let is_due = memory.tails_written.get(run_uid).is_none_or(|at| at.elapsed() >= PAUSE);
        if is_due {
            memory.tails_written.insert(run_uid.to_owned(), Instant::now());
        }
        is_due
    }

    /// Forgets a run that has ended.
    pub(super) fn forget(&self, run_uid: &str) {
        let mut memory = self.memory();
        memory.grants.remove(run_uid);
        memory.stop_since.remove(run_uid);
        memory.tails_written.remove(run_uid);
        memory.held.remove(run_uid);
    }

    /// Forgets the runs that are gone: one that was removed by force ends in no other way. The caches must be filled.
    pub(super) fn forget_gone(&self) {
        let runs = self.caches.runs.state();
        let uids: BTreeSet<&str> = runs.iter().filter_map(|run| run.meta().uid.as_deref()).collect();
        let mut memory = self.memory();
        memory.grants.retain(|uid, _| uids.contains(uid.as_str()));
        memory.stop_since.retain(|uid, _| uids.contains(uid.as_str()));
        memory.tails_written.retain(|uid, _| uids.contains(uid.as_str()));
        memory.held.retain(|uid, _| uids.contains(uid.as_str()));
        memory.uncollected.retain(|uid| uids.contains(uid));
        memory.unexpired.retain(|uid| uids.contains(uid));
        memory.failures.retain(|run, _| self.caches.runs.get(run).is_some());
        drop(memory);
        self.look_again();
    }

    pub(super) fn failed(&self, run: &ObjectRef<DeserializeGuard<ActionRun>>) -> u32 {
        let mut memory = self.memory();
        let failures = memory.failures.entry(run.clone()).or_insert(0);
        *failures += 1;
        *failures
    }

    pub(super) fn succeeded(&self, run: &ObjectRef<DeserializeGuard<ActionRun>>) {
        self.memory().failures.remove(run);
    }

    /// Publishes an event about a run in the background: it must not delay an answer. A lost event is only logged.
    pub(super) fn publish(&self, run: &ActionRun, action: &'static str, reason: Reason, note: &str) {
        let bad = !matches!(reason, Reason::Succeeded | Reason::Running | Reason::Canceled);
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.to_string(),
            note: Some(crate::api::conditions::truncated(note.to_owned(), 1000)),
            action: action.into(),
            secondary: None,
        };
        let (recorder, reference) = (self.recorder.clone(), run.object_ref(&()));
        tokio::spawn(async move {
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::warn!(%error, "event was not published");
            }
        });
    }
}

/// What an `ActionRun` is called in requests: `<group>/<version>`.
pub(super) fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

/// Entries of a Secret as text. Values that are no UTF-8 cannot stand in a JSON payload.
pub(super) fn texts(secret: k8s_openapi::api::core::v1::Secret) -> Result<BTreeMap<String, String>, String> {
    let name = secret.name_any();
    let entries = secret.data.unwrap_or_default().into_iter();
    entries
        .map(|(key, value)| match String::from_utf8(value.0) {
            Ok(text) => Ok((key, text)),
            Err(_) => Err(format!("entry {key:?} of Secret {name:?} is not UTF-8 text")),
        })
        .collect()
}
