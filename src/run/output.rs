//! What a runner hands over to be kept, once its report is acknowledged: taken in, and swept again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::routing::post;
use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::Semaphore;

use super::context::Context;
use super::live::is_conflict;
use super::routes::{Asked, No, OfAttempt};
use super::tries::{Failures, Tries};
use crate::api::{ActionRun, Reason, RunOutput};
use crate::protocol::{OutputUpload, REQUEST_BYTES, Report};
use crate::store::{KeptOutput, OutputKey, Outputs, Retention, StoreError};

/// How often it is looked whether more is kept than may be.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two sweeps while no more is kept than may be.
const INTERVAL: Duration = Duration::from_secs(60);
/// A sweep takes at most this part of the time.
const SHARE: u32 = 20;
/// Outputs that are written at a time: the volume may hang.
const WRITERS: usize = 8;
/// How often the run is corrected that says more than is kept, before that is given up.
const TRIES: u32 = 8;
/// How long an output waits for its turn before its runner is asked to come back.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone)]
struct Keeper {
    context: Arc<Context>,
    outputs: Outputs,
    writers: Arc<Semaphore>,
}

/// The route for outputs. Only the leader may serve it.
pub fn routes(context: Arc<Context>, outputs: Outputs) -> Router {
    let keeper = Keeper { context, outputs, writers: Arc::new(Semaphore::new(WRITERS)) };
    Router::new()
        .route("/v1/runs/{uid}/output", post(output_route))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(keeper)
}

impl FromRef<Keeper> for Arc<Context> {
    fn from_ref(keeper: &Keeper) -> Self {
        keeper.context.clone()
    }
}

impl OfAttempt for OutputUpload {
    fn attempt(&self) -> u32 {
        self.attempt
    }
}

async fn output_route(State(keeper): State<Keeper>, asked: Asked<OutputUpload>) -> Result<(), No> {
    keeper.keep(&asked.uid, asked.request).await
}

impl Keeper {
    async fn keep(&self, uid: &str, upload: OutputUpload) -> Result<(), No> {
        // The cache will do where it shows the claim: it never changes.
        let cached = self.context.run(uid).filter(|run| held_claim(run, &upload));
        let run = match cached {
            Some(run) => run,
            None => self.context.read(uid).await?.ok_or(No::Gone)?,
        };
        if run.metadata.deletion_timestamp.is_some() {
            return Err(No::Gone);
        }
        if !held_claim(&run, &upload) {
            return Err(No::Refused("this runner never held the run's claim".into()));
        }
        let key = OutputKey::new(&run.namespace().unwrap_or_default(), &run.name_any(), uid);
        let key = key.map_err(|error| No::Refused(error.to_string()))?;
        let attempt = upload.attempt;
        match self.write(key, upload).await? {
            Ok(()) => Ok(()),
            Err(error) => {
                self.say_lost(&run, attempt, &error).await;
                Err(No::Refused(error.to_string()))
            }
        }
    }

    async fn write(&self, key: OutputKey, upload: OutputUpload) -> Result<Result<(), StoreError>, No> {
        let later = || No::Later("other outputs are being written; try again".into());
        let turn = tokio::time::timeout(PATIENCE, self.writers.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| later())?.map_err(|_| later())?;
        let outputs = self.outputs.clone();
        let write = move || {
            let _turn = turn;
            outputs.keep(&key, upload.attempt, &upload.stdout, &upload.stderr)
        };
        tokio::task::spawn_blocking(write).await.map_err(|error| No::Later(error.to_string()))
    }

