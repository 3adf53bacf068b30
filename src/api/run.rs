//! `ActionRun`: one invocation of one action. The request never changes; the outcome is written once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extension::SecretReference;
use super::phase::Phase;
use super::schema;
use super::target::ExtensionReference;

/// One invocation of one action of an extension. Nothing re-runs it: to run the action again, create another.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "outrigger.dev",
    version = "v1alpha1",
    kind = "ActionRun",
    plural = "actionruns",
    shortname = "arun",
    category = "outrigger",
    namespaced,
    status = "ActionRunStatus",
    derive = "PartialEq",
    printcolumn(name = "Extension", type_ = "string", json_path = ".spec.extensionRef.name"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Exit", type_ = "integer", json_path = ".status.exitCode"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Succeeded', 'Failed', 'Canceled']) || (has(self.status) && has(self.status.phase) && self.status.phase == oldSelf.status.phase)").message("a finished run stays as it ended"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Succeeded', 'Failed', 'Canceled']) || (has(self.status) && has(self.status.exitCode) == has(oldSelf.status.exitCode) && (!has(self.status.exitCode) || self.status.exitCode == oldSelf.status.exitCode) && has(self.status.reason) == has(oldSelf.status.reason) && (!has(self.status.reason) || self.status.reason == oldSelf.status.reason) && has(self.status.message) == has(oldSelf.status.message) && (!has(self.status.message) || self.status.message == oldSelf.status.message) && has(self.status.completionTime) == has(oldSelf.status.completionTime) && (!has(self.status.completionTime) || self.status.completionTime == oldSelf.status.completionTime))").message("exitCode, reason, message and completionTime of a finished run stay as they are"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'OutcomeUnknown' || (has(self.status) && has(self.status.phase) && self.status.phase in ['OutcomeUnknown', 'Succeeded', 'Failed', 'Canceled'])").message("a run whose outcome is unknown never starts again")
)]
#[x_kube(
    validation = Rule::new("!(has(self.targetRef) && has(self.target))").message("targetRef and target exclude each other"),
    validation = Rule::new("self.extensionRef == oldSelf.extensionRef && self.action == oldSelf.action && has(self.targetRef) == has(oldSelf.targetRef) && (!has(self.targetRef) || self.targetRef == oldSelf.targetRef) && has(self.timeoutSeconds) == has(oldSelf.timeoutSeconds) && (!has(self.timeoutSeconds) || self.timeoutSeconds == oldSelf.timeoutSeconds) && has(self.retries) == has(oldSelf.retries) && (!has(self.retries) || self.retries == oldSelf.retries) && has(self.target) == has(oldSelf.target)").message("spec is immutable but for cancel: create another ActionRun"),
    validation = Rule::new("!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)").message("cancel cannot be taken back")
)]
pub struct ActionRunSpec {
    /// The extension to invoke.
    pub extension_ref: ExtensionReference,
    /// A custom action, or one of prepare, create, start, stop, reboot, delete, status, statuses, getconsole.
    #[schemars(length(min = 1, max = 128))]
    pub action: String,
    /// Values for the action's parameters: strings, numbers and booleans, each at most 8 KiB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::scalar_map")]
    pub parameters: BTreeMap<String, Value>,
    /// Parameters from Secrets of the run's namespace, which the caller must be allowed to read. Their values are masked in all
    /// output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub parameters_from: Vec<ParameterFrom>,
    /// The ExtensionTarget to act on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetReference>,
    /// A target given in place, instead of `targetRef`. Needs a right of its own: `use` on freeformtargets.outrigger.dev,
    /// by the extension's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<InlineTarget>,
    /// Seconds the action may take; never more than the action allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604800))]
    pub timeout_seconds: Option<u64>,
    /// Seconds until the script must have started; after that the run fails and never starts. Counted from the run's creation,
    /// for a repeated attempt from the end of the pause before it. Default 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604800))]
    pub start_deadline_seconds: Option<u64>,
    /// How often a failed attempt is repeated: one whose script ended with another exit code than 0, printed a result that
    /// says so, or was stopped at its timeout. Nothing else is repeated, an unknown outcome least of all. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9))]
    pub retries: Option<u32>,
    /// Seconds after which the run is deleted once it has ended in whatever way. A GitOps tool that applies it again then runs
    /// it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31536000))]
    pub ttl_seconds_after_finished: Option<u64>,
    /// Set to true to stop the run. The one field that may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Who created the run. Written by the operator's admission, which refuses a run that brings another's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// The target to act on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetReference {
    /// Name of the ExtensionTarget.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A parameter whose value is in a Secret of the run's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParameterFrom {
    /// Name of the parameter.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Where its value is.
    pub secret_key_ref: SecretKeyReference,
}

