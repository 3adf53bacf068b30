//! What particular actions print: power states, consoles, prepared instances. Pure: no client, clock, disk or network.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::json::explanation;
use crate::api::target::Nic;
use crate::protocol::MASK;
use crate::validate::quoted;

/// A power state, as CloudStack names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// Runs.
    On,
    /// Does not run.
    Off,
    /// Anything else, also where asking failed.
    Unknown,
}

impl PowerState {
    /// `PowerOn` and `PowerOff` in any case; anything else is unknown.
    pub fn read(word: &str) -> Self {
        match word.trim().to_ascii_lowercase().as_str() {
            "poweron" => Self::On,
            "poweroff" => Self::Off,
            _ => Self::Unknown,
        }
    }

    /// `PowerOn`, `PowerOff` or `PowerUnknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "PowerOn",
            Self::Off => "PowerOff",
            Self::Unknown => "PowerUnknown",
        }
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state that `status` printed: output that does not begin with `{` is the state itself, else its `power_state`.
pub(super) fn status(output: &str, json: Option<&Value>) -> PowerState {
    match json.and_then(|json| json.get("power_state")).and_then(Value::as_str) {
        Some(word) => PowerState::read(word),
        None => PowerState::read(output.trim().trim_matches('"')),
    }
}

/// The states that `statuses` printed, by instance name. The error says what is missing.
pub(super) fn statuses(json: Option<&Value>) -> Result<Value, String> {
    let json = json.ok_or("the output is not JSON")?;
    let status = json.get("status").and_then(Value::as_str).unwrap_or_default();
    if !status.eq_ignore_ascii_case("success") {
        let said = explanation(json).map(|said| format!(", and says {}", quoted(&said))).unwrap_or_default();
        return Err(format!(
            "the output lacks \"status\": \"success\"{said}: ask for each instance by \"status\", as CloudStack then does"
        ));
    }
    let states = json.get("power_state").and_then(Value::as_object);
    let states = states.ok_or("the output lacks the object \"power_state\" of instance names and states")?;
    let read = |(name, state): (&String, &Value)| {
        let state = state.as_str().map_or(PowerState::Unknown, PowerState::read);
        (name.clone(), Value::from(state.as_str()))
    };
    Ok(json!({"status": "success", "power_state": states.iter().map(read).collect::<Map<_, _>>()}))
}

/// How to reach a console. Only `protocol` may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsoleAnswer {
    /// `direct`: the URL is for the user. Anything else, `vnc` if unset, is for a console proxy.
    pub protocol: String,
    /// The whole answer: `url`, or `host` and `port` (a number), and possibly `password` and `passwordonetimeuseonly`.
    pub secret: Value,
}

