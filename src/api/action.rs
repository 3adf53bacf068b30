//! The extension's own actions and their parameters, as the manifest spells them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// One of the extension's own actions.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomAction {
    /// Name: letters, digits, spaces, `_` and `-`; handed to the script as it is.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9 _-]+$"))]
    #[x_kube(validation = Rule::new("!(self in ['prepare', 'create', 'start', 'stop', 'reboot', 'delete', 'status', 'statuses', 'getconsole'])").message("a lifecycle action, which every extension has, is no name of a custom action"))]
    pub name: String,
    /// Name shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// What it acts on: VirtualMachine (in any case; the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == '' || self.lowerAscii() == 'virtualmachine'").message("resourcetype must be VirtualMachine"))]
    pub resourcetype: Option<String>,
    /// Whether it may run. Unset means false, as in CloudStack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Seconds it may take; 0 or unset is the operator's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604800))]
    pub timeout: Option<u32>,
    /// Role types whose holders may run it: Admin, ResourceAdmin, DomainAdmin, User.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4), inner(length(max = 32)))]
    #[x_kube(validation = Rule::new("self.all(role, role in ['Admin', 'ResourceAdmin', 'DomainAdmin', 'User'])").message("allowedroletypes must be of Admin, ResourceAdmin, DomainAdmin, User"))]
    pub allowedroletypes: Option<Vec<String>>,
    /// Message of a run that succeeded; `{{actionName}}`, `{{extensionName}}` and `{{resourceName}}` are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub successmessage: Option<String>,
    /// Message of a run that failed, with the same tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub errormessage: Option<String>,
    /// Handed to the script as `externaldetails.action`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string_map::<32, 4096>")]
    pub details: Option<BTreeMap<String, String>>,
    /// What a run may or must give.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Option<Vec<Parameter>>,
}

/// A parameter of an action.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.validationformat) || self.validationformat.upperAscii() == 'NONE' || (self.validationformat.upperAscii() == 'DECIMAL' ? 'NUMBER' : 'STRING') == self.type.upperAscii()").message("validationformat must fit the type: for STRING NONE, EMAIL, PASSWORD, URL or UUID, for NUMBER NONE or DECIMAL, for others NONE"),
    validation = Rule::new("!has(self.valueoptions) || self.valueoptions == '' || self.type.upperAscii() in ['STRING', 'NUMBER']").message("valueoptions are not supported for BOOLEAN and DATE")
)]
pub struct Parameter {
    /// Name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// STRING, NUMBER, BOOLEAN or DATE, in any case.
    #[serde(rename = "type")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.upperAscii() in ['STRING', 'NUMBER', 'BOOLEAN', 'DATE']").message("type must be one of STRING, NUMBER, BOOLEAN, DATE"))]
    pub type_: String,
    /// NONE; for NUMBER also DECIMAL; for STRING also EMAIL, PASSWORD, URL, UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.upperAscii() in ['NONE', 'DECIMAL', 'EMAIL', 'PASSWORD', 'URL', 'UUID']").message("validationformat must be one of NONE, DECIMAL, EMAIL, PASSWORD, URL, UUID"))]
    pub validationformat: Option<String>,
    /// Whether a run must give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// The allowed values, separated by commas (STRING and NUMBER only).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub valueoptions: Option<String>,
}
