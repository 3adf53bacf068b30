//! Creates runs and bare Jobs and takes the times.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt as _};
use outrigger::api::conditions::{COMPLETE, is_true};
use outrigger::api::run::ActionRunStatus;
use outrigger::api::target::ExtensionReference;
use outrigger::api::{ActionRun, ActionRunSpec, MANAGED_BY_LABEL, MANAGER, Phase, RUN_UID_LABEL};

use crate::floor::{LABEL, bare_job};
use crate::installation::NAMESPACE as OPERATOR_NAMESPACE;
use crate::setup::{ACTION, EXTENSION, NAMESPACE};
use crate::watching::Watched;

/// Longest wait for the operator's webhooks to be reached.
const WEBHOOKS_LIMIT: Duration = Duration::from_secs(30);

/// How long a bare Job took.
pub struct JobTimes {
    /// Until the Job's condition `Complete`.
    pub complete: Duration,
    /// Until its container was terminated.
    pub terminated: Duration,
}

/// Watches, and what to create.
pub struct Measure {
    runs: Api<ActionRun>,
    jobs: Api<Job>,
    /// Ended runs, by name.
    run_ends: Watched<ActionRunStatus>,
    /// Ended bare Jobs, by name; the type of the condition.
    job_ends: Watched<String>,
    /// Ended containers, by the name of their Job; the exit code.
    container_ends: Watched<i32>,
    operators_job: Job,
    /// Part of all names, so that nothing meets what an earlier benchmark left.
    tag: u64,
}

impl Measure {
    /// Starts the watches, and makes one run and one bare Job that are not counted.
    pub async fn start(client: &Client) -> anyhow::Result<Self> {
        let runs: Api<ActionRun> = Api::namespaced(client.clone(), NAMESPACE);
        let jobs: Api<Job> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let tag = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let operators_jobs = Watched::start(
            jobs.clone(),
            &format!("{MANAGED_BY_LABEL}={MANAGER}"),
            |job| job.labels().get(RUN_UID_LABEL).cloned(),
            |job| Some(job.clone()),
        );
        let run_ends = Watched::start(runs.clone(), "", |run| run.metadata.name.clone(), ended_run);
        let job_ends = Watched::start(jobs.clone(), LABEL, |job| job.metadata.name.clone(), ended_job);
        let container_ends = Watched::start(
            pods,
            "batch.kubernetes.io/job-name",
            |pod| pod.labels().get("batch.kubernetes.io/job-name").cloned(),
            ended_container,
        );
        let first = first_run(&runs, &format!("first-{tag}")).await?;
        let (_, status) = run_ends.found(&first.name_any()).await?;
        container_ends.gone(&succeeded(&first.name_any(), &status)?).await?;
        let (_, operators_job) = operators_jobs.found(&first.uid().context("the first run has no uid")?).await?;
        let measure = Self { runs, jobs, run_ends, job_ends, container_ends, operators_job, tag };
        measure.job("first").await?;
        Ok(measure)
    }

    /// Creates a run and waits until its pod is gone; how long the run took.
    pub async fn run(&self, name: &str) -> anyhow::Result<Duration> {
        let name = self.name(name);
        let started = Instant::now();
        let (ended, job) = self.finish_run(&name).await?;
        self.container_ends.gone(&job).await?;
        Ok(ended - started)
    }

    /// Deletes a run and waits until it is gone.
    pub async fn remove_run(&self, name: &str) -> anyhow::Result<()> {
        let name = self.name(name);
        self.runs.delete(&name, &DeleteParams::default()).await?;
        self.run_ends.gone(&name).await
    }

    /// Creates a bare Job, waits until it has ended, and deletes it; how long it took.
    pub async fn job(&self, name: &str) -> anyhow::Result<JobTimes> {
        let job = self.bare_job(name)?;
        let started = Instant::now();
        let (complete, terminated) = self.finish_job(&job).await?;
        self.remove_job(&job.name_any()).await?;
        Ok(JobTimes { complete: complete - started, terminated: terminated - started })
    }

