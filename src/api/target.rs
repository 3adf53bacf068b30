//! `ExtensionTarget`: what an extension acts on, and who may use it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extension::DetailsFrom;
use super::schema;

/// What an extension acts on: host details, credentials, resource map, and the namespaces that may use it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "outrigger.dev",
    version = "v1alpha1",
    kind = "ExtensionTarget",
    plural = "extensiontargets",
    shortname = "xtgt",
    category = "outrigger",
    status = "ExtensionTargetStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Extension", "type": "string", "jsonPath": ".spec.extensionRef.name"}"#,
    printcolumn = r#"{"name": "Resource", "type": "string", "jsonPath": ".spec.name"}"#,
    printcolumn = r#"{"name": "Power", "type": "string", "jsonPath": ".status.powerState"}"#,
    printcolumn = r#"{"name": "Last Run", "type": "string", "jsonPath": ".status.lastRun", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct ExtensionTargetSpec {
    /// The extension that acts on it.
    pub extension_ref: ExtensionReference,
    /// Type of the resource: VirtualMachine (in any case; the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == '' || self.lowerAscii() == 'virtualmachine'").message("resourcetype must be VirtualMachine"))]
    pub resourcetype: Option<String>,
    /// The resource's name: `virtualmachinename` in the payload, `{{resourceName}}` in messages. Default: `name` of `vm`, then
    /// metadata.name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// The resource's id: `virtualmachineid` in the payload. Default: `uuid` of `vm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub id: Option<String>,
    /// `externaldetails.host` in the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<128, 4096>")]
    pub host: Option<BTreeMap<String, String>>,
    /// Secrets of the operator's namespace whose entries are added to `host`. They win over equal keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub host_from: Option<Vec<DetailsFrom>>,
    /// `externaldetails.resourcemap` in the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<128, 4096>")]
    pub resourcemap: Option<BTreeMap<String, String>>,
    /// `externaldetails.virtualmachine` in the payload, and `External:` details in `cloudstack.vm.details`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<128, 4096>")]
    pub virtualmachine: Option<BTreeMap<String, String>>,
    /// `cloudstack.vm.details` in the payload; `name` and `uuid` are added where they are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub vm: Option<serde_json::Map<String, serde_json::Value>>,
    /// The namespaces whose runs may use this target. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// The extension that acts on a target, or that a run invokes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionReference {
    /// Name of the OrchestratorExtension.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The namespaces whose runs may use a target: any that is named or selected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Names; "*" is every namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub names: Option<Vec<String>>,
    /// Labels that a namespace must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub selector: Option<LabelSelector>,
}

fn label_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63}},
            "matchExpressions": {
                "type": "array",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 316},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}},
                    },
                },
            },
        },
    })
}

/// What `prepare` may say of a NIC, as CloudStack takes it over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Which NIC of the instance.
    #[schemars(length(min = 1, max = 128))]
    pub uuid: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub mac: Option<String>,
    /// Its IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ip: Option<String>,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ip6: Option<String>,
}

/// Most NICs that a target remembers.
pub const NICS: usize = 64;

/// What is known of a target from runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionTargetStatus {
    /// The generation that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Details that `prepare` answered; they reach later actions as the instance's details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<128, 4096>")]
    pub details: Option<BTreeMap<String, String>>,
    /// When the script ended that answered `details`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub details_time: Option<MicroTime>,
    /// What `prepare` answered of the instance's NICs, by their uuid; it reaches later actions as part of `vm.nics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uuid"]))]
    pub nics: Option<Vec<Nic>>,
    /// When the script ended that answered `nics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub nics_time: Option<MicroTime>,
    /// PowerOn, PowerOff or PowerUnknown, from the last `status` that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub power_state: Option<String>,
    /// When the script ended that told `powerState`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub power_state_time: Option<MicroTime>,
    /// `<namespace>/<name>` of the last run that finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub last_run: Option<String>,
    /// When the script of `lastRun` ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_run_time: Option<MicroTime>,
}
