//! The run controller: one reconcile reads as five calls: dereference, validate, plan, status, apply. Before a start is
//! decided the run waits for its turn; then the caller's rights are asked and its Secrets read, and it is validated and
//! planned again.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use super::apply::apply;
use super::context::Context;
use super::decide::{Observed, Plan, Start, decide, phase, start_deadline};
use super::expire;
use super::kept;
use super::live::{is_conflict, is_rejected};
use super::queue::Queued;
use super::report::{self, Acceptance};
use super::request::{Answers, Request};
use super::retry;
use super::slots::Turn;
use super::status;
use super::unreadable;
use super::view::{self, JobView, PodView};
use super::watching::{Guard, Triggers};
use crate::api::reason::Reason;
use crate::api::{ActionRun, Phase};
use crate::protocol::TreePin;
use crate::validate::Refusal;

/// Seconds that a Job may be without a pod before its warnings are read.
const SILENCE: i64 = 5;

/// Why a reconcile did not come to its end; it is repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API refused or failed.
    #[error("the API failed: {0}")]
    Api(#[from] kube::Error),
    /// A Job of that name is not this run's.
    #[error("Job {0:?} exists and is not this run's: delete it")]
    ForeignJob(String),
    /// The store cannot say what the Job must check.
    #[error("the installed tree cannot be used: {0}")]
    Tree(String),
}

/// Runs the controller until `stop` resolves. Reconciles wait until all caches are filled: an empty cache would look
/// like missing extensions and pods that are gone.
pub async fn run(context: Arc<Context>, triggers: Triggers, stop: impl Future<Output = ()> + Send) {
    let caches = context.caches.clone();
    let config = Config::default().concurrency(context.settings.concurrency);
    let store = caches.runs.clone();
    let observer = context.clone();
    let triggers = triggers.inspect_ok(move |run| {
        // One that was removed by force has told nobody that its slot is free.
        if observer.caches.runs.get(run).is_none() {
            observer.wake_next();
        }
    });
    let woken = stream::iter(context.slots.woken()).flatten().map(Ok);
    let triggers = stream::select(triggers, woken);
    let waker = context.clone();
    let reconciler = |run: Arc<Guard>, context: Arc<Context>| Box::pin(reconcile(run, context));
    let reconciles = applier(reconciler, on_error, context, store, triggers, config).for_each(|result| async move {
        if let Err(error) = result {
            tracing::debug!(%error, "reconcile");
        }
    });
    tokio::select! {
        () = reconciles => {}
        () = waker.wake_at_changes() => {}
        () = stop => {}
    }
}

fn on_error(run: Arc<Guard>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let jitter = Duration::from_millis(u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs() / 1_000) % 100);
    let failures = context.failed(&ObjectRef::from_obj(run.as_ref()));
    let is_conflict = matches!(error, ReconcileError::Api(error) if is_conflict(error));
    if !is_conflict {
        tracing::warn!(run = %run.name_any(), %error, failures, "reconcile failed");
    }
    Action::requeue(pause(is_conflict, failures).min(until_start_deadline(&run)) + jitter)
}

/// Before a reconcile that failed so many times in a row is repeated: 0.2 s at first, 0.03 s after a conflict, which the
/// next event of the watch resolves; doubled each time, up to a minute, because a watch may lag or hang.
fn pause(is_conflict: bool, failures: u32) -> Duration {
    let first = Duration::from_millis(if is_conflict { 30 } else { 200 });
    (first * 2_u32.pow(failures.clamp(1, 12) - 1)).min(Duration::from_secs(60))
}

/// A run that cannot get its Job says so when its time is over, however long the pauses have become.
fn until_start_deadline(run: &Guard) -> Duration {
    let waiting = run.0.as_ref().ok().filter(|run| phase(run) == Phase::Pending);
    let left = waiting.map(|run| start_deadline(run).duration_since(Timestamp::now()));
    left.and_then(|left| Duration::try_from(left).ok()).filter(|left| !left.is_zero()).unwrap_or(Duration::MAX)
}

