//! What admission says about a request. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, Operation};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::canonical::canonical;
use super::limits;
use super::stamp::{RESTORED, RunName, StampError, is_genuine, sign};
use crate::api::{ActionRun, EXTENSION_FINALIZER, OrchestratorExtension, Phase, RUN_FINALIZER};

/// A request to admit.
pub type Request = AdmissionRequest<DynamicObject>;

/// Operations of a JSON patch (RFC 6902).
pub type Patch = Vec<Value>;

/// How many changed fields a refusal names.
const NAMED_CHANGES: usize = 5;

/// Whether the request passes unseen: deletions, updates of what is being deleted (a finalizer must always come off),
/// and updates by the operator itself. Creation never does: an administrator may run the operator as himself.
pub fn is_exempt(request: &Request, operator: Option<&str>) -> bool {
    match request.operation {
        Operation::Create => false,
        Operation::Update => {
            let deleting = |object: &DynamicObject| object.metadata.deletion_timestamp.is_some();
            let by_operator = operator.is_some() && request.user_info.username.as_deref() == operator;
            by_operator || request.old_object.as_ref().is_some_and(deleting)
        }
        Operation::Delete | Operation::Connect => true,
    }
}

/// The changes to a run: on creation the caller's stamp and the finalizer, and `generateName` is taken from one that brings a
/// name; on update the old stamp and `generateName` are put back.
/// A run whose spec cannot be read is left as it is: the schema, asked next, names the field.
///
/// # Errors
/// The caller is in more groups than a run records. Or the run brings a stamp that does not verify. It may be that of a run which was started elsewhere, or before the key was
/// lost, and came back from a backup: stamped afresh it would be started again.
pub fn mutate_run(request: &Request, key: &[u8], now: Timestamp) -> Result<Patch, Vec<String>> {
    match (&request.operation, &request.object, &request.old_object) {
        (Operation::Create, Some(object), _) => mutate_created(request, object, key, now),
        (Operation::Update, Some(object), Some(old)) => Ok(mutate_updated(object, old)),
        _ => Ok(Patch::new()),
    }
}

fn mutate_created(request: &Request, object: &DynamicObject, key: &[u8], now: Timestamp) -> Result<Patch, Vec<String>> {
    let Ok(mut run) = parse::<ActionRun>(object) else { return Ok(Patch::new()) };
    let mut patch = Patch::new();
    let namespace = request.namespace.clone().unwrap_or_default();
    run.metadata.namespace = Some(namespace.clone());
    if run.spec.caller.is_some() {
        if is_genuine(key, &run).is_err() {
            return Err(vec![StampError::Foreign.to_string()]);
        }
        patch.push(restored_annotation(object, "true"));
    } else {
        let name = match (run.metadata.name.as_deref(), run.metadata.generate_name.as_deref()) {
            (Some(name), _) if !name.is_empty() => RunName::Name(name),
            (_, prefix) => RunName::GenerateName(prefix.unwrap_or_default()),
        };
        let caller = sign(key, &namespace, name, &request.user_info, now, &run.spec);
        if let Some(problem) = limits::caller(&caller) {
            return Err(vec![problem]);
        }
        patch.push(json!({"op": "add", "path": "/spec/caller", "value": caller}));
        // The API draws a name only after this. A run that has one was not named from the prefix, and must not look so: runs
        // with drawn names are collected, and whatever applied this one would start it again.
        if matches!(name, RunName::Name(_)) && run.metadata.generate_name.is_some() {
            patch.push(json!({"op": "remove", "path": "/metadata/generateName"}));
        }
    }
    patch.extend(missing_finalizer(object, RUN_FINALIZER));
    Ok(patch)
}

fn missing_finalizer(object: &DynamicObject, wanted: &str) -> Option<Value> {
    let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|finalizer| finalizer == wanted) {
        return None;
    }
    finalizers.push(wanted.to_owned());
    Some(json!({"op": "add", "path": "/metadata/finalizers", "value": finalizers}))
}

fn mutate_updated(object: &DynamicObject, old: &DynamicObject) -> Patch {
    let mut patch = Patch::new();
    let caller = |object: &DynamicObject| object.data.pointer("/spec/caller").cloned();
    match (caller(old), caller(object)) {
        (None, Some(_)) => patch.push(json!({"op": "remove", "path": "/spec/caller"})),
        (Some(old), new)
            if new.as_ref() != Some(&old) && object.data.pointer("/spec").is_some_and(Value::is_object) =>
        {
            patch.push(json!({"op": "add", "path": "/spec/caller", "value": old}));
        }
        _ => {}
    }
    if let Some(mark) = annotation(old, RESTORED)
        && annotation(object, RESTORED) != Some(mark)
    {
        patch.push(restored_annotation(object, mark));
    }
    // The API lets it be written afterwards, too.
    match (old.metadata.generate_name.as_ref(), object.metadata.generate_name.as_ref()) {
        (Some(old), new) if new != Some(old) => {
            patch.push(json!({"op": "add", "path": "/metadata/generateName", "value": old}));
        }
        (None, Some(_)) => patch.push(json!({"op": "remove", "path": "/metadata/generateName"})),
        _ => {}
    }
    patch
}

fn restored_annotation(object: &DynamicObject, mark: &str) -> Value {
    let mut annotations = object.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(RESTORED.to_owned(), mark.to_owned());
    json!({"op": "add", "path": "/metadata/annotations", "value": annotations})
}

