//! The webhooks over HTTP: an AdmissionReview comes in, is judged, and goes out with an answer.

use std::cell::RefCell;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1, META_KIND};
use serde::Deserialize;
use serde_json::Value;

use super::review::{self, Request};
use super::size;
use crate::api::{ActionRun, GROUP, OrchestratorExtension};
use crate::protocol::REQUEST_BYTES;

/// Judges what a run means: extension, action, parameters, target. May ask the API.
pub type RunChecker = Arc<dyn Fn(ActionRun) -> BoxFuture<'static, RunCheck> + Send + Sync>;
/// Judges an extension. The errors are for the user.
pub type ExtensionChecker = Arc<dyn Fn(&OrchestratorExtension) -> Result<Vec<String>, Vec<String>> + Send + Sync>;

/// What a run means, for the user who asked for it.
#[derive(Clone, Debug, Default)]
pub struct RunCheck {
    /// Why it can never start.
    pub refusals: Vec<String>,
    /// What it will wait for; `kubectl` prints them.
    pub warnings: Vec<String>,
}

/// Path of the webhook that stamps runs.
pub const MUTATE_RUNS: &str = "/admission/actionruns/mutate";
/// Path of the webhook that judges runs.
pub const VALIDATE_RUNS: &str = "/admission/actionruns/validate";
/// Path of the webhook that judges extensions and adds their finalizer.
pub const MUTATE_EXTENSIONS: &str = "/admission/extensions/mutate";

/// What the webhooks need to know.
#[derive(Clone)]
pub struct Admission {
    /// Signs callers' stamps.
    pub stamp_key: Vec<u8>,
    /// User name under which the operator itself writes.
    pub operator: Option<String>,
    /// Judges what a run means.
    pub check_run: RunChecker,
    /// Judges an extension.
    pub check_extension: ExtensionChecker,
}

/// The webhooks' routes. Any replica may serve them.
pub fn router(admission: Admission) -> Router {
    Router::new()
        .route(MUTATE_RUNS, post(mutate_runs))
        .route(VALIDATE_RUNS, post(validate_runs))
        .route(MUTATE_EXTENSIONS, post(mutate_extensions))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(Arc::new(admission))
}

async fn mutate_runs(State(admission): State<Arc<Admission>>, body: Bytes) -> Response {
    answer(&admission, &body, "actionruns", |request| {
        let patch = review::mutate_run(request, &admission.stamp_key, Timestamp::now())?;
        Ok(Judged { patch, ..Judged::default() })
    })
}

async fn validate_runs(State(admission): State<Arc<Admission>>, body: Bytes) -> Response {
    let request = match read(&body, "actionruns") {
        Ok(request) => request,
        Err(unread) => return unread.into_response(),
    };
    drop(body);
    let check = match review::run_to_check(&request, &admission.stamp_key) {
        Some(run) => (admission.check_run)(run).await,
        None => RunCheck::default(),
    };
    answer_to(&admission, &request, |request| {
        review::validate_run(request, &admission.stamp_key, &check.refusals)?;
        Ok(Judged { warnings: check.warnings, ..Judged::default() })
    })
}

async fn mutate_extensions(State(admission): State<Arc<Admission>>, body: Bytes) -> Response {
    answer(&admission, &body, "orchestratorextensions", |request| {
        let warnings = RefCell::new(vec![]);
        let check = |extension: &OrchestratorExtension| {
            (admission.check_extension)(extension).map(|found| *warnings.borrow_mut() = found)
        };
        let patch = review::mutate_extension(request, &check)?;
        Ok(Judged { patch, warnings: warnings.take() })
    })
}

/// What is answered to a request that passes.
#[derive(Default)]
struct Judged {
    patch: review::Patch,
    warnings: Vec<String>,
}

fn answer(
    admission: &Admission,
    body: &[u8],
    resource: &str,
    judge: impl FnOnce(&Request) -> Result<Judged, Vec<String>>,
) -> Response {
    match read(body, resource) {
        Ok(request) => answer_to(admission, &request, judge),
        Err(unread) => unread.into_response(),
    }
}

fn answer_to(
    admission: &Admission,
    request: &Request,
    judge: impl FnOnce(&Request) -> Result<Judged, Vec<String>>,
) -> Response {
    let response = AdmissionResponse::from(request);
    let seen = !review::is_exempt(request, admission.operator.as_deref()) && !is_subresource(request);
    let verdict = if seen { judge(request) } else { Ok(Judged::default()) };
    let (response, patch) = match verdict {
        Ok(judged) => {
            let mut response = response;
            response.warnings = Some(judged.warnings).filter(|warnings| !warnings.is_empty());
            (response, judged.patch)
        }
        Err(problems) => {
            let mut response = response.deny(problems.join("; "));
            response.result.code = 422;
            response.result.reason = "Invalid".to_owned();
            (response, Vec::new())
        }
    };
    match serde_json::to_value(response.into_review()) {
        Ok(mut review) => {
            if !patch.is_empty() {
                review["response"]["patchType"] = "JSONPatch".into();
                review["response"]["patch"] = STANDARD.encode(Value::Array(patch).to_string()).into();
            }
            Json(review).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("admission answer cannot be written: {error}\n"))
            .into_response(),
    }
}

fn is_subresource(request: &Request) -> bool {
    request.sub_resource.as_deref().is_some_and(|name| !name.is_empty())
}

/// Why a review was not read.
enum Unread {
    /// It is none, or not one for this address.
    Wrong(String),
    /// It is larger than what may be parsed: its object is refused.
    TooLarge { uid: String, reason: String },
}

impl Unread {
    fn into_response(self) -> Response {
        match self {
            Self::Wrong(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
            Self::TooLarge { uid, reason } => {
                let mut response = AdmissionResponse::invalid(reason);
                response.uid = uid;
                response.result.code = 413;
                response.result.reason = "RequestEntityTooLarge".to_owned();
                Json(response.into_review()).into_response()
            }
        }
    }
}

/// What is read of a review that is too large: nothing else is kept of it.
#[derive(Deserialize)]
struct Outline {
    request: OutlinedRequest,
}

#[derive(Deserialize)]
struct OutlinedRequest {
    uid: String,
}

fn read(body: &[u8], resource: &str) -> Result<Request, Unread> {
    if let Err(reason) = size::check(body, size::bound_of(resource)) {
        return Err(match serde_json::from_slice::<Outline>(body) {
            Ok(outline) => Unread::TooLarge { uid: outline.request.uid, reason },
            Err(_) => Unread::Wrong(reason),
        });
    }
    read_bounded(body, resource).map_err(Unread::Wrong)
}

fn read_bounded(body: &[u8], resource: &str) -> Result<Request, String> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| format!("admission review cannot be read: {error}"))?;
    if review.types.api_version != META_API_VERSION_V1 || review.types.kind != META_KIND {
        let types = &review.types;
        return Err(format!(
            "admission review has apiVersion {:?} and kind {:?}: expected {META_API_VERSION_V1:?} and {META_KIND:?}",
            types.api_version, types.kind
        ));
    }
    let request: AdmissionRequest<DynamicObject> =
        review.try_into().map_err(|_| "admission review has no request".to_owned())?;
    if request.resource.group != GROUP || request.resource.resource != resource {
        return Err(format!(
            "admission review is about \"{}.{}\": this address judges \"{resource}.{GROUP}\"",
            request.resource.resource, request.resource.group
        ));
    }
    Ok(request)
}

#[cfg(test)]
#[path = "handlers_tests.rs"]
mod tests;
