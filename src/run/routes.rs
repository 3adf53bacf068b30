//! What runners ask for: claim, progress, report. Each is a compare-and-swap on the run as it is at the API now. That nothing
//! was started is heard in `unstarted`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, FromRequestParts as _, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use k8s_openapi::jiff::Timestamp;
use kube::Error;
use serde::de::DeserializeOwned;

use super::claim::{self, Claim};
use super::context::Context;
use super::decide::{self, Start};
use super::live::{SecretsError, is_conflict, is_gone};
use super::report::{self, Acceptance};
use super::rights::Rights;
use super::{output, status, unstarted};
use crate::api::{ActionRun, Phase, Reason};
use crate::protocol::{ClaimGrant, ClaimRequest, Progress, ProgressAnswer, REQUEST_BYTES, Refusal, Report, Token};
use crate::telemetry::RequestResult;
use crate::validate::Refusal as Refused;

/// How often a write that lost against another is tried again before the runner is asked to come back.
pub(super) const TRIES: u32 = 8;

/// Why a request got no yes.
#[derive(Debug)]
pub(super) enum No {
    /// 401: the token does not verify. Final.
    Unauthorized,
    /// 409: refused for ever.
    Refused(String),
    /// 410: the run is gone.
    Gone,
    /// 503: come back.
    Later(String),
}

impl From<Error> for No {
    fn from(error: Error) -> Self {
        if is_gone(&error) { Self::Gone } else { Self::Later(error.to_string()) }
    }
}

impl No {
    pub(super) fn result(&self) -> RequestResult {
        match self {
            Self::Unauthorized | Self::Refused(_) => RequestResult::Refused,
            Self::Gone => RequestResult::Gone,
            Self::Later(_) => RequestResult::Unavailable,
        }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "the token is not this attempt's".to_owned()),
            Self::Refused(message) => (StatusCode::CONFLICT, message),
            Self::Gone => (StatusCode::GONE, "the run is gone".to_owned()),
            Self::Later(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
        };
        (code, Json(Refusal { message })).into_response()
    }
}

/// The routes for runners. Only the leader may serve them.
pub fn routes(context: Arc<Context>) -> Router {
    Router::new()
        .route("/v1/runs/{uid}/claim", post(claim_route))
        .route("/v1/runs/{uid}/progress", post(progress_route))
        .route("/v1/runs/{uid}/report", post(report_route))
        .route("/v1/runs/{uid}/unstarted", post(unstarted::route))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(context)
}

async fn claim_route(
    State(context): State<Arc<Context>>,
    asked: Result<Asked<ClaimRequest>, No>,
) -> Result<Json<ClaimGrant>, No> {
    let answer = match asked {
        Ok(Asked { uid, request }) => claim(&context, &uid, &request).await,
        Err(no) => Err(no),
    };
    context.metrics.claimed(answer.as_ref().map_or_else(No::result, |_| RequestResult::Accepted));
    answer.map(Json)
}

async fn progress_route(
    State(context): State<Arc<Context>>,
    Asked { uid, request }: Asked<Progress>,
) -> Result<Json<ProgressAnswer>, No> {
    note_progress(&context, &uid, &request).await.map(Json)
}

async fn report_route(State(context): State<Arc<Context>>, asked: Result<Asked<Report>, No>) -> Result<(), No> {
    let answer = match asked {
        Ok(Asked { uid, request }) => store_report(&context, &uid, request).await,
        Err(no) => Err(no),
    };
    context.metrics.reported(answer.as_ref().map_or_else(No::result, |()| RequestResult::Accepted));
    answer
}

/// A request whose token is that of the attempt which it names.
pub(super) struct Asked<T> {
    /// UID of the run.
    pub uid: String,
    pub request: T,
}

/// What runners send.
pub(super) trait OfAttempt: DeserializeOwned {
    fn attempt(&self) -> u32;
}

