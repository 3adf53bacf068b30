//! Who has a slot, and who waits for one: the queue's memory between two looks. A slot is taken under one lock before the
//! decision is written, so that reconciles at the same time start no more runs than allowed, whatever the caches show yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;

use super::context::{Caches, Context};
use super::decide::phase;
use super::queue::{Active, Limits, Load, Queued, Turns, Waiting, turns};
use super::retry;
use crate::api::ActionRun;

type Reference = ObjectRef<DeserializeGuard<ActionRun>>;

/// What a run that could start is told.
pub(super) enum Turn<'a> {
    /// It has a slot.
    Now(Slot<'a>),
    /// It waits.
    Later(Queued),
}

/// A slot that is given back unless it is kept.
pub(super) struct Slot<'a> {
    context: &'a Context,
    uid: Option<String>,
}

impl Slot<'_> {
    /// The decision is written, or nobody knows: the run has the slot until it has ended.
    pub(super) fn keep(mut self) {
        self.uid = None;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(uid) = self.uid.take() else { return };
        let mut state = self.context.slots.state();
        state.taken.remove(&uid);
        // It comes back by itself. Until then it must not be in the way of the next.
        state.waiting.remove(&uid);
        self.context.wake(&mut state);
    }
}

/// The memory of the queue. Lost with the leader, and rebuilt from the caches.
pub(super) struct Slots {
    state: Mutex<State>,
    wake: UnboundedSender<Reference>,
    woken: Mutex<Option<UnboundedReceiver<Reference>>>,
}

#[derive(Default)]
struct State {
    /// Runs that count, and since when, by UID.
    taken: HashMap<String, (Active, Timestamp)>,
    /// Runs that could start, by UID.
    waiting: HashMap<String, (Waiting, Reference)>,
    /// When a place was last written, by UID.
    told: HashMap<String, Instant>,
    /// The runs that waited under the last leader are known.
    is_rebuilt: bool,
}

impl Default for Slots {
    fn default() -> Self {
        let (wake, woken) = unbounded();
        Self { state: Mutex::default(), wake, woken: Mutex::new(Some(woken)) }
    }
}

impl Slots {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs whose turn it has become. There is one such stream.
    pub(super) fn woken(&self) -> Option<UnboundedReceiver<Reference>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How many runs wait.
    pub(super) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// A run's place was written.
    pub(super) fn told(&self, uid: &str) {
        self.state().told.insert(uid.to_owned(), Instant::now());
    }
}

impl Context {
    /// Asks for a run that could start whether it is its turn; if so, it has a slot.
    pub(super) fn turn(&self, run: &ActionRun) -> Turn<'_> {
        let uid = run.metadata.uid.clone().unwrap_or_default();
        let mut state = self.slots.state();
        if state.taken.contains_key(&uid) {
            // Decided, and the cache does not show it yet: not this look's to give back.
            return Turn::Now(Slot { context: self, uid: None });
        }
        let extension = &run.spec.extension_ref.name;
        if self.most_runs_of(extension).is_some() || self.settings.max_concurrent_runs.is_some() {
            state.waiting.insert(uid.clone(), (waiting(run), reference(run)));
            if let Some(place) = self.look(&mut state, Some(&uid)).later.remove(&uid) {
                let since = state.told.get(&uid).map(Instant::elapsed);
                let stands_for = since.map_or(Duration::ZERO, |since| place.pause().saturating_sub(since));
                return Turn::Later(Queued { place, stands_for });
            }
        }
        state.waiting.remove(&uid);
        state.told.remove(&uid);
        state.taken.insert(uid.clone(), (active(run), Timestamp::now()));
        Turn::Now(Slot { context: self, uid: Some(uid) })
    }

    /// The run does not wait for a slot, or no longer; one that has ended, or pauses before it repeats an attempt, has none
    /// either. The next are woken.
    pub(super) fn left(&self, run: &ActionRun) {
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        let mut state = self.slots.state();
        state.told.remove(uid);
        let was_waiting = state.waiting.remove(uid).is_some();
        // What became of a decision may not be known: only an end, the run's or the attempt's, frees its slot.
        let is_over = phase(run).is_finished() || state.taken.get(uid).is_some_and(|(_, at)| is_paused_since(run, *at));
        let was_active = is_over && state.taken.remove(uid).is_some();
        if was_waiting || was_active {
            self.wake(&mut state);
        }
    }

    /// How many runs have a slot, as the caches show it now.
    pub(super) fn active(&self) -> usize {
        let mut state = self.slots.state();
        self.look(&mut state, None);
        state.taken.len()
    }

    /// Wakes the runs whose turn it has become, if any wait.
    pub(super) fn wake_next(&self) {
        let mut state = self.slots.state();
        self.wake(&mut state);
    }

    /// Forgets runs that are gone, and wakes those whose turn it is.
    pub(super) fn look_again(&self) {
        let mut state = self.slots.state();
        self.look(&mut state, None);
    }

    fn wake(&self, state: &mut State) {
        if !state.waiting.is_empty() {
            self.look(state, None);
        }
    }

    fn most_runs_of(&self, extension: &str) -> Option<u32> {
        let guard = self.caches.extensions.get(&ObjectRef::new(extension))?;
        guard.0.as_ref().ok()?.spec.runtime.as_ref()?.max_concurrent_runs
    }

    /// Brings the memory up to what the caches show, and says whose turn it is. Those are woken, but for the run that asks:
    /// whoever sees first that a slot is free is the only one to see it.
    fn look(&self, state: &mut State, asks: Option<&str>) -> Turns {
        let last_starts = state.follow(&self.caches);
        let load = Load { active: state.taken.values().map(|(active, _)| active.clone()).collect(), last_starts };
        let waiting: Vec<Waiting> = state.waiting.values().map(|(waiting, _)| waiting.clone()).collect();
        let limit = |run: &Waiting| Some((run.extension.clone(), self.most_runs_of(&run.extension)?));
        let extensions = waiting.iter().filter_map(limit).collect();
        let turns = turns(&waiting, &load, &Limits { operator: self.settings.max_concurrent_runs, extensions });
        let others = turns.now.iter().filter(|uid| Some(uid.as_str()) != asks);
        for (_, run) in others.filter_map(|uid| state.waiting.get(uid)) {
            // Without a controller there is nobody to be woken.
            let _ = self.slots.wake.unbounded_send(run.clone());
        }
        turns
    }
}

