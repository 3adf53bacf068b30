//! What the controller reads from Jobs and pods: pure views, so that decisions need no Kubernetes objects.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;

use super::job::CONTAINER;
use crate::protocol::{TerminationMessage, Token};

/// Label that the Job controller puts on pods: name of their Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// A Job of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// When it failed, and what its condition says.
    pub failed: Option<(Timestamp, String)>,
    /// It is being deleted.
    pub deleting: bool,
}

/// A pod of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Name of its Job.
    pub job: String,
    /// Name of its node, once it has one.
    pub node: Option<String>,
    /// When it ended, if it did.
    pub ended: Option<Timestamp>,
    /// If it is being deleted: when its grace period ends, after which only a lost node keeps it.
    pub deleted_by: Option<Timestamp>,
    /// Authentic termination messages of its container, the newest first.
    pub messages: Vec<TerminationMessage>,
    /// Its container was killed because it ran out of memory.
    pub oom_killed: bool,
    /// Kubelet evicted it; `trouble` has kubelet's words.
    pub evicted: bool,
    /// For people: why it does not run, or how it ended.
    pub trouble: Option<String>,
}

impl PodView {
    /// Why it does not get on; where nobody says so, at least the node that one would look at.
    pub fn trouble_or_node(&self) -> Option<String> {
        let placed = || self.node.as_ref().map(|node| format!("its pod is on the node {node:?}"));
        self.trouble.clone().or_else(placed)
    }
}

/// Reads a Job.
pub fn job(job: &Job) -> JobView {
    let failed = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "Failed" && condition.status == "True")
        .map(|condition| {
            let at = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            (at, condition.message.clone().or(condition.reason.clone()).unwrap_or_default())
        });
    JobView {
        name: job.metadata.name.clone().unwrap_or_default(),
        failed,
        deleting: job.metadata.deletion_timestamp.is_some(),
    }
}

/// Reads a pod; only messages that `token` authenticates are kept.
pub fn pod(pod: &Pod, token: &Token) -> PodView {
    let metadata = &pod.metadata;
    let status = pod.status.clone().unwrap_or_default();
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == CONTAINER)
        .cloned()
        .unwrap_or_default();
    // A container that kubelet restarted keeps what its predecessor said in `lastState`.
    let states = [container.state.clone().unwrap_or_default(), container.last_state.clone().unwrap_or_default()];
    let terminated: Vec<&ContainerStateTerminated> =
        states.iter().filter_map(|state| state.terminated.as_ref()).collect();
    let is_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ended_at = terminated
        .first()
        .and_then(|state| state.finished_at.as_ref())
        .or(metadata.deletion_timestamp.as_ref())
        .or(metadata.creation_timestamp.as_ref())
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let messages: Vec<TerminationMessage> =
        terminated.iter().filter_map(|state| TerminationMessage::open(state.message.as_deref()?, token).ok()).collect();
    PodView {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        job: metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(JOB_NAME_LABEL).or_else(|| labels.get("job-name")))
            .cloned()
            .unwrap_or_default(),
        node: node(pod).map(str::to_owned),
        ended: is_ended.then_some(ended_at),
        deleted_by: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        oom_killed: terminated.iter().any(|state| state.reason.as_deref() == Some("OOMKilled")),
        evicted: is_failed(&status) && status.reason.as_deref() == Some("Evicted"),
        trouble: trouble(pod, &states[0], &messages),
        messages,
    }
}

fn is_failed(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Failed")
}

