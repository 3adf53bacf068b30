//! How the Jobs of an extension's actions look.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extension::SecretReference;
use super::schema;

/// How the Jobs of an extension's actions look: an allow-list, never merged into a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Image with the extension's interpreter. Default: the operator's own image (bash, jq, curl, python3, git).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Secrets of the operator's namespace for pulling the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Option<Vec<SecretReference>>,
    /// Limits and requests of the container. Default: limits cpu 1 and memory 512Mi, requests cpu 10m and memory 32Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,
    /// Environment variables of the script. Names that begin with `OUTRIGGER_` are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<64, 4096>")]
    pub env: Option<BTreeMap<String, String>>,
    /// Labels of nodes that may run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<16, 63>")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that it tolerates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Most runs of this extension at a time; more are queued. Unset: as many as the operator allows at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_runs: Option<u32>,
    /// Seconds between TERM and KILL when an action is stopped. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 600))]
    pub termination_grace_period_seconds: Option<u32>,
    /// What its pods may connect to, besides the cluster's DNS and the operator. Unset: whatever the cluster's network
    /// allows. Needs a network that enforces policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// How many finished runs with generated names are kept in each namespace. Unset: the operator's `--run-history-limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub run_history_limit: Option<u32>,
}

/// What the pods of an extension's actions may connect to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// The networks that are open to them. Unset or empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub egress: Vec<EgressRule>,
}

/// A network that is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// The network, such as `192.0.2.0/24`.
    #[schemars(length(min = 1, max = 64))]
    pub cidr: String,
    /// The ports that are open. Unset or empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ports: Vec<EgressPort>,
}

/// A port that is open.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressPort {
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// TCP (the default) or UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    #[x_kube(validation = Rule::new("self in ['TCP', 'UDP']").message("protocol must be one of TCP, UDP"))]
    pub protocol: Option<String>,
}
