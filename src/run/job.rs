//! The Job of one attempt: a pure builder. Its pod meets the `restricted` Pod Security level.
//!
//! A runner that was refused, or that did not start the script, exits with [`EXIT_NOT_STARTED`], which the Job's
//! `podFailurePolicy` ignores: without that, `backoffLimit: 0` would fail the Job, and a failed Job's other pods are
//! deleted, the one that holds the claim included. An ignored failure makes the Job controller create another pod
//! after its own backoff (10 s, doubling); that pod may claim only while nobody has, and the leader, which takes any
//! ended pod for the end of its Job, normally has deleted the Job by then.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, LocalObjectReference, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{
    ATTEMPT_LABEL, CA_ANNOTATION, EXTENSION_LABEL, MANAGED_BY_LABEL, MANAGER, RUN_UID_LABEL, TREE_ANNOTATION,
};
use crate::protocol::{EXIT_NOT_STARTED, Token, TreePin, env, server_name};
use crate::validate::Runtime;

/// Annotation on Jobs and pods: name of the ActionRun.
pub const RUN_NAME_ANNOTATION: &str = "outrigger.dev/run-name";
/// Annotation on Jobs and pods: namespace of the ActionRun.
pub const RUN_NAMESPACE_ANNOTATION: &str = "outrigger.dev/run-namespace";

/// Name of the pod's one container.
pub const CONTAINER: &str = "runner";
/// Where the runner's directory is mounted.
const RUNNER_DIR: &str = "/outrigger";
/// Where the payload is written.
const PAYLOAD_DIR: &str = "/run/outrigger/payload";
/// User and group of runner and script.
const USER: i64 = 65532;
/// What the pod's own deadline adds to start deadline, timeout and grace, in seconds: it is a backstop only.
const POD_DEADLINE_SLACK: u64 = 120;
/// What kubelet's grace period adds to the script's, in seconds, so that the runner can still report.
const POD_GRACE_SLACK: u64 = 15;

/// What every Job of this operator has in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// The operator's namespace: that of Jobs, Secrets and volume claim.
    pub namespace: String,
    /// PersistentVolumeClaim of the store.
    pub claim_name: String,
    /// Image where an extension names none.
    pub default_image: String,
    /// Service account of the pods; it has no rights and no token is mounted.
    pub service_account: String,
    /// `kubernetes.io/arch` of the nodes for which a runner was published.
    pub architecture: String,
    /// Directory of the published runner, relative to the volume.
    pub runner_subpath: String,
    /// `https://<address>:<port>` at which runners reach the leader.
    pub address: String,
    /// PEM of the CA that runners pin.
    pub ca_pem: String,
}

/// What is particular to one Job.
#[derive(Clone, Debug)]
pub struct JobInput<'a> {
    /// Name of the Job, from [`job_name`].
    pub name: String,
    /// UID of the run.
    pub run_uid: &'a str,
    /// Name of the run.
    pub run_name: &'a str,
    /// Namespace of the run.
    pub run_namespace: &'a str,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Proof for the runner that it is this attempt's.
    pub token: Token,
    /// Name of the extension.
    pub extension: &'a str,
    /// What the runner checks before it claims.
    pub pin: TreePin,
    /// The tree's directory, relative to the volume.
    pub tree_subpath: String,
    /// Path of the entrypoint, relative to the tree.
    pub entrypoint: &'a str,
    /// Absolute directory at which the tree is mounted.
    pub target_dir: &'a str,
    /// How the extension wants its Jobs.
    pub runtime: &'a Runtime,
    /// Seconds that the script may run.
    pub timeout_seconds: u64,
    /// Seconds until the script must have started.
    pub start_deadline_seconds: u64,
}

/// Name of the `number`th Job (from 1) of an attempt. Deterministic, so that a leader that crashed between its decision
/// and the Job's creation finds the same Job.
pub fn job_name(run_uid: &str, attempt: u32, number: u32) -> String {
    format!("arun-{run_uid}-{attempt}-{number}")
}

/// The labels by which a Job and its pods are found again.
pub fn labels(run_uid: &str, attempt: u32, extension: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned()),
        (RUN_UID_LABEL.to_owned(), run_uid.to_owned()),
        (ATTEMPT_LABEL.to_owned(), attempt.to_string()),
    ]);
    if extension.len() <= 63 {
        labels.insert(EXTENSION_LABEL.to_owned(), extension.to_owned());
    }
    labels
}

/// Whether a Job that already exists is the one that was to be created: it carries the run's UID and the attempt.
pub fn is_job_of(job: &Job, run_uid: &str, attempt: u32) -> bool {
    let label = |key: &str| job.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(MANAGED_BY_LABEL) == Some(MANAGER)
        && label(RUN_UID_LABEL) == Some(run_uid)
        && label(ATTEMPT_LABEL) == Some(attempt.to_string().as_str())
}

