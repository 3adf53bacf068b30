//! What to do about a run: pure. Observed state in, one status write and then steps out.
//!
//! The status is always written before the steps, with the resourceVersion that it was computed from: whoever reads the
//! run later, a claiming runner included, sees the decision before its effects. A lost step is taken again, because
//! the same observation gives the same plan.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::claimed::{claimed, finished, not_started};
use super::job::job_name;
use super::queue::Queued;
use super::retry;
use super::status::{self, Decision};
use super::turn;
use super::view::{JobView, PodView};
use crate::api::run::{ActionRunStatus, Attempt, RunRevision};
use crate::api::{ActionRun, DEFAULT_START_DEADLINE_SECONDS, Phase, RUN_FINALIZER, Reason};
use crate::protocol::Outcome;
use crate::validate::{Refusal, RoleType};

/// Jobs that an attempt gets while nobody claims it (rule 6). One that a new revision replaced does not count.
const JOBS_PER_ATTEMPT: u32 = 3;
/// Seconds between TERM and KILL of an attempt that does not say so: it was decided by an earlier version.
const DEFAULT_GRACE_SECONDS: i64 = 10;
/// Seconds between two looks at a Job that nobody claims, at first; later as many as it has been there.
const LOOK_AGAIN: i64 = 6;
/// Seconds between two such looks at most.
const LOOK_AGAIN_MOST: i64 = 30;

/// Everything that a decision rests on.
pub struct Observed<'a> {
    /// The run.
    pub run: &'a ActionRun,
    /// Whether, and with what, it may start.
    pub start: &'a Start,
    /// Its Jobs, those included that were just created.
    pub jobs: &'a [JobView],
    /// Its pods; the claimed one is missing only if it is gone.
    pub pods: &'a [PodView],
    /// Its place, while it is not its turn to start.
    pub queued: Option<&'a Queued>,
    /// The newest warning about a Job or pod that does not get on.
    pub warning: Option<&'a str>,
    /// Since when `cancel` or a deletion is known.
    pub stop_since: Option<Timestamp>,
    /// Since when this leader can hear runners.
    pub leading_since: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// Whether a run may start.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// It may.
    Ready {
        /// What is installed now.
        revision: RunRevision,
        /// Its effective timeout.
        timeout_seconds: u64,
        /// The highest role type that its caller holds.
        role_type: RoleType,
        /// Seconds between TERM and KILL.
        grace_seconds: u32,
    },
    /// Something that it refers to is not there yet.
    Wait(Refusal),
    /// It never will.
    Never(Refusal),
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The status to write first.
    pub status: Option<ActionRunStatus>,
    /// An authentic outcome from a termination message, to be stored like a report's.
    pub outcome: Option<Outcome>,
    /// The status stays, but is to say that it is about the run's newest generation.
    pub is_outdated: bool,
    /// What to do then.
    pub steps: Vec<Step>,
    /// When to look again at the latest.
    pub again: Option<Duration>,
}

impl Plan {
    /// Whether it decides that a Job is to be created, and does not only repeat a step that was lost.
    pub fn decides_to_start(&self) -> bool {
        self.status.is_some() && self.steps.iter().any(|step| matches!(step, Step::CreateJob { .. }))
    }
}

/// One API write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put the finalizer on the run (a run that passed no admission has none).
    AddFinalizer,
    /// Create a Job of the attempt.
    CreateJob {
        /// Its name.
        name: String,
        /// Number of the attempt.
        attempt: u32,
    },
    /// Delete a Job and its pods.
    DeleteJob {
        /// Its name.
        name: String,
    },
    /// Delete a pod whose Job is gone.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID: another pod of that name is left alone.
        uid: String,
    },
    /// Let the run go.
    RemoveFinalizer,
}

/// The plan for a run.
pub fn decide(observed: &Observed<'_>) -> Plan {
    let run = observed.run;
    let is_deleting = run.metadata.deletion_timestamp.is_some();
    if !run.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == RUN_FINALIZER) {
        // Without it the run can vanish at any moment, and its Job with nobody to end it.
        return if is_deleting { Plan::default() } else { Plan { steps: vec![Step::AddFinalizer], ..Plan::default() } };
    }
    let phase = phase(run);
    let attempt = run.status.as_ref().and_then(|status| status.attempts.last());
    match attempt {
        _ if phase.is_finished() => finished(observed, attempt),
        Some(attempt) if attempt.ended_at.is_none() && attempt.nonce_hash.is_some() => {
            match not_started(observed.pods, attempt) {
                Some(why) => given_back(observed, why),
                None => claimed(observed, attempt),
            }
        }
        _ => unclaimed(observed, attempt),
    }
}

/// Rule 5: the claim is taken back in whatever is written first. It may be the pod alone that says so, and once that is gone
/// a claim that still stood would mean that the script had started.
fn given_back(observed: &Observed<'_>, why: &str) -> Plan {
    let mut run = observed.run.clone();
    run.status = Some(status::given_back(&run, why, observed.now));
    let attempt = run.status.as_ref().and_then(|status| status.attempts.last());
    let plan = unclaimed(&Observed { run: &run, ..*observed }, attempt);
    Plan { status: plan.status.or_else(|| run.status.clone()), ..plan }
}