impl State {
    /// Takes from the caches what they know better: which runs there are, which were decided, which have ended. Returns
    /// when each namespace last started a run.
    fn follow(&mut self, caches: &Caches) -> BTreeMap<String, Timestamp> {
        let guards = caches.runs.state();
        let runs = guards.iter().filter_map(|guard| guard.0.as_ref().ok());
        let mut unfinished = HashMap::new();
        let mut last_starts: BTreeMap<String, Timestamp> = BTreeMap::new();
        let mut started = |namespace: &str, at: Timestamp| {
            if let Some(last) = last_starts.get_mut(namespace) {
                *last = at.max(*last);
            } else {
                last_starts.insert(namespace.to_owned(), at);
            }
        };
        for run in runs {
            let decided = run
                .status
                .iter()
                .flat_map(|status| &status.attempts)
                .map(|attempt| attempt.decided_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0));
            let decided = decided.max();
            if let Some(at) = decided {
                started(run.metadata.namespace.as_deref().unwrap_or_default(), at);
            }
            if !phase(run).is_finished() {
                let active_since = decided.filter(|_| retry::paused(run).is_none());
                unfinished.insert(run.metadata.uid.as_deref().unwrap_or_default(), (run, active_since));
            }
        }
        let is_active = |uid: &str, at| unfinished.get(uid).is_some_and(|(run, _)| !is_paused_since(run, at));
        self.taken.retain(|uid, (_, at)| is_active(uid, *at));
        self.told.retain(|uid, _| unfinished.contains_key(uid.as_str()));
        for (uid, (run, active_since)) in &unfinished {
            let waited = run.status.as_ref().is_some_and(|status| status.queue_position.is_some());
            if let Some(at) = active_since {
                self.taken.entry((*uid).to_owned()).or_insert_with(|| (active(run), *at));
            } else if waited && !self.is_rebuilt {
                self.waiting.entry((*uid).to_owned()).or_insert_with(|| (waiting(run), reference(run)));
            }
        }
        self.is_rebuilt = true;
        let taken = &self.taken;
        self.waiting.retain(|uid, _| unfinished.contains_key(uid.as_str()) && !taken.contains_key(uid));
        self.taken.values().for_each(|(active, at)| started(&active.namespace, *at));
        last_starts
    }
}

/// Whether the attempt that took a slot at `at` is over, and the next one is not decided. A cache may still show the pause
/// before an attempt that has just been decided.
fn is_paused_since(run: &ActionRun, at: Timestamp) -> bool {
    retry::paused(run).and_then(|attempt| attempt.ended_at.as_ref()).is_some_and(|ended| ended.0 >= at)
}

fn active(run: &ActionRun) -> Active {
    Active { namespace: run.namespace().unwrap_or_default(), extension: run.spec.extension_ref.name.clone() }
}

fn waiting(run: &ActionRun) -> Waiting {
    Waiting {
        uid: run.metadata.uid.clone().unwrap_or_default(),
        namespace: run.namespace().unwrap_or_default(),
        extension: run.spec.extension_ref.name.clone(),
        created: run.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    }
}

fn reference(run: &ActionRun) -> Reference {
    ObjectRef::new(&run.name_any()).within(&run.namespace().unwrap_or_default())
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
