//! The last call of a reconcile: takes the steps that were decided.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use serde_json::json;

use super::context::Context;
use super::controller::{ReconcileError, pin};
use super::decide::{Plan, Step};
use super::job::{self, JobInput};
use super::live::{is_conflict, is_gone};
use super::request::Request;
use super::status;
use crate::api::reason::Reason;
use crate::api::{ActionRun, DEFAULT_START_DEADLINE_SECONDS, RUN_FINALIZER};

pub(super) async fn apply(
    context: &Context,
    run: &ActionRun,
    request: Option<&Request>,
    plan: &Plan,
) -> Result<(), ReconcileError> {
    let namespace = &context.settings.operator.namespace;
    let jobs = Api::<Job>::namespaced(context.client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace);
    for step in &plan.steps {
        match step {
            Step::AddFinalizer => patch_finalizers(context, &run.metadata, true).await?,
            Step::RemoveFinalizer => patch_finalizers(context, &run.metadata, false).await?,
            Step::CreateJob { name, attempt } => {
                let Some(request) = request else { continue };
                if let Err(error) = create_job(context, &jobs, run, request, name, *attempt).await {
                    say_in_the_way(context, run, &error).await?;
                    return Err(error);
                }
            }
            Step::DeleteJob { name } => delete_job(&jobs, name).await?,
            Step::DeletePod { name, uid } => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                gone_is_fine(pods.delete(name, &DeleteParams::default().preconditions(only)).await)?;
            }
        }
    }
    Ok(())
}

/// Deletes a Job, and its pods.
pub(super) async fn delete_job(jobs: &Api<Job>, name: &str) -> Result<(), kube::Error> {
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    gone_is_fine(jobs.delete(name, &params).await)
}

fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

pub(super) async fn patch_finalizers(context: &Context, run: &ObjectMeta, add: bool) -> Result<(), kube::Error> {
    let mut finalizers: Vec<String> = run.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != RUN_FINALIZER);
    if add {
        finalizers.push(RUN_FINALIZER.to_owned());
    }
    let runs = Api::<ActionRun>::namespaced(context.client.clone(), run.namespace.as_deref().unwrap_or_default());
    // With the resourceVersion: another controller's finalizer must not be lost.
    let metadata = json!({"resourceVersion": run.resource_version, "finalizers": finalizers});
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let name = run.name.as_deref().unwrap_or_default();
    gone_is_fine(runs.patch_metadata(name, &PatchParams::default(), &patch).await)
}

/// A quota, an admission policy, a tree that cannot be read, a foreign Job: the run says what is in its Job's way.
async fn say_in_the_way(context: &Context, run: &ActionRun, error: &ReconcileError) -> Result<(), ReconcileError> {
    let what = match error {
        ReconcileError::Api(error) => error.to_string(),
        error => error.to_string(),
    };
    let message = format!("waiting: its Job cannot be created: {what}");
    if run.status.as_ref().and_then(|status| status.message.as_deref()) != Some(message.as_str()) {
        context.write(run, status::waiting(run, Reason::Pending, &message, Timestamp::now())).await?;
    }
    Ok(())
}

/// Creates the decided Job. One that is there already is the same, if its labels say so.
async fn create_job(
    context: &Context,
    jobs: &Api<Job>,
    run: &ActionRun,
    request: &Request,
    name: &str,
    attempt: u32,
) -> Result<(), ReconcileError> {
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let pin = pin(context, request).await.map_err(ReconcileError::Tree)?;
    let (run_name, run_namespace) = (run.name_any(), run.namespace().unwrap_or_default());
    let (timeout_seconds, runtime) = request.decided(run);
    let job = job::job(
        &context.operator(),
        &JobInput {
            name: name.to_owned(),
            run_uid: uid,
            run_name: &run_name,
            run_namespace: &run_namespace,
            attempt,
            token: context.token(uid, attempt),
            extension: &request.extension.object_name,
            tree_subpath: context.trees.subpath(&pin.tree),
            pin,
            entrypoint: request.extension.entrypoint.path.as_str(),
            target_dir: request.extension.entrypoint.target_dir.as_str(),
            runtime: &runtime,
            timeout_seconds,
            start_deadline_seconds: run.spec.start_deadline_seconds.unwrap_or(DEFAULT_START_DEADLINE_SECONDS),
        },
    );
    if let Some(egress) = &request.extension.runtime.egress {
        context.restrict(&request.extension.object_name, egress).await?;
    }
    match jobs.create(&PostParams::default(), &job).await {
        Ok(_) => {}
        Err(error) if is_conflict(&error) => {
            let there = jobs.get_opt(name).await?;
            if there.is_some_and(|there| !job::is_job_of(&there, uid, attempt)) {
                return Err(ReconcileError::ForeignJob(name.to_owned()));
            }
        }
        Err(error) => return Err(error.into()),
    }
    context.job_created(name);
    Ok(())
}