pub(super) async fn reconcile(guard: Arc<Guard>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let run = match &guard.0 {
        Ok(run) => run,
        Err(error) => return unreadable::reconcile(&context, guard.meta(), error).await,
    };
    // Not waited for: a cache wakes only one of those that wait, and a reconcile that is not woken never ends.
    if !context.caches.are_filled() {
        return Ok(Action::requeue(Duration::from_millis(100)));
    }
    let facts = dereference(&context, run).await?;
    let (start, mut request) = validate(&context, run, &Answers::NONE).await?;
    let mut plan = plan(&context, run, &facts, &start, None);
    let turn = turn(&context, run, &plan);
    if let Some(Turn::Soon(pause)) = &turn {
        return Ok(Action::requeue(*pause));
    }
    if let Some(Turn::Later(queued)) = &turn {
        plan = self::plan(&context, run, &facts, &start, Some(queued));
    } else if plan.decides_to_start() {
        let without_tree = match (&turn, &request) {
            (Some(_), Some(request)) => without_tree(&context, request).await,
            _ => None,
        };
        let (start, allowed) = match without_tree {
            Some(start) => (start, None),
            None => validate(&context, run, &context.ask(run).await?).await?,
        };
        (plan, request) = (self::plan(&context, run, &facts, &start, None), allowed);
    }
    let written = write_status(&context, run, &plan).await;
    settle(&context, run, turn, &plan, &written);
    let written = written?;
    apply(&context, written.as_ref().unwrap_or(run), request.as_ref(), &plan).await?;
    context.succeeded(&ObjectRef::from_obj(guard.as_ref()));
    Ok(plan.again.map_or_else(Action::await_change, Action::requeue))
}

/// Asks whether it is the run's turn, if an attempt is about to be decided.
fn turn<'a>(context: &'a Context, run: &ActionRun, plan: &Plan) -> Option<Turn<'a>> {
    if retry::is_between_attempts(run) && plan.decides_to_start() {
        return Some(context.turn(run));
    }
    context.left(run);
    None
}

/// Keeps the slot of a run that was decided, and gives back that of any other. A write whose answer was lost may have been
/// stored.
fn settle(
    context: &Context,
    run: &ActionRun,
    turn: Option<Turn<'_>>,
    plan: &Plan,
    written: &Result<Option<ActionRun>, ReconcileError>,
) {
    let is_void = matches!(written, Err(ReconcileError::Api(error)) if is_rejected(error));
    match turn {
        Some(Turn::Now(slot)) if plan.decides_to_start() && !is_void => slot.keep(),
        Some(Turn::Later(_)) if matches!(written, Ok(Some(_))) => {
            context.slots.told(run.metadata.uid.as_deref().unwrap_or_default());
        }
        _ => {}
    }
}

struct Facts {
    jobs: Vec<JobView>,
    pods: Vec<PodView>,
    warning: Option<String>,
}

/// What there is of a run. Caches may lag: a claimed pod that they do not show is looked for at the API. One that is gone is
/// as it was last seen.
async fn dereference(context: &Context, run: &ActionRun) -> Result<Facts, ReconcileError> {
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let attempt = run.status.as_ref().and_then(|status| status.attempts.last());
    let token = context.token(uid, attempt.map_or(1, |attempt| attempt.number));
    let mut jobs: Vec<JobView> = context.jobs(uid).iter().map(|job| view::job(job)).collect();
    let mut pods: Vec<PodView> = context.pods(uid).iter().map(|pod| view::pod(pod, &token)).collect();
    let claimed = attempt.and_then(|attempt| attempt.pod_uid.as_deref());
    let is_missing = |pods: &[PodView]| claimed.filter(|claimed| !pods.iter().any(|pod| pod.uid == **claimed));
    if phase(run) == Phase::Running && is_missing(&pods).is_some() {
        pods = context.live_pods(uid).await?.iter().map(|pod| view::pod(pod, &token)).collect();
        let gone = is_missing(&pods).and_then(|claimed| context.caches.gone.last_seen(claimed));
        pods.extend(gone.map(|pod| view::pod(&pod, &token)));
    }
    let mut warning = None;
    if let Some(attempt) = attempt.filter(|_| !phase(run).is_finished() && claimed.is_none()) {
        if !jobs.iter().any(|job| job.name == attempt.job) && context.was_just_created(&attempt.job) {
            jobs.push(JobView { name: attempt.job.clone(), ..JobView::default() });
        }
        let age = attempt.decided_at.as_ref().map_or(0, |at| Timestamp::now().duration_since(at.0).as_secs());
        let pod = pods.iter().find(|pod| pod.job == attempt.job);
        if age >= SILENCE && pod.is_none_or(|pod| pod.trouble.is_none()) {
            warning = newest_warning(context, pod.map_or(attempt.job.as_str(), |pod| pod.name.as_str())).await;
        }
    }
    Ok(Facts { jobs, pods, warning })
}