/// The console that `getconsole` printed; `shown` is the same with its secrets masked. The error says what is missing, in
/// CloudStack's words, without any value.
pub(super) fn console(json: Option<&Value>, shown: Option<&Value>) -> Result<ConsoleAnswer, String> {
    let json = json.filter(|json| json.is_object()).ok_or("Failed to parse output")?;
    let console = json.get("console").and_then(Value::as_object).ok_or("Missing console object in output")?;
    let text = |key: &str| console.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let port = console.get("port").and_then(|port| match port {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    if text("url").is_none() && (text("host").is_none() || port.is_none()) {
        return Err("Missing required fields in output: console needs \"url\", or \"host\" and \"port\"".into());
    }
    let mut secret = console.clone();
    if let Some(port) = port {
        secret.insert("port".into(), Value::from(port));
    }
    let shown = shown.and_then(|shown| shown.get("console")?.get("protocol")?.as_str());
    let protocol = match text("protocol").unwrap_or("vnc") {
        known if known.eq_ignore_ascii_case("direct") || known.eq_ignore_ascii_case("vnc") => known,
        _ => shown.unwrap_or(MASK),
    };
    let protocol = super::tail::head(protocol, 64);
    Ok(ConsoleAnswer { protocol, secret: Value::Object(secret) })
}

/// What `prepare` answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prepared {
    /// Details for the target's status: they reach later actions.
    pub details: BTreeMap<String, String>,
    /// What it said of NICs that have a `uuid`, for the target's status: it reaches later actions.
    pub nics: Vec<Nic>,
    /// Details and NICs that hold something secret, which a status must not, and a later action could not use.
    pub masked: Vec<String>,
    /// NICs that say something and have no `uuid`, by which they would be remembered.
    pub nics_without_uuid: usize,
    /// Whether the answer set a VNC password, which is kept out of every status.
    pub has_password: bool,
}

impl Prepared {
    /// What is not remembered of it, for people.
    pub(super) fn note(&self) -> Option<String> {
        let (masked, without_uuid) = (self.masked.join(", "), self.nics_without_uuid);
        let notes = [
            (!masked.is_empty()).then(|| format!("not remembered, because they hold the value of a Secret: {masked}")),
            (without_uuid > 0).then(|| format!("not remembered, because they have no uuid: {without_uuid} of nics")),
        ];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// What `prepare` printed: nothing means no change; anything else must be an object. The error says what is wrong.
pub(super) fn prepared(output: &str, json: Option<&Value>) -> Result<Prepared, String> {
    if output.trim().is_empty() {
        return Ok(Prepared::default());
    }
    let answer =
        json.and_then(Value::as_object).ok_or("Failed to parse VM: the output is neither empty nor a JSON object")?;
    let as_text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let details = answer.get("details").and_then(Value::as_object).into_iter().flatten();
    let details = details.filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), as_text(value)));
    let (secret, details): (BTreeMap<_, _>, BTreeMap<_, _>) =
        details.partition(|(key, value)| key.contains(MASK) || value.contains(MASK));
    let nics = answer.get("nics").and_then(Value::as_array).into_iter().flatten().filter_map(nic);
    let (nics, without_uuid): (Vec<_>, Vec<_>) = nics.partition(|nic| !nic.uuid.is_empty());
    let (secret_nics, nics): (Vec<_>, Vec<_>) = nics.into_iter().partition(|nic| {
        [Some(&nic.uuid), nic.mac.as_ref(), nic.ip.as_ref(), nic.ip6.as_ref()]
            .into_iter()
            .flatten()
            .any(|text| text.contains(MASK))
    });
    let of_nics = (!secret_nics.is_empty()).then(|| "nics".to_owned());
    let masked = secret.into_keys().map(|key| format!("details.{key}")).chain(of_nics).collect();
    let has_password = answer.contains_key("vncPassword");
    Ok(Prepared { details, nics, masked, nics_without_uuid: without_uuid.len(), has_password })
}

/// Of an answer of `prepare` what is known to be no password: what is remembered, and the words by which answers tell people
/// how an action went. Any other key may be a misspelt `vncPassword`, or lead to one.
pub(super) fn public(answer: &Map<String, Value>) -> Map<String, Value> {
    let is_public = |key: &str, value: &Value| match key {
        "details" => value.is_object() || value.is_null(),
        "nics" => value.is_array() || value.is_null(),
        "status" | "success" | "error" | "message" => value.is_string() || value.is_boolean() || value.is_null(),
        _ => false,
    };
    let public = answer.iter().filter(|(key, value)| is_public(key, value));
    public.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A NIC, as far as CloudStack takes it over; its `uuid` is empty if it has none. `None` for what says nothing.
fn nic(nic: &Value) -> Option<Nic> {
    let text = |key: &str, limit: usize| {
        nic.get(key).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= limit).map(str::to_owned)
    };
    let (mac, ip, ip6) = (text("mac", 64), text("ip", 64), text("ip6", 64));
    let says_something = mac.is_some() || ip.is_some() || ip6.is_some();
    let uuid = text("uuid", 128).unwrap_or_default();
    says_something.then_some(Nic { uuid, mac, ip, ip6 })
}
