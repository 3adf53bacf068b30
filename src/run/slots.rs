//! Who has a slot, and who waits for one: the queue's memory between two looks. A slot is taken under one lock before the
//! decision is written, so that reconciles at the same time start no more runs than allowed, whatever the caches show yet.
//!
//! A look goes through all runs, so its answer is remembered: whoever asks again is told the same until something has
//! changed, and whatever changes within a moment is one look's. Nobody is woken twice before it has asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

use super::caches::{CACHE_LAG, Caches};
use super::context::Context;
use super::decide::phase;
use super::queue::{Active, Limit, Limits, Load, Place, Queued, Waiting, turns};
use super::retry;
use crate::api::ActionRun;

type Reference = ObjectRef<DeserializeGuard<ActionRun>>;

/// What a run that could start is told.
pub(super) enum Turn<'a> {
    /// It has a slot.
    Now(Slot<'a>),
    /// It waits.
    Later(Queued),
    /// It is to ask again after this time: others have just been told theirs.
    Soon(Duration),
}

/// The shortest time between two looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// After so many of these times nobody is told any more what the last look said, though nothing is known to have changed.
const REMEMBERED: u32 = 20;

/// A slot that is given back unless it is kept.
pub(super) struct Slot<'a> {
    context: &'a Context,
    uid: Option<String>,
}

impl Slot<'_> {
    /// The decision is written, or nobody knows: the run has the slot until it has ended, or the cache shows that it was
    /// not decided.
    pub(super) fn keep(mut self) {
        let Some(uid) = self.uid.take() else { return };
        if let Some(taken) = self.context.slots.state().taken.get_mut(&uid) {
            taken.kept = Some(Instant::now());
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(uid) = self.uid.take() else { return };
        let mut state = self.context.slots.state();
        state.taken.remove(&uid);
        // It comes back by itself. Until then it must not be in the way of the next.
        state.waiting.remove(&uid);
        state.last.forget(&uid);
        self.context.slots.changed(&mut state);
    }
}

/// The memory of the queue. Lost with the leader, and rebuilt from the caches.
pub(super) struct Slots {
    state: Mutex<State>,
    /// The shortest time between two looks.
    interval: Duration,
    /// Something has changed, and nobody has looked yet.
    change: Notify,
    wake: UnboundedSender<Reference>,
    woken: Mutex<Option<UnboundedReceiver<Reference>>>,
}

#[derive(Default)]
struct State {
    /// Runs that count, by UID.
    taken: HashMap<String, Taken>,
    /// Runs that could start, by UID.
    waiting: HashMap<String, (Waiting, Reference)>,
    /// When a place was last written, by UID.
    told: HashMap<String, Instant>,
    /// The runs that waited under the last leader are known.
    is_rebuilt: bool,
    /// What the last look said.
    last: Look,
    /// Something has changed since.
    is_stale: bool,
    /// Runs that were woken and have not asked since, by UID.
    woken: HashSet<String>,
    /// How many looks there were.
    #[cfg(test)]
    looks: u64,
}

/// A slot that is taken.
struct Taken {
    active: Active,
    /// Since when.
    at: Timestamp,
    /// When its decision was written, perhaps: the answer may have been lost.
    kept: Option<Instant>,
}

/// What a look said, less what has been taken of it.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    /// Runs that may start.
    now: HashSet<String>,
    /// Places of the others.
    later: BTreeMap<String, Place>,
}

impl Look {
    /// What it said of a run stands no longer: the run must ask for a new one, or for a place that others may have taken
    /// meanwhile would be its own.
    fn forget(&mut self, uid: &str) {
        self.now.remove(uid);
        self.later.remove(uid);
    }
}