/// An entry of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the entry.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A target given in place: what an ExtensionTarget says of the resource. It refers to no Secret, and has no status, so that
/// what `prepare` answers reaches no later run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineTarget {
    /// Type of the resource: VirtualMachine (in any case; the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub resourcetype: Option<String>,
    /// The resource's name: `virtualmachinename` in the payload, `{{resourceName}}` in messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// The resource's id: `virtualmachineid` in the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub id: Option<String>,
    /// `externaldetails.host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<64, 4096>")]
    pub host: Option<BTreeMap<String, String>>,
    /// `externaldetails.resourcemap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<64, 4096>")]
    pub resourcemap: Option<BTreeMap<String, String>>,
    /// `externaldetails.virtualmachine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<64, 4096>")]
    pub virtualmachine: Option<BTreeMap<String, String>>,
    /// `cloudstack.vm.details`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub vm: Option<serde_json::Map<String, Value>>,
}

/// Who created a run, stamped and signed at admission.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The authenticated user.
    #[schemars(length(max = 1024))]
    pub username: String,
    /// The user's unique id, where the authenticator gives one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub uid: String,
    /// The user's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 1024)))]
    pub groups: Vec<String>,
    /// Further facts from the authenticator.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "extra")]
    pub extra: BTreeMap<String, Vec<String>>,
    /// When the run was admitted, RFC 3339 with microseconds.
    #[schemars(length(max = 64))]
    pub time: String,
    /// Authentication code over all of this, the run's name and its spec.
    #[schemars(length(max = 64))]
    pub mac: String,
}

fn extra(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 4096}},
    })
}

/// What became of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionRunStatus {
    /// Where the run stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The generation that the conditions speak of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled (kstatus), Complete (ended in any way), Succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// When the script of the newest attempt was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub start_time: Option<Time>,
    /// When the outcome was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub completion_time: Option<Time>,
    /// Every attempt, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub attempts: Vec<Attempt>,
    /// What the run is pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RunRevision>,
    /// The script's exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why the run is where it is, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// For people: the action's success or error message, or what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// The highest role type that the caller held when the newest Job was decided: `caller.roletype` in the payload.
    #[serde(rename = "roletype", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub role_type: Option<String>,
    /// The effective timeout in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// The JSON that the script printed, up to 64 KiB. Of `prepare` without what may be a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_json")]
    pub result: Option<Value>,
    /// Power state, from `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub power: Option<String>,
    /// Console protocol, from `getconsole`. Where to connect and the password are in `resultRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<Console>,
    /// Secret of the run's namespace that holds a large or secret result. A secret one, of `getconsole` or `prepare`, is
    /// deleted some time after the run's end, an hour by default, and this field with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_ref: Option<SecretReference>,
    /// The end of standard output, up to 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub stdout_tail: Option<String>,
    /// The end of standard error, up to 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub stderr_tail: Option<String>,
    /// How much the newest attempt printed, once it has ended and reported. The operator keeps that for a while, if it can:
    /// it is handed over after the outcome, and is lost where the pod is gone before that. Absent if there is nothing to
    /// keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<RunOutput>,
    /// Place in the queue, from 1, while the run waits for its turn; `message` says what for. Brought up to date every ten
    /// seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i32>,
}

/// What an attempt is pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRevision {
    /// Digest of the tree.
    #[schemars(length(max = 71))]
    pub tree_digest: String,
    /// Digest of the effective manifest.
    #[schemars(length(max = 71))]
    pub manifest_digest: String,
}

/// Console protocol of a `getconsole` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Console {
    /// `direct`, `vnc`, …
    #[schemars(length(max = 64))]
    pub protocol: String,
}

/// How much an attempt printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunOutput {
    /// Number of the attempt.
    pub attempt: u32,
    /// Bytes of standard output; 0 where it is withheld, because it can hold a password.
    pub stdout_bytes: i64,
    /// Bytes of standard error.
    pub stderr_bytes: i64,
    /// The middle of a stream is not kept.
    pub truncated: bool,
}

/// One attempt: at most one runner ever claims it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Jobs that were created for it, one after the other; only an unclaimed attempt gets another.
    pub jobs: u32,
    /// How many of these were replaced because the extension's revision changed: they do not count as failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced_jobs: u32,
    /// Name of the newest Job, in the operator's namespace.
    #[schemars(length(max = 253))]
    pub job: String,
    /// When the newest Job was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub decided_at: Option<MicroTime>,
    /// Seconds between TERM and KILL, as the newest Job was decided with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
    /// The extension's `strictResult` when it was claimed: its outcome is read by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_result: Option<bool>,
    /// UID of the pod whose runner claimed.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
    /// SHA-256 of the nonce of the runner that claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub nonce_hash: Option<String>,
    /// When it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub claimed_at: Option<MicroTime>,
    /// The script's exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How it ended, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// When its end was stored. An attempt that has one is over: it is never claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ended_at: Option<MicroTime>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
