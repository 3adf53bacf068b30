//! The bare Job: the operator's own Job with the runner taken out.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use outrigger::protocol::env;

use crate::setup::ACTION;

/// Label of bare Jobs.
pub const LABEL: &str = "outrigger.dev/benchmark";

/// Builds a bare Job named `name` from a Job that the operator made.
pub fn bare_job(operators: &Job, name: &str) -> anyhow::Result<Job> {
    let spec = operators.spec.clone().context("the operator's Job has no spec")?;
    let mut pod = spec.template.spec.context("the operator's Job has no pod template")?;
    let container = pod.containers.first_mut().context("the operator's Job has no container")?;
    let variables = container.env.take().unwrap_or_default();
    let value = |name: &str| {
        let variable = variables.iter().find(|variable| variable.name == name);
        variable
            .and_then(|variable| variable.value.clone())
            .with_context(|| format!("the operator's Job does not set {name}"))
    };
    let script = format!("{}/{}", value(env::TREE)?, value(env::ENTRYPOINT)?);
    container.command = Some(vec![script, ACTION.into(), "/dev/null".into(), "60".into()]);
    // the runner's variables name the operator and hold the run's token
    container.env = Some(variables.into_iter().filter(|variable| variable.name == "HOME").collect());
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([(LABEL.into(), "job".into())])),
            ..Default::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            template: PodTemplateSpec { metadata: None, spec: Some(pod) },
            ..Default::default()
        }),
        status: None,
    })
}