impl Default for Slots {
    fn default() -> Self {
        let (wake, woken) = unbounded();
        let woken = Mutex::new(Some(woken));
        Self { state: Mutex::default(), interval: INTERVAL, change: Notify::new(), wake, woken }
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

    /// The next look has something to say.
    fn changed(&self, state: &mut State) {
        state.is_stale = true;
        self.change.notify_one();
    }

    /// How long it takes until the next look may be made.
    fn pause(&self, state: &State) -> Duration {
        state.last.at.map_or(Duration::ZERO, |at| self.interval.saturating_sub(at.elapsed()))
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
        state.woken.remove(&uid);
        let limits = [
            self.most_runs_of(&run.spec.extension_ref.name),
            self.settings.max_concurrent_runs_per_namespace,
            self.settings.max_concurrent_runs,
        ];
        if limits.iter().any(Option::is_some) {
            state.waiting.insert(uid.clone(), (waiting(run), reference(run)));
            if let Some(pause) = self.look_for(&mut state, &uid) {
                return Turn::Soon(pause);
            }
            if let Some(place) = state.last.later.get(&uid) {
                let since = state.told.get(&uid).map(Instant::elapsed);
                let stands_for = since.map_or(Duration::ZERO, |since| place.pause().saturating_sub(since));
                return Turn::Later(Queued { place: place.clone(), stands_for });
            }
        }
        state.waiting.remove(&uid);
        state.told.remove(&uid);
        state.last.now.remove(&uid);
        state.taken.insert(uid.clone(), Taken { active: active(run), at: Timestamp::now(), kept: None });
        Turn::Now(Slot { context: self, uid: Some(uid) })
    }

    /// Looks, if the last look's answer does not do for the run that asks. If it is too early for that, how long it must
    /// wait; a run that has a place keeps that until then, and is woken if its turn comes.
    fn look_for(&self, state: &mut State, uid: &str) -> Option<Duration> {
        let place = state.last.later.get(uid);
        let is_known = place.is_some() || state.last.now.contains(uid);
        let is_raised = place.is_some_and(|place| match &place.limit {
            Limit::Extension { name, most } => self.most_runs_of(name) != Some(*most),
            Limit::Namespace { .. } | Limit::Operator { .. } => false,
        });
        let is_old = state.last.at.is_none_or(|at| at.elapsed() >= self.slots.interval * REMEMBERED);
        if is_known && !state.is_stale && !is_raised && !is_old {
            return None;
        }
        let pause = self.slots.pause(state);
        if pause.is_zero() {
            self.look(state, Some(uid));
            return None;
        }
        if is_raised {
            self.slots.changed(state);
        }
        (!is_known && !self.is_alone_and_fits(state, uid)).then_some(pause)
    }

    /// Whether nobody else waits and there is room for the run that asks: then no look is needed to see whose turn it is.
    fn is_alone_and_fits(&self, state: &State, uid: &str) -> bool {
        let (1, Some((run, _))) = (state.waiting.len(), state.waiting.get(uid)) else { return false };
        let fits = |most: Option<u32>, is_counted: &dyn Fn(&Active) -> bool| {
            let active = || state.taken.values().filter(|taken| is_counted(&taken.active)).count();
            most.is_none_or(|most| active() < most as usize)
        };
        fits(self.settings.max_concurrent_runs, &|_| true)
            && fits(self.settings.max_concurrent_runs_per_namespace, &|active| active.namespace == run.namespace)
            && fits(self.most_runs_of(&run.extension), &|active| active.extension == run.extension)
    }

    /// The run does not wait for a slot, or no longer; one that has ended, or pauses before it repeats an attempt, has none
    /// either. The next are woken.
    pub(super) fn left(&self, run: &ActionRun) {
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        let mut state = self.slots.state();
        state.told.remove(uid);
        state.woken.remove(uid);
        state.last.forget(uid);
        let was_waiting = state.waiting.remove(uid).is_some();
        let is_over = state.taken.get(uid).is_some_and(|taken| phase(run).is_finished() || taken.is_over(run));
        let was_active = is_over && state.taken.remove(uid).is_some();
        if was_waiting || was_active {
            self.slots.changed(&mut state);
        }
    }

    /// How many runs have a slot, as the caches show it now.
    pub(super) fn active(&self) -> usize {
        let mut state = self.slots.state();
        self.look(&mut state, None);
        state.taken.len()
    }

    /// Has the runs woken whose turn it has become, if any wait.
    pub(super) fn wake_next(&self) {
        let mut state = self.slots.state();
        if !state.waiting.is_empty() {
            self.slots.changed(&mut state);
        }
    }

    /// Forgets runs that are gone, and wakes those whose turn it is.
    pub(super) fn look_again(&self) {
        let mut state = self.slots.state();
        self.look(&mut state, None);
    }

    /// Wakes those whose turn it has become, after each change, for ever.
    pub(super) async fn wake_at_changes(&self) {
        loop {
            self.slots.change.notified().await;
            let pause = self.slots.pause(&self.slots.state());
            tokio::time::sleep(pause).await;
            self.look_at_change();
        }
    }

    /// Looks, unless somebody did since the last change, or nobody waits.
    fn look_at_change(&self) {
        let mut state = self.slots.state();
        if state.is_stale && !state.waiting.is_empty() {
            self.look(&mut state, None);
        }
    }

    fn most_runs_of(&self, extension: &str) -> Option<u32> {
        let guard = self.caches.extensions.get(&ObjectRef::new(extension))?;
        guard.0.as_ref().ok()?.spec.runtime.as_ref()?.max_concurrent_runs
    }

    /// Brings the memory up to what the caches show, and notes whose turn it is. Those are woken, but for the run that
    /// asks: whoever sees first that a slot is free is the only one to see it.
    fn look(&self, state: &mut State, asks: Option<&str>) {
        let last_starts = state.follow(&self.caches);
        let load = Load { active: state.taken.values().map(|taken| taken.active.clone()).collect(), last_starts };
        let waiting: Vec<Waiting> = state.waiting.values().map(|(waiting, _)| waiting.clone()).collect();
        let limit = |run: &Waiting| Some((run.extension.clone(), self.most_runs_of(&run.extension)?));
        let extensions = waiting.iter().filter_map(limit).collect();
        let (operator, namespace) =
            (self.settings.max_concurrent_runs, self.settings.max_concurrent_runs_per_namespace);
        let turns = turns(&waiting, &load, &Limits { operator, namespace, extensions });
        for uid in turns.now.iter().filter(|uid| Some(uid.as_str()) != asks) {
            if let Some((_, run)) = state.waiting.get(uid).filter(|_| state.woken.insert(uid.clone())) {
                // Without a controller there is nobody to be woken.
                let _ = self.slots.wake.unbounded_send(run.clone());
            }
        }
        let now: HashSet<String> = turns.now.into_iter().collect();
        state.woken.retain(|uid| now.contains(uid));
        state.last = Look { at: Some(Instant::now()), now, later: turns.later };
        state.is_stale = false;
        #[cfg(test)]
        {
            state.looks += 1;
        }
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
        let is_active = |uid: &str, taken: &Taken| unfinished.get(uid).is_some_and(|(run, _)| !taken.is_over(run));
        self.taken.retain(|uid, taken| is_active(uid, taken));
        self.told.retain(|uid, _| unfinished.contains_key(uid.as_str()));
        for (uid, (run, active_since)) in &unfinished {
            let waited = run.status.as_ref().is_some_and(|status| status.queue_position.is_some());
            if let Some(at) = active_since {
                let taken = || Taken { active: active(run), at: *at, kept: None };
                self.taken.entry((*uid).to_owned()).or_insert_with(taken);
            } else if waited && !self.is_rebuilt {
                self.waiting.entry((*uid).to_owned()).or_insert_with(|| (waiting(run), reference(run)));
            }
        }
        self.is_rebuilt = true;
        let taken = &self.taken;
        self.waiting.retain(|uid, _| unfinished.contains_key(uid.as_str()) && !taken.contains_key(uid));
        self.taken.values().for_each(|taken| started(&taken.active.namespace, taken.at));
        last_starts
    }
}

impl Taken {
    /// Whether the attempt that took the slot is over, and the next one is not decided; or it was never decided, though its
    /// write was not refused. A cache may still show the pause before an attempt that has just been decided.
    fn is_over(&self, run: &ActionRun) -> bool {
        let ended = retry::paused(run).and_then(|attempt| attempt.ended_at.as_ref());
        let is_lost = self.kept.is_some_and(|kept| kept.elapsed() >= CACHE_LAG) && retry::is_between_attempts(run);
        is_lost || ended.is_some_and(|ended| ended.0 >= self.at)
    }
}

fn active(run: &ActionRun) -> Active {
    Active { namespace: run.namespace().unwrap_or_default(), extension: run.spec.extension_ref.name.clone() }
}

fn waiting(run: &ActionRun) -> Waiting {
    Waiting {
        uid: run.metadata.uid.clone().unwrap_or_default(),
        namespace: run.namespace().unwrap_or_default(),
        extension: run.spec.extension_ref.name.clone(),
        created: created(run),
    }
}

/// To the second by the API server's word, and within that second by when the run was admitted: who came first goes first.
fn created(run: &ActionRun) -> Timestamp {
    let second = run.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let admitted = run.spec.caller.as_ref().and_then(|caller| caller.time.parse::<Timestamp>().ok());
    admitted.filter(|admitted| admitted.as_second() == second.as_second()).unwrap_or(second)
}

fn reference(run: &ActionRun) -> Reference {
    ObjectRef::new(&run.name_any()).within(&run.namespace().unwrap_or_default())
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "slots_namespace_tests.rs"]
mod namespace_tests;