impl OfAttempt for ClaimRequest {
    fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl OfAttempt for Progress {
    fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl OfAttempt for Report {
    fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl<S, T> FromRequest<S> for Asked<T>
where
    S: Send + Sync,
    Arc<Context>: FromRef<S>,
    T: OfAttempt,
{
    type Rejection = No;

    /// Reads a request and checks its token, before anything is asked of the API. A body that cannot be read comes from no
    /// runner of this version: refused for ever.
    async fn from_request(request: Request, state: &S) -> Result<Self, No> {
        let context = Arc::<Context>::from_ref(state);
        let (mut parts, body) = request.into_parts();
        let Path(uid) = Path::<String>::from_request_parts(&mut parts, state).await.map_err(|_| No::Unauthorized)?;
        let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).and_then(Token::from_hex);
        let token = token.filter(|_| is_uid(&uid)).ok_or(No::Unauthorized)?;
        let unreadable = |error: &dyn std::fmt::Display| No::Refused(format!("the request cannot be read: {error}"));
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(|error| unreadable(&error))?;
        let request: T = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
        if !token.matches(&context.token(&uid, request.attempt())) {
            return Err(No::Unauthorized);
        }
        // An outcome is read against extension and target: without them a new leader would store a wrong one for ever.
        if !context.caches.are_filled() {
            return Err(No::Later("the leader has just started; try again".into()));
        }
        Ok(Self { uid, request })
    }
}

fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

async fn claim(context: &Context, uid: &str, request: &ClaimRequest) -> Result<ClaimGrant, No> {
    for tries in 0..TRIES {
        pause(tries).await;
        let run = context.read(uid).await?.ok_or(No::Gone)?;
        let is_claimed = last_nonce(&run).is_some();
        let job = if is_claimed { None } else { context.job_of_pod(uid, &request.pod_uid).await? };
        let now = Timestamp::now();
        let kind = claim::evaluate(&run, uid, request, job.as_deref(), now).map_err(No::Refused)?;
        if kind == Claim::Again {
            let grants = context.memory().grants.get(uid).cloned();
            if let Some((_, grant)) = grants.filter(|(nonce_hash, _)| *nonce_hash == request.nonce.hash()) {
                return Ok(grant);
            }
        }
        let Some((run, grant)) = grant(context, run, kind, now).await? else { continue };
        if kind == Claim::Again {
            return Ok(grant);
        }
        match context.write(&run, status::claimed(&run, &request.pod_uid, &request.nonce, now)).await {
            Ok(written) => {
                context.memory().grants.insert(uid.to_owned(), (request.nonce.hash(), grant.clone()));
                context.publish(&written, "Run", Reason::Running, &format!("action {:?} started", run.spec.action));
                return Ok(grant);
            }
            Err(error) if is_conflict(&error) => {}
            // Whether it was stored is not known: the same nonce finds out.
            Err(error) => return Err(error.into()),
        }
    }
    Err(No::Later("the run changes too often".into()))
}

fn last_nonce(run: &ActionRun) -> Option<&str> {
    run.status.as_ref()?.attempts.last()?.nonce_hash.as_deref()
}

/// What the runner is to get, built from a spec that verifies now. Missing Secrets are found before the claim, while
/// waiting for them is still safe. A run that may not start any more ends here: another Job would be told the same.
///
/// With it comes the run, which holds what it is started by: its caller's role type, and how its outcome is read. `None`: the
/// run changed meanwhile, and must be read again.
async fn grant(
    context: &Context,
    mut run: ActionRun,
    kind: Claim,
    now: Timestamp,
) -> Result<Option<(ActionRun, ClaimGrant)>, No> {
    let answers = context.ask_for_claim(&run, kind, now).await?;
    let request = match context.request(&run, &answers).await? {
        Ok(request) => request,
        Err(Start::Never(refusal)) if kind == Claim::New => {
            return refuse(context, &run, &refusal, now).await.map(|()| None);
        }
        Err(Start::Never(refusal)) => return Err(No::Refused(refusal.message)),
        Err(Start::Wait(refusal)) => return Err(No::Later(refusal.message)),
        Err(Start::Ready { .. }) => return Err(No::Later("the run is not validated".into())),
    };
    if let Some(status) = &mut run.status {
        if let Rights::Held(_) = &answers.rights {
            status.role_type = Some(request.role_type.to_string());
        }
        if let Some(attempt) = status.attempts.last_mut() {
            attempt.strict_result = Some(request.extension.strict_result);
        }
    }
    let pinned = run.status.as_ref().and_then(|status| status.revision.as_ref());
    if pinned != Some(&request.revision) {
        // The controller is about to replace the Job by one with the new revision.
        return Err(No::Later("the extension was upgraded: another Job starts with the new revision".into()));
    }
    let (host, details) = request.secrets();
    let entries = async { Ok((context.entries(&host).await?, context.entries(&details).await?)) };
    match entries.await {
        Ok((host, details)) => {
            let (output_bytes, skip_report) = (context.settings.output_bytes, context.settings.skip_report);
            let grant = ClaimGrant { output_bytes, skip_report, ..request.grant(&run, host, details) };
            Ok(Some((run, grant)))
        }
        Err(SecretsError::Api(error)) => Err(error.into()),
        Err(SecretsError::NotUsable(message)) => {
            let message = format!("waiting: {message}");
            let said = run.status.as_ref().and_then(|status| status.message.as_deref());
            if decide::phase(&run) == Phase::Pending && said != Some(message.as_str()) {
                let status = status::waiting(&run, Reason::SecretNotUsable, &message, Timestamp::now());
                if let Err(error) = context.write(&run, status).await {
                    tracing::debug!(%error, "the run does not say which Secret it waits for");
                }
            }
            Err(No::Later(message))
        }
    }
}

/// Ends a run that may not start any more, which is the compare-and-swap that a claim would have been, and tells the runner so;
/// `Ok` where the run changed meanwhile. Its Job is deleted by the controller, which sees the end.
async fn refuse(context: &Context, run: &ActionRun, refusal: &Refused, now: Timestamp) -> Result<(), No> {
    let number = run.status.as_ref().and_then(|status| status.attempts.last()).map_or(1, |attempt| attempt.number);
    let message = decide::cannot_start(number, refusal);
    let ended = status::ended(run, Phase::Failed, refusal.reason, &message, now);
    match context.write(run, ended).await {
        Ok(written) => {
            context.publish(&written, "Run", refusal.reason, &message);
            context.forget(run.metadata.uid.as_deref().unwrap_or_default());
            Err(No::Refused(message))
        }
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn note_progress(context: &Context, uid: &str, progress: &Progress) -> Result<ProgressAnswer, No> {
    let run = context.read(uid).await?.ok_or(No::Gone)?;
    report::holds_claim(&run, uid, progress.attempt, &progress.nonce).map_err(No::Refused)?;
    let cancel = report::must_stop(&run, progress.attempt);
    let status = status::progressed(&run, &progress.stdout_tail, &progress.stderr_tail);
    if report::is_current(&run, progress.attempt)
        && run.status.as_ref() != Some(&status)
        && context.may_write_tails(uid)
    {
        // Tails are news, not outcomes: one that is lost to a conflict is followed by the next.
        if let Err(error) = context.write(&run, status).await {
            tracing::debug!(%error, "tails were not written");
        }
    }
    Ok(ProgressAnswer { cancel })
}

/// Stores a report; one whose pod may be evicted only when kubelet has said so, or has had the time to.
async fn store_report(context: &Arc<Context>, uid: &str, report: Report) -> Result<(), No> {
    let Some(held) = store(context, uid, &report, true).await? else { return Ok(()) };
    if held.is_first {
        // Its runner may not live to repeat it, and kubelet not to pass its termination message on.
        let (context, uid) = (context.clone(), uid.to_owned());
        tokio::spawn(async move {
            while context.may_be_evicted(&held.run, &report.outcome) && context.is_held(&uid) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if let Err(error) = store(&context, &uid, &report, false).await {
                tracing::warn!(run = uid, ?error, "a report that was held back was not stored");
            }
        });
    }
    Err(No::Later("kubelet ends the pod, and has not said why yet".into()))
}

/// A run whose report is held back.
struct Held {
    run: ActionRun,
    /// Whether nobody waits for the moment to store it.
    is_first: bool,
}

/// Stores a report, unless it is to be held back and `may_hold` allows that.
async fn store(context: &Context, uid: &str, report: &Report, may_hold: bool) -> Result<Option<Held>, No> {
    for tries in 0..TRIES {
        pause(tries).await;
        let run = output::announce(context.read(uid).await?.ok_or(No::Gone)?, report);
        report::holds_claim(&run, uid, report.attempt, &report.nonce).map_err(No::Refused)?;
        match report::evaluate_of(&run, report.attempt) {
            Acceptance::Stored => return Ok(None),
            Acceptance::Store => {}
        }
        if may_hold && context.may_be_evicted(&run, &report.outcome) {
            let is_first = context.hold(uid);
            if context.is_held(uid) {
                return Ok(Some(Held { run, is_first }));
            }
        }
        match context.conclude(&run, &report.outcome).await {
            Ok(_) => return Ok(None),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(No::Later("the run changes too often".into()))
}

/// Before the `tries`th repetition of a write; 0: the first time.
pub(super) async fn pause(tries: u32) {
    if tries > 0 {
        tokio::time::sleep(Duration::from_millis(10 * u64::from(tries))).await;
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "routes_report_tests.rs"]
mod report_tests;

#[cfg(test)]
#[path = "routes_result_tests.rs"]
mod result_tests;

#[cfg(test)]
#[path = "routes_retry_tests.rs"]
mod retry_tests;