/// Builds the Job.
pub fn job(operator: &Operator, input: &JobInput<'_>) -> Job {
    let labels = labels(input.run_uid, input.attempt, input.extension);
    let mut annotations = BTreeMap::from([
        (RUN_NAME_ANNOTATION.to_owned(), input.run_name.to_owned()),
        (RUN_NAMESPACE_ANNOTATION.to_owned(), input.run_namespace.to_owned()),
        (TREE_ANNOTATION.to_owned(), input.pin.tree.to_string()),
    ]);
    annotations.extend(server_name(&operator.ca_pem).map(|name| (CA_ANNOTATION.to_owned(), name)));
    Job {
        metadata: ObjectMeta {
            name: Some(input.name.clone()),
            namespace: Some(operator.namespace.clone()),
            labels: Some(labels.clone()),
            annotations: Some(annotations.clone()),
            ..Default::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".into()),
            pod_failure_policy: Some(PodFailurePolicy {
                rules: vec![PodFailurePolicyRule {
                    action: "Ignore".into(),
                    on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                        container_name: Some(CONTAINER.into()),
                        operator: "In".into(),
                        values: vec![EXIT_NOT_STARTED],
                    }),
                    ..Default::default()
                }],
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations),
                    ..Default::default()
                }),
                spec: Some(pod(operator, input)),
            },
            ..Default::default()
        }),
        status: None,
    }
}

fn pod(operator: &Operator, input: &JobInput<'_>) -> PodSpec {
    let grace = input.runtime.grace_seconds;
    let deadline = input.start_deadline_seconds + input.timeout_seconds + grace + POD_DEADLINE_SLACK;
    // The operator's architecture is not the extension's to choose: no runner was published for another.
    let mut node_selector = input.runtime.node_selector.clone();
    node_selector.insert("kubernetes.io/arch".into(), operator.architecture.clone());
    node_selector.insert("kubernetes.io/os".into(), "linux".into());
    PodSpec {
        restart_policy: Some("Never".into()),
        active_deadline_seconds: i64::try_from(deadline).ok(),
        termination_grace_period_seconds: i64::try_from(grace + POD_GRACE_SLACK).ok(),
        service_account_name: Some(operator.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..Default::default() }),
            ..Default::default()
        }),
        node_selector: Some(node_selector),
        tolerations: Some(input.runtime.tolerations.clone()),
        image_pull_secrets: Some(
            input.runtime.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect(),
        ),
        containers: vec![container(operator, input)],
        volumes: Some(volumes(operator)),
        ..Default::default()
    }
}

fn container(operator: &Operator, input: &JobInput<'_>) -> Container {
    Container {
        name: CONTAINER.into(),
        image: Some(input.runtime.image.clone().unwrap_or_else(|| operator.default_image.clone())),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec![format!("{RUNNER_DIR}/outrigger-runner")]),
        env: Some(environment(operator, input)),
        resources: Some(input.runtime.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..Default::default()
        }),
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(vec![
            mount("store", input.target_dir, Some(&input.tree_subpath)),
            mount("store", RUNNER_DIR, Some(&operator.runner_subpath)),
            mount("payload", PAYLOAD_DIR, None),
            mount("tmp", "/tmp", None),
        ]),
        ..Default::default()
    }
}

/// A sub-path of the store is mounted read-only, a whole scratch volume writable.
fn mount(volume: &str, path: &str, sub_path: Option<&str>) -> VolumeMount {
    VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        sub_path: sub_path.map(str::to_owned),
        read_only: sub_path.map(|_| true),
        ..Default::default()
    }
}

fn volumes(operator: &Operator) -> Vec<Volume> {
    let scratch = |name: &str, medium: Option<&str>, limit: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: Some(Quantity(limit.into())),
        }),
        ..Default::default()
    };
    vec![
        Volume {
            name: "store".into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: operator.claim_name.clone(),
                // Read-only is the mount's: a read-only volume would need a second attachment beside the operator's.
                read_only: None,
            }),
            ..Default::default()
        },
        scratch("payload", Some("Memory"), "4Mi"),
        scratch("tmp", None, "256Mi"),
    ]
}

fn environment(operator: &Operator, input: &JobInput<'_>) -> Vec<EnvVar> {
    let variable = |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), value_from: None };
    vec![
        variable("HOME", "/tmp".into()),
        variable(env::ADDRESS, operator.address.clone()),
        variable(env::CA, operator.ca_pem.clone()),
        variable(env::RUN_UID, input.run_uid.into()),
        variable(env::ATTEMPT, input.attempt.to_string()),
        variable(env::TOKEN, input.token.to_hex()),
        EnvVar {
            name: env::POD_UID.into(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { field_path: "metadata.uid".into(), api_version: None }),
                ..Default::default()
            }),
        },
        variable(env::TREE, input.target_dir.into()),
        variable(env::TREE_DIGEST, input.pin.tree.to_string()),
        variable(env::ENTRYPOINT, input.entrypoint.into()),
        variable(env::ENTRYPOINT_DIGEST, input.pin.entrypoint.to_string()),
        variable(env::PAYLOAD_DIR, PAYLOAD_DIR.into()),
    ]
}

fn default_resources() -> ResourceRequirements {
    let quantities = |cpu: &str, memory: &str| {
        Some(BTreeMap::from([("cpu".into(), Quantity(cpu.into())), ("memory".into(), Quantity(memory.into()))]))
    };
    ResourceRequirements { limits: quantities("1", "512Mi"), requests: quantities("10m", "32Mi"), claims: None }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
