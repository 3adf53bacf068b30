//! Whose turn it is: pure. Runs that wait, runs that are active and limits in; who may start and everyone's place out.
//!
//! Of the runs that fit under the limits the next is always one of the namespace with the fewest active runs; among equals
//! of the one that has started none for the longest time. Within a namespace the oldest goes first, but one whose extension
//! is full is passed by. So a namespace without an active run is passed by at most once by each other one; that a place comes
//! free at all, where one namespace's runs take long, is for the limit of each namespace to see to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// A run that could start, if it were its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of its extension.
    pub extension: String,
    /// When it was created.
    pub created: Timestamp,
}

/// A run that counts: from the decision to start it until it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Its namespace.
    pub namespace: String,
    /// Name of its extension.
    pub extension: String,
}

/// What goes on already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The active runs.
    pub active: Vec<Active>,
    /// When a namespace last started a run; one that is missing never did.
    pub last_starts: BTreeMap<String, Timestamp>,
}

/// Most active runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of all extensions together.
    pub operator: Option<u32>,
    /// Of each namespace.
    pub namespace: Option<u32>,
    /// By name of the extension; one that is missing has none.
    pub extensions: BTreeMap<String, u32>,
}

/// The limit that a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Its extension's.
    Extension {
        /// Name of the extension.
        name: String,
        /// Most active runs.
        most: u32,
    },
    /// That of its namespace.
    Namespace {
        /// Name of the namespace.
        name: String,
        /// Most active runs.
        most: u32,
    },
    /// The operator's.
    Operator {
        /// Most active runs.
        most: u32,
    },
}

/// Where a waiting run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1: how many starts it takes, its own included, as far as is known now. Only the runs that wait for the same
    /// limit count.
    pub position: u32,
    /// What it waits for.
    pub limit: Limit,
}

/// A place, and what is known of the last one that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The place.
    pub place: Place,
    /// How long the place that was told last still stands.
    pub stands_for: Duration,
}

impl Place {
    /// How long this place is told before another one is written: ten seconds, or half a second for every place. Runs
    /// far back move all the time; a thousand of them cost ten writes a second together.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(500 * u64::from(self.position)).max(Duration::from_secs(10))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queued at position {}: ", self.position)?;
        let (who, most, field) = match &self.limit {
            Limit::Extension { name, most } => (format!("extension {name:?}"), most, "spec.runtime.maxConcurrentRuns"),
            Limit::Namespace { name, most } => {
                (format!("namespace {name:?}"), most, "--max-concurrent-runs-per-namespace")
            }
            Limit::Operator { most } => ("the operator".to_owned(), most, "--max-concurrent-runs"),
        };
        write!(f, "{who} runs {most} {} at a time ({field})", if *most == 1 { "action" } else { "actions" })
    }
}

/// Whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// UIDs of the runs that may start now, in this order.
    pub now: Vec<String>,
    /// Places of the others, by UID.
    pub later: BTreeMap<String, Place>,
}

/// Whose turn it is among `waiting`, in whatever order the lists are.
pub fn turns(waiting: &[Waiting], load: &Load, limits: &Limits) -> Turns {
    let mut counts = Counts::default();
    load.active.iter().for_each(|active| counts.add(&active.namespace, &active.extension));
    counts.last_starts = load.last_starts.iter().map(|(namespace, at)| (namespace.as_str(), (*at, 0))).collect();
    let (through, left) = line(waiting.iter().collect(), &mut counts, |counts, run| counts.full(limits, run).is_none());
    let now = through.iter().map(|run| run.uid.clone()).collect();
    let mut turns = Turns { now, later: BTreeMap::new() };
    // A line for every limit that holds runs back, each going on from what is active then.
    let mut lines: BTreeMap<Limit, Vec<&Waiting>> = BTreeMap::new();
    for run in left {
        if let Some(limit) = counts.full(limits, run) {
            lines.entry(limit).or_default().push(run);
        }
    }
    for (limit, runs) in lines {
        let (ordered, _) = line(runs, &mut counts.clone(), |_, _| true);
        let place = |position| Place { position, limit: limit.clone() };
        turns.later.extend(ordered.iter().zip(1..).map(|(run, position)| (run.uid.clone(), place(position))));
    }
    turns
}

