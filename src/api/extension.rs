//! `OrchestratorExtension`: the manifest, plus how to get it and keep it installed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::action::{CustomAction, Parameter};
pub use super::runtime::{EgressPort, EgressRule, NetworkPolicy, Runtime};
use super::schema;

/// An extension that orchestrates external infrastructure, as in Apache CloudStack's extension manifest.
/// A resource may hold only a `source`: the manifest at the root of what is fetched then fills what is unset here.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "outrigger.dev",
    version = "v1alpha1",
    kind = "OrchestratorExtension",
    plural = "orchestratorextensions",
    shortname = "oext",
    category = "outrigger",
    status = "OrchestratorExtensionStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.artifact.revision", priority = "1"),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".status.resolved.enabled", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters: it is a directory name and a label value")
)]
#[x_kube(
    validation = Rule::new("has(self.source) || has(self.manifestURL)").message("one of source and manifestURL is required: where the extension's files come from")
)]
pub struct OrchestratorExtensionSpec {
    /// The extension's own name where it is no legal object name; `{{extensionName}}` in messages. Default: metadata.name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Name shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// What the extension does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Semantic version of the extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^(v?[0-9]+([.][0-9]+){0,2}([-+][0-9A-Za-z.+-]+)?)?$')").message("version must be a semantic version such as \"1.2.3\" or \"1.2.3-rc.1\""))]
    pub version: Option<String>,
    /// Who maintains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub maintainer: Option<String>,
    /// The project's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub homepage: Option<String>,
    /// Kind of extension: Orchestrator.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == 'Orchestrator'").message("type must be \"Orchestrator\""))]
    pub type_: Option<String>,
    /// Where the files come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Which contract the extension needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<Compatibility>,
    /// What is started, and where the tree is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Entrypoint>,
    /// Options of the type Orchestrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<OrchestratorOptions>,
    /// Free-form details, handed to the script as `externaldetails.extension`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<128, 4096>")]
    pub details: Option<BTreeMap<String, String>>,
    /// Whether actions may run. Unset means true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The extension's own actions, besides the lifecycle ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub custom_actions: Option<Vec<CustomAction>>,

    /// Link to a manifest: it is fetched first, then the source that it names.
    #[serde(rename = "manifestURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(?i:https?)://[^/]')").message("manifestURL must start with https:// or http:// and name a host"))]
    pub manifest_url: Option<String>,
    /// Secrets of the operator's namespace whose entries are added to `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub details_from: Option<Vec<DetailsFrom>>,
    /// How often the source is checked again, as a Go duration ("10m"). Default 10m, at least 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    pub interval: Option<String>,
    /// Stop fetching and installing; what is installed keeps running actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How many former revisions are kept for rollback. Default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub revision_history_limit: Option<u32>,
    /// Tree digest of a kept revision (`status.history`, or what is installed) to run instead of the source's newest:
    /// rollback. Tree and manifest are those of that revision; nothing is fetched. Unset, the source's newest returns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub revision: Option<String>,

    /// Also fail a run whose output is a JSON object that says `success: false` or `status: error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_result: Option<bool>,
    /// Hand parameters that no definition names to the script, instead of refusing them. CloudStack does so where the action
    /// defines any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unknown_parameters: Option<bool>,
    /// Names under which the script knows an action: `create: deploy` sends "deploy" where a run asks for "create".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<32, 128>")]
    pub action_aliases: Option<BTreeMap<String, String>>,
    /// How the Jobs of its actions look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

/// Where the files come from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.url) != has(self.configMapRef)").message("one of source.url and source.configMapRef is required, and not both"),
    validation = Rule::new("!has(self.type) || (self.type.lowerAscii() == 'configmap') == has(self.configMapRef)").message("source.configMapRef goes with type configMap, and with no other"),
    validation = Rule::new("!has(self.type) || !has(self.url) || (self.type.lowerAscii() == 'oci') == self.url.startsWith('oci://')").message("a source.url that begins with oci:// goes with type oci, and with no other"),
    validation = Rule::new("!has(self.refs) || self.refs == '' || !has(self.type) || !(self.type.lowerAscii() in ['archive', 'configmap'])").message("source.refs goes with type git or oci"),
    validation = Rule::new("!has(self.digest) || !(has(self.type) ? self.type.lowerAscii() == 'git' : has(self.url) && self.url.matches('^[hH].*[.]git$'))").message("source.digest pins an archive or an artifact in a registry; a git repository is pinned by a commit in source.refs"),
    validation = Rule::new("!has(self.verify) || !(has(self.type) ? self.type.lowerAscii() == 'git' : has(self.url) && self.url.matches('^[hH].*[.]git$'))").message("source.verify is for archives and artifacts in a registry: signatures of git repositories are not checked"),
    validation = Rule::new("!has(self.insecure) || !self.insecure || (has(self.url) && self.url.startsWith('oci://'))").message("source.insecure goes with type oci, and with no other")
)]
pub struct Source {
    /// `git`, `archive`, `oci` or `configMap`, in any case. Unset: `configMap` with a `configMapRef`, `oci` for a URL that begins
    /// with "oci://", `git` for one that ends in ".git" or of a known forge, else `archive`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.lowerAscii() in ['git', 'archive', 'oci', 'configmap']").message("source.type must be one of git, archive, oci, configMap"))]
    pub type_: Option<String>,
    /// `https://` or `http://` address of the repository or the archive, or `oci://host[:port]/repository` of an artifact in a
    /// registry, without its tag. Required unless `configMapRef` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^((?i:https?)|oci)://[^/]')").message("source.url must start with https://, http:// or oci:// and name a host"), validation = Rule::new("!self.matches('^[^/]*//[^/?#]*@')").message("source.url must not hold a user name or password: name a Secret in source.secretRef"))]
    pub url: Option<String>,
    /// configMap: the ConfigMap of the operator's namespace whose keys are the files, at the root. Files that begin with
    /// `#!` are executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapReference>,
    /// oci: ask the registry over plain HTTP, without TLS. Credentials then travel readable, to the origin
    /// `http://host[:port]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// git: branch, tag, full ref, commit or semantic version range of tags ("^1.2", "1.x", ">=1.0.0 <2.0.0"); unset means the
    /// remote's default branch. oci: tag or semantic version range; unset means "latest".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub refs: Option<String>,
    /// archive: the SHA-256 that the fetched bytes must have, as `sha256:<hex>`. oci: that of the manifest, which is then fetched
    /// whatever `refs` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Sub-directory that is the extension's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(part, part == '..')").message("source.path must be relative to what is fetched and must not contain \"..\""))]
    pub path: Option<String>,
    /// Secret of the operator's namespace with credentials, CA or client certificate. It must name the origins that may
    /// receive them in its annotation `outrigger.dev/allowed-origins`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// archive, oci: who must have signed it. Unset, signatures are not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
}

