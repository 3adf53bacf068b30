//! The payload: the JSON file whose path is the script's second argument. Pure: no client, clock, disk or network.
//!
//! Keys, layering and omissions are CloudStack's: sections and maps that are empty are left out, values of
//! `externaldetails` are strings, and each action gets only the keys that CloudStack sends it. What CloudStack says of an
//! instance twice is there twice, wherever the target says it: its name, its id, and its `External:` details.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::run::Caller;
use crate::api::target::Nic;
use crate::validate::{ActionKind, LifecycleAction, RoleType};

/// Prefix of those details of an instance that scripts find in `externaldetails.virtualmachine`, too, without it.
const EXTERNAL: &str = "External:";
/// Key in `externaldetails.virtualmachine` of the VLAN of the default NIC, for `create` and `start`.
const VLAN: &str = "cloudstack.vlan";

/// The detail by which CloudStack knows that it is about to create an instance, and not only to start it.
const DEPLOYS: &str = "deployvm";

/// Everything that a payload is built from.
#[derive(Debug, Clone)]
pub struct PayloadInput<'a> {
    /// What kind of action it is.
    pub kind: ActionKind,
    /// The name that the script gets.
    pub action: &'a str,
    /// The extension's details, with those from Secrets.
    pub extension: &'a BTreeMap<String, String>,
    /// The target's resource map.
    pub resourcemap: &'a BTreeMap<String, String>,
    /// The target's host details, with those from Secrets.
    pub host: &'a BTreeMap<String, String>,
    /// The target's details of the instance for the external system.
    pub virtualmachine: &'a BTreeMap<String, String>,
    /// The action's details.
    pub action_details: &'a BTreeMap<String, String>,
    /// The target's id.
    pub resource_id: Option<&'a str>,
    /// The target's name.
    pub resource_name: Option<&'a str>,
    /// The target's `vm`, as given.
    pub vm: Option<&'a Map<String, Value>>,
    /// Details that `prepare` answered earlier: they join `vm.details`, and win over equal keys.
    pub prepared: &'a BTreeMap<String, String>,
    /// What `prepare` answered of NICs earlier: it joins `vm.nics` by uuid.
    pub prepared_nics: &'a [Nic],
    /// Who asks, from [`caller`].
    pub caller: Option<Value>,
    /// Typed parameters.
    pub parameters: &'a Map<String, Value>,
}

/// The payload.
pub fn payload(input: &PayloadInput<'_>) -> Value {
    let statuses = input.kind == ActionKind::Lifecycle(LifecycleAction::Statuses);
    let custom = input.kind == ActionKind::Custom;
    let external = external(input);
    let mut details = Map::new();
    section(&mut details, "extension", input.extension);
    section(&mut details, "resourcemap", input.resourcemap);
    section(&mut details, "host", input.host);
    if !statuses {
        section(&mut details, "virtualmachine", &virtualmachine(input, &external));
    }
    if custom {
        section(&mut details, "action", input.action_details);
    }
    let mut payload = Map::new();
    payload.insert("externaldetails".into(), Value::Object(details));
    let mut put = |key: &str, value: Option<Value>| value.map(|value| payload.insert(key.into(), value));
    if !statuses {
        put("virtualmachineid", input.resource_id.map(Value::from));
        put("virtualmachinename", input.resource_name.map(Value::from));
        put("cloudstack.vm.details", vm(input, &external).map(Value::Object));
    }
    put("caller", input.caller.clone());
    if custom {
        put("action", Some(Value::from(input.action)));
        put("parameters", (!input.parameters.is_empty()).then(|| Value::Object(input.parameters.clone())));
    }
    Value::Object(payload)
}

fn section(details: &mut Map<String, Value>, name: &str, entries: &BTreeMap<String, String>) {
    if !entries.is_empty() {
        details.insert(name.into(), json!(entries));
    }
}

/// The instance's details for the external system, without their prefix: those in the target's `vm`, then what its
/// `virtualmachine` says, then what `prepare` answered.
fn external(input: &PayloadInput<'_>) -> BTreeMap<String, String> {
    let given = input.vm.and_then(|vm| vm.get("details")?.as_object()).into_iter().flatten();
    let given = given.filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, text(value)));
    let prepared = input.prepared.iter().map(|(key, value)| (key, value.clone()));
    let plain = |(key, value): (&String, String)| Some((key.strip_prefix(EXTERNAL)?.to_owned(), value));
    let mut entries: BTreeMap<String, String> = given.filter_map(plain).collect();
    entries.extend(input.virtualmachine.clone());
    entries.extend(prepared.filter_map(plain));
    entries
}