fn trouble(pod: &Pod, state: &ContainerState, messages: &[TerminationMessage]) -> Option<String> {
    if let Some(TerminationMessage::NotStarted { message, .. }) = messages.first() {
        return Some(format!("the runner did not start the script: {message}"));
    }
    let with = |what: &str, detail: Option<&String>| match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{what}: {detail}"),
        None => what.to_owned(),
    };
    let status = pod.status.as_ref()?;
    // The exit code of a container that was killed for it would hide why.
    if let Some(reason) = status.reason.as_ref().filter(|_| is_failed(status)) {
        return Some(with(&format!("the pod failed, {reason}"), status.message.as_ref()));
    }
    if let Some(waiting) = &state.waiting {
        let what = match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable" => Some("the image cannot be pulled"),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                Some("the container cannot be created")
            }
            _ => None,
        };
        if let Some(what) = what {
            return Some(with(what, waiting.message.as_ref()));
        }
    }
    if let Some(terminated) = &state.terminated {
        let what = match terminated.reason.as_deref() {
            Some("OOMKilled") => "the container ran out of memory".to_owned(),
            Some("StartError" | "ContainerCannotRun") => "the container cannot be started".to_owned(),
            _ => format!("the container exited with code {}", terminated.exit_code),
        };
        // An unauthenticated message may be the script's: only the container runtime's own is shown.
        let detail = matches!(terminated.reason.as_deref(), Some("StartError" | "ContainerCannotRun"));
        return Some(with(&what, terminated.message.as_ref().filter(|_| detail)));
    }
    let condition = |kind: &str, value: &str| {
        status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == value)
    };
    let unschedulable =
        condition("PodScheduled", "False").filter(|found| found.reason.as_deref() == Some("Unschedulable"));
    if let Some(found) = unschedulable {
        return Some(with("no node can run the pod", found.message.as_ref()));
    }
    // Written by the node controller in kubelet's place: all that is said of a node that is lost.
    if status.reason.as_deref() == Some("NodeLost") {
        return Some(with("the pod's node is lost", status.message.as_ref()));
    }
    if let Some(found) = condition("DisruptionTarget", "True") {
        let reason = found.reason.as_deref().unwrap_or("DisruptionTarget");
        return Some(with(&format!("the pod is taken from its node, {reason}"), found.message.as_ref()));
    }
    // Kubelet gives a reason whenever it says that a pod is not ready.
    let is_silent = state.running.is_some()
        && condition("Ready", "False").is_some_and(|ready| ready.reason.as_deref().is_none_or(str::is_empty));
    let name = node(pod).map(|name| format!(" {name:?}")).unwrap_or_default();
    is_silent.then(|| format!("the pod's node{name} does not answer"))
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::Nonce;

    fn seen(status: serde_json::Value) -> PodView {
        let object = json!({"metadata": {"name": "p", "uid": "u", "labels": {"batch.kubernetes.io/job-name": "j"}}, "status": status});
        pod(&serde_json::from_value(object).unwrap(), &Token::derive(b"key", "uid", 1))
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let cases = [
            (
                json!({"phase": "Pending", "containerStatuses": [{"name": "runner", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}),
                "the image cannot be pulled: no such image",
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [{"name": "runner", "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "run as root"}}}]}),
                "the container cannot be created: run as root",
            ),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
                "no node can run the pod: 0/1 nodes",
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
                "the pod failed, Evicted: low on memory",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"name": "runner", "state": {"terminated": {"reason": "Error", "exitCode": 3, "message": "what a script wrote"}}}]}),
                "the container exited with code 3",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(seen(status).trouble.as_deref(), Some(expected));
        }
        assert_eq!(seen(json!({"phase": "Pending"})).trouble, None);
        let created = json!({"waiting": {"reason": "ContainerCreating"}});
        let creating = json!({"phase": "Pending", "containerStatuses": [{"name": "runner", "state": created}]});
        assert_eq!(seen(creating).trouble, None);
    }

    #[test]
    fn a_pod_whose_node_is_lost_says_so() {
        let container = json!([{"name": "runner", "state": {"running": {"startedAt": "2026-11-23T10:00:00Z"}}}]);
        let seen = |more: serde_json::Value| {
            let mut status = json!({"phase": "Running", "containerStatuses": container});
            status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            seen(status).trouble
        };
        let conditions = |condition: serde_json::Value| json!({"conditions": [condition]});
        let taken =
            conditions(json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint"}));
        let expected =
            "the pod is taken from its node, DeletionByTaintManager: Taint manager: deleting due to NoExecute taint";
        assert_eq!(seen(taken).as_deref(), Some(expected));
        let silent = conditions(json!({"type": "Ready", "status": "False"}));
        assert_eq!(seen(silent).as_deref(), Some("the pod's node does not answer"));
        let lost = json!({"reason": "NodeLost", "message": "Node n1 which was running pod p is unresponsive"});
        let expected = "the pod's node is lost: Node n1 which was running pod p is unresponsive";
        assert_eq!(seen(lost).as_deref(), Some(expected));
        // What kubelet itself says of a pod that is not ready is nothing unusual.
        let starting = conditions(json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady"}));
        assert_eq!(seen(starting), None);
        assert_eq!(seen(conditions(json!({"type": "Ready", "status": "True"}))), None);
    }

    #[test]
    fn an_evicted_pod_says_why_and_not_only_how_its_container_ended() {
        let words = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"256Mi\".";
        let mut status = json!({"phase": "Failed", "reason": "Evicted", "message": words, "containerStatuses": [
            {"name": "runner", "state": {"terminated": {"reason": "Error", "exitCode": 137}}}]});
        let pod = seen(status.clone());
        assert!(pod.evicted);
        assert_eq!(pod.trouble, Some(format!("the pod failed, Evicted: {words}")));
        status["phase"] = "Running".into();
        assert!(!seen(status.clone()).evicted, "it still ends");
        (status["phase"], status["reason"]) = ("Failed".into(), "DeadlineExceeded".into());
        assert!(!seen(status).evicted);
    }

    #[test]
    fn only_authentic_messages_are_kept_those_of_a_replaced_container_included() {
        let message = TerminationMessage::NotStarted {
            attempt: 1,
            nonce: Nonce::from_bytes([1; 16]),
            message: "tree mismatch".into(),
        };
        let authentic = message.seal(&Token::derive(b"key", "uid", 1));
        let forged = message.seal(&Token::derive(b"other", "uid", 1));
        let state = |text: &str| json!({"terminated": {"exitCode": 203, "reason": "Error", "message": text}});
        let view = seen(json!({"phase": "Failed", "containerStatuses": [
            {"name": "runner", "state": state(&forged), "lastState": state(&authentic)}]}));
        assert_eq!(view.messages, [message]);
        assert_eq!(view.trouble.as_deref(), Some("the runner did not start the script: tree mismatch"));
        assert!(view.ended.is_some());
        assert_eq!(view.job, "j");
    }

    #[test]
    fn a_failed_job_is_seen_with_its_message() {
        let object = json!({"metadata": {"name": "j"}, "status": {"conditions": [
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit", "lastTransitionTime": "2026-11-23T10:00:00Z"}]}});
        let view = job(&serde_json::from_value(object).unwrap());
        assert_eq!(view.failed.unwrap().1, "Job has reached the specified backoff limit");
    }
}