/// A run without a status is Pending.
pub fn phase(run: &ActionRun) -> Phase {
    run.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// When a run's next or newest attempt must have started.
pub fn start_deadline(run: &ActionRun) -> Timestamp {
    let seconds = run.spec.start_deadline_seconds.unwrap_or(DEFAULT_START_DEADLINE_SECONDS);
    after(retry::waits_since(run), i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Seconds between TERM and KILL, as the attempt's Job was decided with.
pub(super) fn grace(attempt: Option<&Attempt>) -> i64 {
    attempt.and_then(|attempt| attempt.grace_seconds).map_or(DEFAULT_GRACE_SECONDS, i64::from)
}

pub(super) fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

pub(super) fn until(time: Timestamp, now: Timestamp) -> Duration {
    // A little late, never early: looking again before the time would be for nothing.
    let left = Duration::try_from(time.duration_since(now)).unwrap_or_default();
    left + Duration::from_millis(20)
}

pub(super) fn delete_jobs(observed: &Observed<'_>, keep: Option<&str>) -> Vec<Step> {
    let unwanted = |job: &&JobView| !job.deleting && Some(job.name.as_str()) != keep;
    observed.jobs.iter().filter(unwanted).map(|job| Step::DeleteJob { name: job.name.clone() }).collect()
}

pub(super) fn end_unclaimed(observed: &Observed<'_>, phase: Phase, reason: Reason, message: &str) -> Plan {
    Plan {
        status: Some(status::ended(observed.run, phase, reason, message, observed.now)),
        steps: delete_jobs(observed, None),
        ..Plan::default()
    }
}

/// What a run says that failed because attempt `number` may not start: of the first one admission's own words.
pub(super) fn cannot_start(number: u32, refused: &Refusal) -> String {
    match number {
        1 => refused.message.clone(),
        _ => format!("attempt {number} of the action cannot start: {}", refused.message),
    }
}

/// A run of which no attempt is claimed: `newest` is one that was decided, or one that failed and is to be repeated.
fn unclaimed(observed: &Observed<'_>, newest: Option<&Attempt>) -> Plan {
    let Observed { run, now, .. } = *observed;
    let failed = newest.filter(|attempt| attempt.ended_at.is_some());
    let attempt = newest.filter(|attempt| attempt.ended_at.is_none());
    let number = newest.map_or(1, |newest| newest.number + u32::from(failed.is_some()));
    let what = if number == 1 { "the action".to_owned() } else { format!("attempt {number} of the action") };
    if run.metadata.deletion_timestamp.is_some() {
        let message = format!("deleted before {what} started");
        return end_unclaimed(observed, Phase::Canceled, Reason::Canceled, &message);
    }
    if run.spec.cancel == Some(true) {
        let message = format!("cancelled before {what} started");
        return end_unclaimed(observed, Phase::Canceled, Reason::Canceled, &message);
    }
    if let Start::Never(refused) = observed.start {
        return end_unclaimed(observed, Phase::Failed, refused.reason, &cannot_start(number, refused));
    }
    if let Some(next) = failed.and_then(|failed| retry::starts_at(run, failed)).filter(|next| now < *next) {
        return Plan { steps: delete_jobs(observed, None), again: Some(until(next, now)), ..Plan::default() };
    }
    let trouble = trouble(observed, attempt);
    let deadline = start_deadline(run);
    if now >= deadline {
        let seconds = run.spec.start_deadline_seconds.unwrap_or(DEFAULT_START_DEADLINE_SECONDS);
        let placed = || newest_pods(observed, attempt).find_map(PodView::trouble_or_node);
        let why = trouble.or_else(|| turn::waited_for(run)).or_else(placed);
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("{what} did not start within {seconds} s{why}");
        return end_unclaimed(observed, Phase::Failed, Reason::StartDeadlineExceeded, &message);
    }
    let (revision, timeout_seconds, role_type, grace_seconds) = match observed.start {
        Start::Ready { revision, timeout_seconds, role_type, grace_seconds } => {
            (revision, *timeout_seconds, *role_type, *grace_seconds)
        }
        Start::Wait(refused) | Start::Never(refused) => {
            // A tenant's Secret is told by no watch, and a volume by none.
            let is_told = !matches!(refused.reason, Reason::SecretNotUsable | Reason::EntrypointMissing);
            let look = if is_told { deadline } else { deadline.min(after(now, LOOK_AGAIN)) };
            return Plan { again: Some(until(look, now)), ..wait(observed, refused.reason, &refused.message) };
        }
    };
    let decision = |jobs: u32, replaced_jobs: u32, message: String| Decision {
        attempt: number,
        jobs,
        replaced_jobs,
        job: job_name(run.metadata.uid.as_deref().unwrap_or_default(), number, jobs),
        revision: revision.clone(),
        timeout_seconds,
        role_type,
        grace_seconds,
        message,
    };
    let Some(attempt) = attempt else {
        if let Some(queued) = observed.queued {
            return turn::wait(run, queued, deadline, now);
        }
        return create(observed, &decision(1, 0, format!("waiting for the pod of {what}")));
    };
    if run.status.as_ref().and_then(|status| status.revision.as_ref()) != Some(revision) {
        let message = "starting again with the extension's new revision".to_owned();
        return create(observed, &decision(attempt.jobs + 1, attempt.replaced_jobs + 1, message));
    }
    if let Some(ended_at) = ended_at(observed, attempt) {
        let why = trouble.unwrap_or_else(|| "its pod ended".into());
        let ended = attempt.jobs.saturating_sub(attempt.replaced_jobs);
        if ended >= JOBS_PER_ATTEMPT {
            let message = format!("{what} never started, {ended} Jobs ended before it did: {why}");
            return end_unclaimed(observed, Phase::Failed, Reason::NeverStarted, &message);
        }
        let next = ended_at.max(decided_at(attempt)).saturating_add(backoff(ended)).unwrap_or(deadline);
        if now < next {
            return Plan { again: Some(until(next.min(deadline), now)), ..Plan::default() };
        }
        let message = format!("starting again, Job {} of {JOBS_PER_ATTEMPT}: {why}", ended + 1);
        return create(observed, &decision(attempt.jobs + 1, attempt.replaced_jobs, message));
    }
    // What a Job without a pod waits for is told by no watch.
    let pause = now.duration_since(decided_at(attempt)).as_secs().clamp(LOOK_AGAIN, LOOK_AGAIN_MOST);
    let again = Some(until(deadline.min(after(now, pause)), now));
    if !observed.jobs.iter().any(|job| job.name == attempt.job) {
        let create = Step::CreateJob { name: attempt.job.clone(), attempt: attempt.number };
        return Plan { steps: vec![create], again, ..Plan::default() };
    }
    match trouble {
        Some(trouble) => Plan { again, ..wait(observed, Reason::Pending, &format!("waiting: {trouble}")) },
        None => Plan { again, ..Plan::default() },
    }
}

/// Before the second Job half a second, before the third two.
fn backoff(jobs: u32) -> SignedDuration {
    SignedDuration::from_millis(if jobs <= 1 { 500 } else { 2000 })
}

fn decided_at(attempt: &Attempt) -> Timestamp {
    attempt.decided_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn create(observed: &Observed<'_>, decision: &Decision) -> Plan {
    let mut steps = delete_jobs(observed, Some(&decision.job));
    steps.push(Step::CreateJob { name: decision.job.clone(), attempt: decision.attempt });
    Plan {
        status: Some(status::decided(observed.run, decision, observed.now)),
        steps,
        again: Some(until(start_deadline(observed.run), observed.now)),
        ..Plan::default()
    }
}

/// Says what is waited for, but not again when only its details changed: kubelet words an image that cannot be pulled
/// in two ways by turns.
fn wait(observed: &Observed<'_>, reason: Reason, message: &str) -> Plan {
    let kind = |text: &str| text.split(": ").take(2).collect::<Vec<_>>().join(": ");
    let said = observed.run.status.as_ref().is_some_and(|status| {
        status.reason.as_deref() == Some(reason.as_str())
            && status.message.as_deref().is_some_and(|old| kind(old) == kind(message))
    });
    let status = (!said).then(|| status::waiting(observed.run, reason, message, observed.now));
    Plan { status, ..Plan::default() }
}

fn trouble(observed: &Observed<'_>, attempt: Option<&Attempt>) -> Option<String> {
    let from_start = match observed.start {
        Start::Wait(refused) | Start::Never(refused) => Some(refused.message.clone()),
        Start::Ready { .. } => None,
    };
    let job = attempt.map(|attempt| attempt.job.as_str());
    let pod = newest_pods(observed, attempt).find_map(|pod| pod.trouble.clone());
    // The runner that asked for a Secret is past everything that its pod was warned of.
    let is_past = observed.run.status.as_ref().and_then(|status| status.reason.as_deref())
        == Some(Reason::SecretNotUsable.as_str());
    let warning = observed.warning.filter(|_| !is_past);
    let failed = || {
        let job = observed.jobs.iter().find(|view| Some(view.name.as_str()) == job)?;
        job.failed.as_ref().map(|(_, message)| message.clone())
    };
    from_start.or(pod).or_else(|| warning.map(str::to_owned)).or_else(failed)
}

/// Pods of the attempt's current Job.
fn newest_pods<'a>(observed: &Observed<'a>, attempt: Option<&Attempt>) -> impl Iterator<Item = &'a PodView> {
    let job = attempt.map(|attempt| attempt.job.clone());
    observed.pods.iter().filter(move |pod| Some(&pod.job) == job.as_ref())
}

/// When the attempt's current Job ended without a claim: its pod ended, or the Job failed, or a deletion from outside
/// took the pod.
fn ended_at(observed: &Observed<'_>, attempt: &Attempt) -> Option<Timestamp> {
    let pod = newest_pods(observed, Some(attempt)).find_map(|pod| pod.ended);
    let job = observed.jobs.iter().find(|job| job.name == attempt.job);
    pod.or_else(|| job.and_then(|job| job.failed.as_ref().map(|(at, _)| *at)))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