    /// Creates runs all at once; how long it took until the last had ended.
    pub async fn runs_at_once(&self, round: &str, count: u32) -> anyhow::Result<Duration> {
        let names: Vec<_> = (0..count).map(|number| self.name(&format!("{round}-burst-run-{number}"))).collect();
        let started = Instant::now();
        let ends = try_join_all(names.iter().map(|name| self.finish_run(name))).await?;
        try_join_all(ends.iter().map(|(_, job)| self.container_ends.gone(job))).await?;
        let last = ends.iter().map(|(ended, _)| *ended).max().context("no runs")?;
        Ok(last - started)
    }

    /// Creates bare Jobs all at once; how long it took until the last had ended.
    pub async fn jobs_at_once(&self, round: &str, count: u32) -> anyhow::Result<Duration> {
        let jobs = (0..count).map(|number| self.bare_job(&format!("{round}-burst-job-{number}")));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        let started = Instant::now();
        let ends = try_join_all(jobs.iter().map(|job| self.finish_job(job))).await?;
        let last = ends.iter().map(|(complete, _)| *complete).max().context("no Jobs")?;
        let names: Vec<_> = jobs.iter().map(|job| job.name_any()).collect();
        try_join_all(names.iter().map(|name| self.remove_job(name))).await?;
        Ok(last - started)
    }

    async fn finish_run(&self, name: &str) -> anyhow::Result<(Instant, String)> {
        self.runs.create(&PostParams::default(), &action_run(name)).await?;
        let (ended, status) = self.run_ends.found(name).await?;
        Ok((ended, succeeded(name, &status)?))
    }

    async fn finish_job(&self, job: &Job) -> anyhow::Result<(Instant, Instant)> {
        let name = job.name_any();
        self.jobs.create(&PostParams::default(), job).await?;
        let (complete, condition) = self.job_ends.found(&name).await?;
        let (terminated, code) = self.container_ends.found(&name).await?;
        ensure!(condition == "Complete" && code == 0, "Job {name} is {condition}, its container exited with {code}");
        Ok((complete, terminated))
    }

    async fn remove_job(&self, name: &str) -> anyhow::Result<()> {
        self.jobs.delete(name, &DeleteParams::background()).await?;
        self.container_ends.gone(name).await
    }

    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.tag)
    }

    fn bare_job(&self, name: &str) -> anyhow::Result<Job> {
        bare_job(&self.operators_job, &format!("bench-{}", self.name(name)))
    }
}

/// Creates the first run, again and again for a while: just after the installation, the way to the operator's webhooks
/// may not have reached the API server's node yet.
async fn first_run(runs: &Api<ActionRun>, name: &str) -> anyhow::Result<ActionRun> {
    let started = Instant::now();
    loop {
        match runs.create(&PostParams::default(), &action_run(name)).await {
            Err(kube::Error::Api(status)) if status.code == 500 && started.elapsed() < WEBHOOKS_LIMIT => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            created => return Ok(created?),
        }
    }
}

fn action_run(name: &str) -> ActionRun {
    ActionRun::new(
        name,
        ActionRunSpec {
            extension_ref: ExtensionReference { name: EXTENSION.into() },
            action: ACTION.into(),
            ..Default::default()
        },
    )
}

fn ended_run(run: &ActionRun) -> Option<ActionRunStatus> {
    run.status.clone().filter(|status| is_true(&status.conditions, COMPLETE))
}

fn ended_job(job: &Job) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = |type_: &str| matches!(type_, "Complete" | "Failed");
    let condition = conditions.iter().find(|condition| ended(&condition.type_) && condition.status == "True")?;
    Some(condition.type_.clone())
}

fn ended_container(pod: &Pod) -> Option<i32> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// The name of a run's Job, if the run succeeded.
fn succeeded(name: &str, status: &ActionRunStatus) -> anyhow::Result<String> {
    if status.phase != Some(Phase::Succeeded) {
        let status = serde_json::to_string_pretty(status)?;
        bail!("run {name} did not succeed: {status}");
    }
    let attempt = status.attempts.last().with_context(|| format!("run {name} has no attempt"))?;
    Ok(attempt.job.clone())
}