/// Quotas and missing service accounts are told by events of the Job alone, missing volumes by those of the pod.
/// They are a courtesy: a run goes on without them.
async fn newest_warning(context: &Context, name: &str) -> Option<String> {
    let events = Api::<Event>::namespaced(context.client.clone(), &context.settings.operator.namespace);
    let params = ListParams::default().fields(&format!("involvedObject.name={name},type=Warning"));
    let newest = match events.list(&params).await {
        Ok(events) => events.items.into_iter().max_by_key(|event| {
            event.last_timestamp.as_ref().map(|time| time.0).or(event.event_time.as_ref().map(|time| time.0))
        }),
        Err(error) => {
            tracing::warn!(%error, "events of Jobs and pods cannot be read");
            None
        }
    };
    newest.and_then(|event| Some(format!("{}: {}", event.reason?, event.message?)))
}

async fn validate(
    context: &Context,
    run: &ActionRun,
    answers: &Answers,
) -> Result<(Start, Option<Request>), ReconcileError> {
    Ok(match context.request(run, answers).await? {
        Ok(request) => (request.start(), Some(request)),
        Err(start) => (start, None),
    })
}

/// Nothing is decided for a tree that cannot be read; the run says why.
async fn without_tree(context: &Context, request: &Request) -> Option<Start> {
    let message = pin(context, request).await.err()?;
    Some(Start::Wait(Refusal::new(Reason::EntrypointMissing, message)))
}

pub(super) async fn pin(context: &Context, request: &Request) -> Result<TreePin, String> {
    let path = request.extension.entrypoint.path.as_str();
    context.entrypoints.pin(&context.trees, &request.revision.tree_digest, path).await
}

fn plan(context: &Context, run: &ActionRun, facts: &Facts, start: &Start, queued: Option<&Queued>) -> Plan {
    let now = Timestamp::now();
    decide(&Observed {
        run,
        start,
        jobs: &facts.jobs,
        pods: &facts.pods,
        queued,
        warning: facts.warning.as_deref(),
        stop_since: context.stop_since(run, now),
        leading_since: Some(context.leading_since(now)),
        now,
    })
}

async fn write_status(context: &Context, run: &ActionRun, plan: &Plan) -> Result<Option<ActionRun>, ReconcileError> {
    // Of a run that has ended the cache holds not all that status must keep.
    let whole = async || if kept::is_cut(run) { context.whole(run).await } else { Ok(Some(run.clone())) };
    if plan.is_outdated {
        return match whole().await?.filter(|run| phase(run).is_finished()) {
            Some(run) => Ok(Some(context.write(&run, status::observed(&run)).await?)),
            None => Ok(None),
        };
    }
    if let Some(outcome) = &plan.outcome {
        return match whole().await?.filter(|run| report::evaluate(run) == Acceptance::Store) {
            Some(run) => Ok(Some(context.conclude(&run, outcome).await?)),
            None => Ok(None),
        };
    }
    let Some(status) = plan.status.as_ref().filter(|status| run.status.as_ref() != Some(*status)) else {
        return Ok(None);
    };
    let written = context.write(run, status.clone()).await?;
    if status.phase.is_some_and(Phase::is_finished) {
        let reason = Reason::ALL.iter().find(|reason| Some(reason.as_str()) == status.reason.as_deref());
        let message = status.message.as_deref().unwrap_or_default();
        context.publish(&written, "Run", reason.copied().unwrap_or(Reason::OutcomeUnknown), message);
        context.forget(run.metadata.uid.as_deref().unwrap_or_default());
        expire::take_away_unnamed(context, run).await;
    }
    Ok(Some(written))
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "controller_end_tests.rs"]
mod end_tests;

#[cfg(test)]
#[path = "controller_rights_tests.rs"]
mod rights_tests;
