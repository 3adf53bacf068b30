//! The caller's stamp: who created a run, signed together with what was asked for. Pure.
//!
//! `kubectl`, backups and other admission plugins may write anything into `spec.caller`; only the operator has the key.

use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use sha2::Sha256;

use super::canonical::canonical;
use crate::api::run::Caller;
use crate::api::{ActionRun, ActionRunSpec};
use crate::digest::{Digest, hex, unhex};

/// Annotation on a run that came back from a backup: it is a record, and never starts.
pub const RESTORED: &str = "outrigger.dev/restored";

/// How far a run's creation and its stamp may be apart: two clocks and one request. Beyond it the run was restored.
pub const STAMP_AGE: SignedDuration = SignedDuration::from_secs(60);

/// What the key is used for; another use of the same key cannot make a stamp.
const PURPOSE: &[u8] = b"outrigger.dev/v1alpha1 ActionRun caller";

/// What a run is called at admission: a name from `generateName` is not drawn yet when the stamp is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunName<'a> {
    /// `metadata.name`.
    Name(&'a str),
    /// `metadata.generateName`, of a run that has no name yet.
    GenerateName(&'a str),
}

/// Why a run must not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// `spec.caller` is absent.
    #[error(
        "spec.caller is missing: the run was created while the operator's admission webhook was not in force; create the run again"
    )]
    Missing,
    /// The code fits neither these facts nor this name and spec.
    #[error(
        "spec.caller does not fit the run: name, spec or caller were changed after admission; create the run again"
    )]
    Forged,
    /// The run brought a stamp that is not this operator's.
    #[error(
        "spec.caller is not this operator's: the run comes from another cluster, from before the operator's key was replaced, or is a changed copy; remove spec.caller to create it as your own"
    )]
    Foreign,
    /// The stamp is genuine, and made for an earlier creation.
    #[error(
        "the run was restored from a backup or copied: it is kept as a record and never starts; create another ActionRun"
    )]
    Restored,
}

/// The stamp for a run that `user` creates at `now`. `cancel` and `caller` of `spec` do not count.
pub fn sign(
    key: &[u8],
    namespace: &str,
    name: RunName<'_>,
    user: &UserInfo,
    now: Timestamp,
    spec: &ActionRunSpec,
) -> Caller {
    let mut caller = Caller {
        username: user.username.clone().unwrap_or_default(),
        uid: user.uid.clone().unwrap_or_default(),
        groups: user.groups.clone().unwrap_or_default(),
        extra: user.extra.clone().unwrap_or_default().into_iter().collect(),
        time: format!("{now:.6}"),
        mac: String::new(),
    };
    caller.mac = hex(&code(key, namespace, name, &caller, spec).finalize().into_bytes());
    caller
}

/// Whether the run may start: its stamp is genuine, fits it as it is now, and was made for this creation.
///
/// # Errors
/// [`StampError`], whose text is for the run's status.
pub fn verify(key: &[u8], run: &ActionRun) -> Result<(), StampError> {
    let caller = is_genuine(key, run)?;
    if run.annotations().contains_key(RESTORED) {
        return Err(StampError::Restored);
    }
    let stamped: Timestamp = caller.time.parse().map_err(|_| StampError::Forged)?;
    let created = run.metadata.creation_timestamp.as_ref().ok_or(StampError::Restored)?;
    if created.0.duration_since(stamped).abs() > STAMP_AGE {
        return Err(StampError::Restored);
    }
    Ok(())
}

/// Whether the stamp was made by the operator for this name, spec and caller, at whatever time.
///
/// # Errors
/// [`StampError::Missing`] and [`StampError::Forged`].
pub fn is_genuine<'a>(key: &[u8], run: &'a ActionRun) -> Result<&'a Caller, StampError> {
    let caller = run.spec.caller.as_ref().ok_or(StampError::Missing)?;
    let mac = unhex(&caller.mac).ok_or(StampError::Forged)?;
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let fits = |name| code(key, namespace, name, caller, &run.spec).verify_slice(&mac).is_ok();
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let prefix = run.metadata.generate_name.as_deref().unwrap_or_default();
    let by_name = !name.is_empty() && fits(RunName::Name(name));
    let by_prefix =
        !prefix.is_empty() && (name.is_empty() || name.starts_with(prefix)) && fits(RunName::GenerateName(prefix));
    if by_name || by_prefix { Ok(caller) } else { Err(StampError::Forged) }
}

fn code(key: &[u8], namespace: &str, name: RunName<'_>, caller: &Caller, spec: &ActionRunSpec) -> Hmac<Sha256> {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    // Every part goes in with its length, every list with its count: no two different stamps share their bytes.
    let mut part = |bytes: &[u8]| {
        mac.update(&(bytes.len() as u64).to_be_bytes());
        mac.update(bytes);
    };
    part(PURPOSE);
    part(namespace.as_bytes());
    let (kind, name) = match name {
        RunName::Name(name) => ("name", name),
        RunName::GenerateName(prefix) => ("generateName", prefix),
    };
    part(kind.as_bytes());
    part(name.as_bytes());
    part(caller.username.as_bytes());
    part(caller.uid.as_bytes());
    part(&(caller.groups.len() as u64).to_be_bytes());
    caller.groups.iter().for_each(|group| part(group.as_bytes()));
    part(&(caller.extra.len() as u64).to_be_bytes());
    for (fact, values) in &caller.extra {
        part(fact.as_bytes());
        part(&(values.len() as u64).to_be_bytes());
        values.iter().for_each(|value| part(value.as_bytes()));
    }
    part(caller.time.as_bytes());
    part(request_digest(spec).to_string().as_bytes());
    mac
}

/// The digest of what was asked for: the spec without `caller` and `cancel`.
fn request_digest(spec: &ActionRunSpec) -> Digest {
    let request = ActionRunSpec { caller: None, cancel: None, ..spec.clone() };
    // Specs hold string keys and finite numbers only, so they always have a JSON form.
    Digest::of(serde_json::to_value(&request).map(|value| canonical(&value)).unwrap_or_default())
}

#[cfg(test)]
#[path = "stamp_tests.rs"]
mod tests;