    /// The run stays what it is; it only does not say any more that there is an output.
    async fn say_lost(&self, run: &ActionRun, attempt: u32, error: &StoreError) {
        tracing::warn!(run = %run.name_any(), %error, "the output of a run is not kept");
        let note = format!("what attempt {attempt} printed is not kept: {error}");
        self.context.publish(run, "Run", Reason::OutputNotKept, &note);
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        let mut corrected = self.retract(uid, attempt).await;
        for tries in 1..TRIES {
            if !corrected.as_ref().is_err_and(is_conflict) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10 * u64::from(tries))).await;
            corrected = self.retract(uid, attempt).await;
        }
        if let Err(error) = corrected {
            tracing::warn!(run = %run.name_any(), %error, "the run still says how much of its output there was to keep");
        }
    }

    async fn retract(&self, uid: &str, attempt: u32) -> Result<(), kube::Error> {
        let Some(run) = self.context.read(uid).await? else { return Ok(()) };
        let mut status = run.status.clone().unwrap_or_default();
        match status.output.take_if(|output| output.attempt == attempt) {
            Some(_) => self.context.write(&run, status).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Whether the sender is the runner that claimed an attempt of this run, be it not the last.
fn held_claim(run: &ActionRun, upload: &OutputUpload) -> bool {
    let mut attempts = run.status.iter().flat_map(|status| &status.attempts);
    let hash = upload.nonce.hash();
    attempts.any(|attempt| attempt.number == upload.attempt && attempt.nonce_hash.as_ref() == Some(&hash))
}

/// `run` with a status that says how much its runner is about to hand over, kept or not: in the write that stores the outcome, because another
/// one for each run would be one too many.
pub fn announce(mut run: ActionRun, report: &Report) -> ActionRun {
    let output = report.output.map(|sizes| {
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        RunOutput {
            attempt: report.attempt,
            stdout_bytes: bytes(sizes.stdout_bytes),
            stderr_bytes: bytes(sizes.stderr_bytes),
            truncated: sizes.truncated,
        }
    });
    if let Some(status) = &mut run.status {
        status.output = output;
    }
    run
}

/// Sweeps for ever: outputs of runs that are gone, and what is beyond the retention. The caches must be filled by a running
/// controller.
pub async fn sweep_until_dropped(context: Arc<Context>, outputs: Outputs, retention: Retention) {
    loop {
        // Waiting for the caches is no work.
        context.caches.wait_until_filled().await;
        let started = Instant::now();
        match sweep(&context, &outputs, retention, SystemTime::now()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "outputs of runs were removed"),
            Err(error) => tracing::warn!(%error, "outputs of runs were not swept"),
        }
        let (ended, least) = (Instant::now(), started.elapsed() * SHARE);
        while !is_due(ended.elapsed(), least, &outputs, retention) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether the next sweep is due so long after the last, which asks for a pause of `least`.
fn is_due(elapsed: Duration, least: Duration, outputs: &Outputs, retention: Retention) -> bool {
    elapsed >= least && (elapsed >= INTERVAL || outputs.total() > retention.bytes)
}

/// Why a sweep did not come to its end; the next goes on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The volume failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API failed.
    #[error("the API failed: {0}")]
    Api(#[from] kube::Error),
    /// A thread that read the volume was interrupted.
    #[error("reading the volume was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// Some outputs could not be looked for or removed.
    #[error(transparent)]
    Some(Box<Failures<SweepError>>),
}

/// Removes the outputs whose run the API, asked now, does not have, and what is beyond `retention` at `now`. Returns how
/// many. The caches must be filled. One that cannot be removed keeps no other.
///
/// # Errors
/// [`SweepError`], once all were tried.
pub async fn sweep(
    context: &Context,
    outputs: &Outputs,
    retention: Retention,
    now: SystemTime,
) -> Result<usize, SweepError> {
    let kept = {
        let outputs = outputs.clone();
        tokio::task::spawn_blocking(move || outputs.list()).await??
    };
    let runs = context.caches.runs.state();
    let uids: BTreeSet<&str> = runs.iter().filter_map(|run| run.meta().uid.as_deref()).collect();
    let (mut unwanted, mut wanted, mut tries) = (Vec::new(), Vec::new(), Tries::<SweepError>::default());
    for output in kept {
        let is_gone = match uids.contains(output.key.uid()) {
            true => Ok(false),
            false => is_gone(context, &output).await,
        };
        let is_gone = is_gone.unwrap_or_else(|error| {
            tries.note(place(&output.key), Err(error.into()));
            false
        });
        if is_gone { &mut unwanted } else { &mut wanted }.push(output);
    }
    unwanted.extend(retention.expired(wanted, now));
    let outputs = outputs.clone();
    let remove = move || {
        let removed = unwanted.iter().map(|output| (place(&output.key), outputs.remove(output)));
        removed.collect::<Vec<_>>()
    };
    for (place, removed) in tokio::task::spawn_blocking(remove).await? {
        tries.note(place, removed.map(|()| true).map_err(SweepError::Store));
    }
    tries.end().map_err(|failures| SweepError::Some(Box::new(failures)))
}

/// What the run of an output is called in logs.
fn place(key: &OutputKey) -> String {
    format!("{}/{}", key.namespace(), key.run())
}

async fn is_gone(context: &Context, output: &KeptOutput) -> Result<bool, kube::Error> {
    let runs = Api::<ActionRun>::namespaced(context.client.clone(), output.key.namespace());
    let there = runs.get_metadata_opt(output.key.run()).await?;
    Ok(there.is_none_or(|run| run.metadata.uid.as_deref() != Some(output.key.uid())))
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