/// A ConfigMap of the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapReference {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Secret of the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Secret of the operator's namespace whose entries become details.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetailsFrom {
    /// The Secret.
    pub secret_ref: SecretReference,
}

/// Who must have signed a source. It is verified before any of it is used.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// `cosign` (signatures made with a key; certificates and the transparency log are not consulted) or `minisign`.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self in ['cosign', 'minisign']").message("source.verify.provider must be one of cosign, minisign"))]
    pub provider: String,
    /// Secret of the operator's namespace with public keys: every entry whose name ends in `.pub`. A signature made with
    /// any one of them is enough. (It is sent nowhere, and needs no annotation.)
    pub secret_ref: SecretReference,
    /// archive: where the signature is. Unset, it is at the archive's address with `.minisig`, or with `.sig`,
    /// `.sigstore.json` or `.bundle` (cosign), at the end of the path.
    #[serde(rename = "signatureURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(?i:https?)://[^/]')").message("source.verify.signatureURL must start with https:// or http:// and name a host"))]
    pub signature_url: Option<String>,
}

/// Which contract the extension needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compatibility {
    /// CloudStack's side of the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudstack: Option<CloudStackCompatibility>,
}

/// CloudStack's side of the contract.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudStackCompatibility {
    /// Lowest contract level ("4.23.0"; "4.23" and four parts are understood).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^(v?[0-9]+([.][0-9]+){0,3}(-.*)?)?$')").message("minVersion must be a version such as \"4.23.0\""))]
    pub min_version: Option<String>,
}

/// What is started, and where the tree is mounted.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entrypoint {
    /// Language of the script: how it is started when it is not executable and has no `#!` line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub language: Option<String>,
    /// Path of the script, relative to the extension's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(part, part == '..')").message("entrypoint.path must be relative to the extension's root and must not contain \"..\""))]
    pub path: Option<String>,
    /// Absolute directory at which the tree is mounted. Default `/usr/share/cloudstack-management/extensions/<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.split('/').exists(part, part == '..')").message("entrypoint.targetDir must be an absolute path without \"..\""))]
    pub target_dir: Option<String>,
}

/// Options of the type Orchestrator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrchestratorOptions {
    /// Whether CloudStack calls `prepare` before it first starts an instance. Outrigger calls nothing by itself: `prepare` is a
    /// run of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires_prepare_vm: Option<bool>,
}

/// What the controller last saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrchestratorExtensionStatus {
    /// The generation that the conditions speak of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled (kstatus), and SourceFetched, SourceVerified, Compatible, Installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// The effective manifest of what is installed: the resource, filled from the fetched manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub resolved: Option<OrchestratorExtensionSpec>,
    /// Former revisions that are kept, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub history: Vec<Artifact>,
    /// The value of the annotation `reconcile.outrigger.dev/requestedAt` that was last answered: at most its
    /// first 1024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_handled_reconcile_at: Option<String>,
}

/// A revision on the volume: tree and manifest, which stay together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// What was fetched: `main@sha1:<commit>` for git, `sha256:<hex>` for an archive, `configmap/<name>@sha256:<hex>`.
    #[schemars(length(max = 512))]
    pub revision: String,
    /// Digest of the installed tree.
    #[schemars(length(max = 71))]
    pub tree_digest: String,
    /// Digest of the effective manifest that was installed with it.
    #[schemars(length(max = 71))]
    pub manifest_digest: String,
    /// Bytes of the tree's files.
    pub size: i64,
    /// Number of the tree's files.
    pub files: i64,
    /// Whose signature stands for it, where `source.verify` asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// Whether the manifest behind `manifestURL`, which nobody can sign, took part in its manifest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linked_manifest: bool,
    /// `ETag` of the archive, as its server sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub etag: Option<String>,
    /// `Last-Modified` of the archive, as its server sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_modified: Option<String>,
    /// When it was installed.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_update_time: Time,
}

/// A signature that was verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// `cosign` or `minisign`.
    #[schemars(length(max = 16))]
    pub provider: String,
    /// The entry of the Secret that held the key.
    #[schemars(length(max = 253))]
    pub key: String,
    /// Digest of that key.
    #[schemars(length(max = 71))]
    pub key_digest: String,
}
