//! What an outcome says of its target: pure. A run that ended earlier, or a report that comes again, never replaces what
//! a script found later.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use crate::action::Verdict;
use crate::api::target::{NICS, Nic};
use crate::api::{ActionRun, ExtensionTarget, Phase};
use crate::protocol::Outcome;

/// The fields of the target's status that change, as a merge patch has them; `None` if nothing does. Each fact is ordered
/// on its own, so that a power state that is newer than what `prepare` answered does not keep that out.
pub fn after(target: &ExtensionTarget, run: &ActionRun, outcome: &Outcome, verdict: &Verdict) -> Option<Value> {
    let ended = script_end(run, outcome)?;
    if target.metadata.creation_timestamp.as_ref().is_some_and(|created| created.0 > ended) {
        // Another target of that name.
        return None;
    }
    let old = target.status.clone().unwrap_or_default();
    let is_newer = |known: Option<&MicroTime>| known.is_none_or(|known| known.0 < ended);
    let ended_at = json!(MicroTime(ended));
    let mut status = Map::new();
    let mut put = |time: &str, field: &str, value: Value| {
        status.insert(field.to_owned(), value);
        status.insert(time.to_owned(), ended_at.clone());
    };
    if is_newer(old.last_run_time.as_ref()) {
        let name = format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any());
        put("lastRunTime", "lastRun", name.into());
    }
    let is_success = verdict.phase == Phase::Succeeded;
    if let Some(power) = verdict.power.filter(|_| is_success && is_newer(old.power_state_time.as_ref())) {
        put("powerStateTime", "powerState", power.as_str().into());
    }
    let prepared = verdict.prepared.as_ref().filter(|prepared| is_success && !prepared.details.is_empty());
    if let Some(prepared) = prepared.filter(|_| is_newer(old.details_time.as_ref())) {
        put("detailsTime", "details", json!(prepared.details));
    }
    let nics = verdict.prepared.as_ref().filter(|_| is_success).map(|prepared| prepared.nics.as_slice());
    if let Some(nics) = nics.filter(|nics| !nics.is_empty() && is_newer(old.nics_time.as_ref())) {
        put("nicsTime", "nics", json!(merged(old.nics.unwrap_or_default(), nics)));
    }
    (!status.is_empty()).then_some(Value::Object(status))
}

/// What is known of NICs, with what is new of each: by uuid, as CloudStack does it. Beyond the bound those are forgotten that
/// the last answers did not name.
fn merged(mut known: Vec<Nic>, new: &[Nic]) -> Vec<Nic> {
    let mut merged: Vec<Nic> = Vec::with_capacity(new.len() + known.len());
    for Nic { uuid, mac, ip, ip6 } in new.iter().cloned() {
        let take = |nics: &mut Vec<Nic>| nics.iter().position(|nic| nic.uuid == uuid).map(|at| nics.remove(at));
        let old = take(&mut merged).or_else(|| take(&mut known));
        let (old_mac, old_ip, old_ip6) = old.map_or((None, None, None), |old| (old.mac, old.ip, old.ip6));
        merged.push(Nic { uuid, mac: mac.or(old_mac), ip: ip.or(old_ip), ip6: ip6.or(old_ip6) });
    }
    merged.append(&mut known);
    merged.truncate(NICS);
    merged
}

/// When the script ended, by the leader's clock: its claim and the time that it took. The report may come much later.
fn script_end(run: &ActionRun, outcome: &Outcome) -> Option<Timestamp> {
    let claimed = run.status.as_ref()?.attempts.last()?.claimed_at.as_ref()?.0;
    let took = SignedDuration::from_millis(i64::try_from(outcome.duration_millis).unwrap_or(i64::MAX));
    let ended = claimed.saturating_add(took).unwrap_or(Timestamp::MAX);
    // As status keeps it, so that the same report is never newer than itself.
    Timestamp::from_microsecond(ended.as_microsecond()).ok()
}

#[cfg(test)]
#[path = "target_status_tests.rs"]
mod tests;