/// A detail as text: CloudStack knows no others.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Those, and the VLAN where an instance starts.
fn virtualmachine(input: &PayloadInput<'_>, external: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut entries = external.clone();
    let starts = matches!(input.kind, ActionKind::Lifecycle(LifecycleAction::Create | LifecycleAction::Start));
    if let Some(vlan) = input.vm.filter(|_| starts).and_then(default_vlan) {
        entries.entry(VLAN.into()).or_insert(vlan);
    }
    entries
}

/// The VLAN of the NIC that says `defaultNic`: the part of its `broadcastUri` after `vlan://`.
fn default_vlan(vm: &Map<String, Value>) -> Option<String> {
    let nics = vm.get("nics")?.as_array()?;
    let default = nics.iter().find(|nic| nic.get("defaultNic").and_then(Value::as_bool) == Some(true))?;
    default.get("broadcastUri")?.as_str()?.strip_prefix("vlan://").map(str::to_owned)
}

fn vm(input: &PayloadInput<'_>, external: &BTreeMap<String, String>) -> Option<Map<String, Value>> {
    let mut vm = input.vm.cloned().unwrap_or_default();
    for (key, value) in [("name", input.resource_name), ("uuid", input.resource_id)] {
        if let Some(value) = value {
            vm.entry(key).or_insert_with(|| Value::from(value));
        }
    }
    let deploys = matches!(input.kind, ActionKind::Lifecycle(LifecycleAction::Prepare | LifecycleAction::Create));
    if !(input.prepared.is_empty() && external.is_empty()) || deploys && !vm.is_empty() {
        let details = vm.entry("details").or_insert_with(|| json!({}));
        if !details.is_object() {
            *details = json!({});
        }
        if let Some(details) = details.as_object_mut() {
            details.extend(input.prepared.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))));
            details
                .extend(external.iter().map(|(key, value)| (format!("{EXTERNAL}{key}"), Value::from(value.as_str()))));
            if deploys {
                details.entry(DEPLOYS).or_insert_with(|| "true".into());
            }
        }
    }
    if !input.prepared_nics.is_empty() {
        let nics = vm.entry("nics").or_insert_with(|| json!([]));
        if !nics.is_array() {
            *nics = json!([]);
        }
        if let Some(nics) = nics.as_array_mut() {
            input.prepared_nics.iter().for_each(|nic| join(nics, nic));
        }
    }
    (!vm.is_empty()).then_some(vm)
}

/// Writes what is known of a NIC into the one with its uuid, or adds it.
fn join(nics: &mut Vec<Value>, nic: &Nic) {
    let known = json!(nic);
    let same = |given: &&mut Value| given.get("uuid").and_then(Value::as_str) == Some(nic.uuid.as_str());
    match (nics.iter_mut().find(same).and_then(Value::as_object_mut), known) {
        (Some(given), Value::Object(known)) => given.extend(known),
        (_, known) => nics.push(known),
    }
}

/// `caller` for a payload: the authenticated user, with the role type that the access review granted. Types and role ids
/// are those of CloudStack's built-in roles.
pub fn caller(caller: &Caller, role: RoleType) -> Value {
    let (type_, role_id, role_name) = match role {
        RoleType::Admin => ("ADMIN", "1", "Root Admin"),
        RoleType::ResourceAdmin => ("RESOURCE_DOMAIN_ADMIN", "2", "Resource Admin"),
        RoleType::DomainAdmin => ("DOMAIN_ADMIN", "3", "Domain Admin"),
        RoleType::User => ("NORMAL", "4", "User"),
    };
    let entries = [
        ("id", caller.uid.as_str()),
        ("name", caller.username.as_str()),
        ("type", type_),
        ("roleid", role_id),
        ("rolename", role_name),
        ("roletype", role.as_str()),
    ];
    // Users of certificates have no uid.
    let given = entries.into_iter().filter(|(_, text)| !text.is_empty());
    Value::Object(given.map(|(key, text)| (key.to_owned(), Value::from(text))).collect())
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