/// The run whose meaning is to be judged: one that is created, and that may start. For any other the API is not asked: who
/// has no genuine stamp costs nothing but this.
pub fn run_to_check(request: &Request, key: &[u8]) -> Option<ActionRun> {
    let object = request.object.as_ref().filter(|_| request.operation == Operation::Create)?;
    if annotation(object, RESTORED).is_some() {
        return None;
    }
    let mut run: ActionRun = parse(object).ok()?;
    run.metadata.namespace.clone_from(&request.namespace);
    is_genuine(key, &run).is_ok().then_some(run)
}

/// Judges a run after every mutation: on creation its stamp, its sizes and its meaning, in which the caller found
/// `refusals`; on update that nothing but `cancel` changed, and that only before the run ended.
///
/// # Errors
/// Everything that is wrong, for the user who asked.
pub fn validate_run(request: &Request, key: &[u8], refusals: &[String]) -> Result<(), Vec<String>> {
    match (&request.operation, &request.object, &request.old_object) {
        (Operation::Create, Some(object), _) => {
            let mut run: ActionRun = parse(object)?;
            run.metadata.namespace = request.namespace.clone();
            if let Err(error) = is_genuine(key, &run) {
                return Err(vec![format!(
                    "{error}; another mutating webhook may have changed the run after its caller was stamped"
                )]);
            }
            let mut problems = limits::problems(&run.spec);
            // A record from a backup never starts: what it refers to may be gone.
            if annotation(object, RESTORED).is_none() {
                // What is wrong with a parameter on its own is said by its meaning too, in the same words.
                problems.retain(|problem| !refusals.iter().any(|refusal| refusal.contains(problem)));
                problems.extend_from_slice(refusals);
            }
            if problems.is_empty() { Ok(()) } else { Err(problems) }
        }
        (Operation::Update, Some(object), Some(old)) => validate_updated(object, old),
        _ => Ok(()),
    }
}

fn validate_updated(object: &DynamicObject, old: &DynamicObject) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    let part = |object: &DynamicObject, path: &str| object.data.pointer(path).cloned().unwrap_or(Value::Null);
    let request = |object: &DynamicObject| {
        let mut spec = part(object, "/spec");
        if let Some(fields) = spec.as_object_mut() {
            fields.shift_remove("cancel");
            fields.shift_remove("caller");
        }
        spec
    };
    let mut changed = Vec::new();
    changes(&request(old), &request(object), "spec".to_owned(), &mut changed);
    if !changed.is_empty() {
        let more = changed.len().saturating_sub(NAMED_CHANGES);
        changed.truncate(NAMED_CHANGES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        problems.push(format!(
            "{}{more} cannot be changed: an ActionRun is immutable but for spec.cancel; create another ActionRun",
            changed.join(", ")
        ));
    }
    if canonical(&part(old, "/spec/caller")) != canonical(&part(object, "/spec/caller")) {
        problems.push("spec.caller cannot be changed: it is written by the operator's admission alone".to_owned());
    }
    if annotation(old, RESTORED).is_some() && annotation(object, RESTORED).is_none() {
        problems.push(format!("metadata.annotations[{RESTORED:?}] cannot be removed: a restored run never starts"));
    }
    let (was, is) = (part(old, "/spec/cancel"), part(object, "/spec/cancel"));
    if was == Value::Bool(true) && is != Value::Bool(true) {
        problems
            .push("spec.cancel cannot be taken back: the run is being stopped; create another ActionRun".to_owned());
    } else if was != is
        && let Some(phase) = end(old)
    {
        problems.push(format!(
            "spec.cancel cannot be changed: the run has ended already (status.phase is {})",
            phase.as_str()
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// How the run ended, if it has.
fn end(run: &DynamicObject) -> Option<Phase> {
    let phase = run.data.pointer("/status/phase").and_then(|phase| Phase::deserialize(phase).ok());
    phase.filter(|phase| phase.is_finished())
}

/// The paths at which two values differ, each as deep as it is in both.
fn changes(old: &Value, new: &Value, path: String, found: &mut Vec<String>) {
    if canonical(old) == canonical(new) {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        found.push(path);
        return;
    };
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => changes(old, new, format!("{path}.{key}"), found),
            _ => found.push(format!("{path}.{key}")),
        }
    }
}

/// Judges an extension through `check`; the change to a created one that passes: the finalizer, which the controller
/// would have to write otherwise. An update that leaves the spec as it is passes: labels stay editable. An extension
/// that cannot be read is left as it is: the schema, asked next, names the field.
///
/// # Errors
/// Everything that is wrong, for the user who asked.
pub fn mutate_extension(
    request: &Request,
    check: &dyn Fn(&OrchestratorExtension) -> Result<(), Vec<String>>,
) -> Result<Patch, Vec<String>> {
    let Some(object) = &request.object else { return Ok(Patch::new()) };
    let spec = |object: &DynamicObject| object.data.pointer("/spec").map(canonical);
    if request.old_object.as_ref().is_some_and(|old| spec(old) == spec(object)) {
        return Ok(Patch::new());
    }
    let Ok(extension) = parse(object) else { return Ok(Patch::new()) };
    check(&extension)?;
    let is_created = request.operation == Operation::Create;
    Ok(missing_finalizer(object, EXTENSION_FINALIZER).filter(|_| is_created).into_iter().collect())
}

fn annotation<'a>(object: &'a DynamicObject, name: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn parse<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, Vec<String>> {
    serde_json::to_value(object)
        .and_then(serde_json::from_value)
        .map_err(|error| vec![format!("object cannot be read: {error}")])
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