/// When a namespace last started a run, then the number of the start within this look.
type LastStart = (Timestamp, u32);

#[derive(Clone, Default)]
struct Counts<'a> {
    all: u32,
    namespaces: BTreeMap<&'a str, u32>,
    extensions: BTreeMap<&'a str, u32>,
    last_starts: BTreeMap<&'a str, LastStart>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, namespace: &'a str, extension: &'a str) {
        self.all += 1;
        *self.namespaces.entry(namespace).or_default() += 1;
        *self.extensions.entry(extension).or_default() += 1;
    }

    fn start(&mut self, run: &'a Waiting) {
        self.add(&run.namespace, &run.extension);
        self.last_starts.insert(&run.namespace, (Timestamp::MAX, self.all));
    }

    fn of(&self, namespace: &str) -> u32 {
        self.namespaces.get(namespace).copied().unwrap_or_default()
    }

    fn of_extension(&self, extension: &str) -> u32 {
        self.extensions.get(extension).copied().unwrap_or_default()
    }

    /// The limit that holds a run back; of several the narrowest: to raise a wider one would not do.
    fn full(&self, limits: &Limits, run: &Waiting) -> Option<Limit> {
        let of_extension = limits.extensions.get(&run.extension).copied();
        if let Some(most) = of_extension.filter(|most| self.of_extension(&run.extension) >= *most) {
            return Some(Limit::Extension { name: run.extension.clone(), most });
        }
        if let Some(most) = limits.namespace.filter(|most| self.of(&run.namespace) >= *most) {
            return Some(Limit::Namespace { name: run.namespace.clone(), most });
        }
        limits.operator.filter(|most| self.all >= *most).map(|most| Limit::Operator { most })
    }
}

/// Lets runs through one by one while `has_room` says so of them, and counts them. Returns those let through, in their order, and
/// the others.
fn line<'a>(
    mut runs: Vec<&'a Waiting>,
    counts: &mut Counts<'a>,
    has_room: impl Fn(&Counts<'a>, &Waiting) -> bool,
) -> (Vec<&'a Waiting>, Vec<&'a Waiting>) {
    // The oldest last: each namespace's own line is taken from its end.
    runs.sort_by(|a, b| (b.created, &b.uid).cmp(&(a.created, &a.uid)));
    let mut namespaces: BTreeMap<&str, Vec<&Waiting>> = BTreeMap::new();
    for run in runs {
        namespaces.entry(&run.namespace).or_default().push(run);
    }
    // A key rests on the counts of its own namespace alone, and those change only while it is out of the heap.
    let key = |counts: &Counts<'a>, run: &'a Waiting| {
        let last_start = counts.last_starts.get(run.namespace.as_str()).copied();
        Reverse((counts.of(&run.namespace), last_start, run.created, run.uid.as_str(), run.namespace.as_str()))
    };
    let mut heads: BinaryHeap<_> =
        namespaces.values().filter_map(|line| line.last().copied()).map(|run| key(counts, run)).collect();
    let (mut through, mut held) = (Vec::new(), Vec::new());
    while let Some(Reverse((.., namespace))) = heads.pop() {
        let Some(line) = namespaces.get_mut(namespace) else { continue };
        // Room never comes back within one look: who does not fit now is out of it.
        if let Some(run) = line.pop() {
            if has_room(counts, run) {
                counts.start(run);
                through.push(run);
            } else {
                held.push(run);
            }
        }
        heads.extend(line.last().copied().map(|run| key(counts, run)));
    }
    (through, held)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
