//! A run's request, validated against what is installed: pure. Whether it may start, and what its runner gets.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector, SelectorExt as _};

use super::decide::Start;
use super::rights::Rights;
use super::secret_parameters::SecretParameters;
use crate::action::{self, PayloadInput};
use crate::admission::stamp::StampError;
use crate::api::conditions::{INSTALLED, READY, find};
use crate::api::run::RunRevision;
use crate::api::target::AllowedNamespaces;
use crate::api::{
    ActionRun, ExtensionTarget, ExtensionTargetSpec, OrchestratorExtension, OrchestratorExtensionSpec, Reason,
};
use crate::manifest;
use crate::protocol::{ClaimGrant, script_env};
use crate::validate::{self, ContractLevels, Extension, Invocation, Refusal, RoleType, RunLimits, Runtime};

/// What a run refers to, as it is now.
#[derive(Clone)]
pub struct References<'a> {
    /// The extension that it names.
    pub extension: Option<&'a OrchestratorExtension>,
    /// The target that it names.
    pub target: Option<&'a ExtensionTarget>,
    /// Labels of the run's namespace, where the target selects by them.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// Whether the caller's stamp verifies.
    pub stamp: Result<(), StampError>,
    /// What was asked for the run.
    pub answers: &'a Answers,
}

/// What the API was asked about a run, beyond the objects that it refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// What the caller may do.
    pub rights: Rights,
    /// Values of parameters from Secrets.
    pub parameters: SecretParameters,
}

impl Answers {
    /// Nothing was asked.
    pub const NONE: Self = Self { rights: Rights::NotAsked, parameters: SecretParameters::NotRead };
}

/// What the operator's flags say about requests.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Timeouts.
    pub limits: RunLimits,
    /// Contract levels that are served.
    pub contracts: ContractLevels,
}

/// A request that may start.
#[derive(Clone, Debug)]
pub struct Request {
    /// The extension, validated.
    pub extension: Extension,
    /// The action, validated.
    pub invocation: Invocation,
    /// What the run is pinned to.
    pub revision: RunRevision,
    /// The highest role type that the caller holds; `User` where rights were not asked.
    pub role_type: RoleType,
    target: Option<ExtensionTarget>,
}

/// Validates a run's request. What cannot be known yet, because a target or a Secret is not there, hides nothing else that is
/// wrong.
///
/// # Errors
/// [`Start::Wait`] or [`Start::Never`], with the reason.
pub fn request(run: &ActionRun, references: &References<'_>, policy: &Policy) -> Result<Request, Start> {
    match &references.stamp {
        Ok(()) => {}
        Err(StampError::Restored) => return Err(never(Reason::Restored, StampError::Restored.to_string())),
        Err(error) => return Err(never(Reason::NotAdmitted, error.to_string())),
    }
    // Before anything else: whoever may not use it is told nothing about it.
    if let Some(refusal) = joined(references.answers.rights.refusals(run)) {
        return Err(Start::Never(refusal));
    }
    let mut obstacles = Obstacles::default();
    let installed = obstacles.pass(installed(run, references.extension, policy));
    obstacles.pass(drifted(references.extension).map_or(Ok(()), Err));
    let inline = inline_target(run);
    let named = obstacles.pass(named_target(run, references)).flatten();
    let target = inline.as_ref().or(named);
    let none = BTreeMap::new();
    let secret = match &references.answers.parameters {
        SecretParameters::NotRead => &none,
        SecretParameters::Values(values) => values,
        SecretParameters::Refused(start) => obstacles.pass(Err(start.clone())).unwrap_or(&none),
    };
    let request = installed.and_then(|(extension, revision)| {
        let spec = target.map(|target| &target.spec);
        let needed = validate::roles_needed(&run.spec.action, &extension);
        let role_type = obstacles.pass(references.answers.rights.role(run, needed).map_err(Start::Never));
        let invocation = match validate::run(&run.spec, &extension, spec, secret, &policy.limits) {
            Ok(invocation) => Some(invocation),
            Err(refusals) => {
                obstacles.refusals.extend(refusals);
                None
            }
        };
        Some(Request::validated(extension, invocation?, revision, role_type?, target.cloned()))
    });
    match (obstacles.start(), request) {
        (None, Some(request)) => Ok(request),
        (Some(start), _) => Err(start),
        (None, None) => Err(never(Reason::ValidationFailed, "not valid".to_owned())),
    }
}

/// What keeps a run from starting: everything is told at once.
#[derive(Default)]
struct Obstacles {
    refusals: Vec<Refusal>,
    waits: Vec<Refusal>,
}

impl Obstacles {
    /// The value, or nothing and one obstacle more.
    fn pass<T>(&mut self, result: Result<T, Start>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(Start::Never(refusal)) => self.refusals.push(refusal),
            Err(Start::Wait(refusal)) => self.waits.push(refusal),
            Err(Start::Ready { .. }) => {}
        }
        None
    }

    /// What they come to: nothing is waited for in vain.
    fn start(self) -> Option<Start> {
        joined(self.refusals).map(Start::Never).or_else(|| joined(self.waits).map(Start::Wait))
    }
}

fn never(reason: Reason, message: String) -> Start {
    Start::Never(Refusal::new(reason, message))
}

fn wait(reason: Reason, message: String) -> Start {
    Start::Wait(Refusal::new(reason, message))
}

/// The extension that the run names, as it is installed.
fn installed(
    run: &ActionRun,
    extension: Option<&OrchestratorExtension>,
    policy: &Policy,
) -> Result<(Extension, RunRevision), Start> {
    let name = &run.spec.extension_ref.name;
    let Some(object) = extension else {
        return Err(wait(Reason::ExtensionNotFound, format!("extension {name:?} does not exist")));
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Err(never(Reason::ExtensionDeleted, format!("extension {name:?} is being deleted")));
    }
    let status = object.status.as_ref();
    let (Some(artifact), Some(effective)) = (status.and_then(|status| status.artifact.as_ref()), effective(object))
    else {
        let why = status
            .and_then(|status| find(&status.conditions, READY))
            .map(|ready| format!(": {}", ready.message))
            .unwrap_or_default();
        return Err(wait(Reason::ExtensionNotInstalled, format!("extension {name:?} is not installed yet{why}")));
    };
    let extension = validate::installed_extension(name, &effective, &policy.contracts)
        .map_err(|problems| wait(problems.reason(), format!("extension {name:?}: {}", problems.in_one_line())))?;
    let revision =
        RunRevision { tree_digest: artifact.tree_digest.clone(), manifest_digest: artifact.manifest_digest.clone() };
    Ok((extension, revision))
}

/// The manifest that counts, of an extension that has one.
fn effective(extension: &OrchestratorExtension) -> Option<OrchestratorExtensionSpec> {
    let resolved = extension.status.as_ref()?.resolved.as_ref()?;
    Some(manifest::effective(resolved, &extension.spec))
}

/// An extension whose tree is not what was installed.
fn drifted(extension: Option<&OrchestratorExtension>) -> Option<Start> {
    let extension = extension?;
    let status = extension.status.as_ref().filter(|status| status.artifact.is_some())?;
    let installed = find(&status.conditions, INSTALLED).filter(|installed| installed.status == "False")?;
    let name = extension.metadata.name.as_deref().unwrap_or_default();
    let message = format!("extension {name:?} is not installed as it should be: {}", installed.message);
    Some(wait(Reason::ExtensionNotInstalled, message))
}

/// The target that the run names, if it names one.
fn named_target<'a>(run: &ActionRun, references: &References<'a>) -> Result<Option<&'a ExtensionTarget>, Start> {
    let Some(reference) = &run.spec.target_ref else { return Ok(None) };
    let name = &reference.name;
    let Some(target) = references.target else {
        return Err(wait(Reason::InvalidTarget, format!("ExtensionTarget {name:?} does not exist")));
    };
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    if !is_allowed(target.spec.allowed_namespaces.as_ref(), namespace, references.namespace_labels) {
        let message = format!(
            "ExtensionTarget {name:?} does not allow namespace {namespace:?}: its administrator can add it to spec.allowedNamespaces"
        );
        return Err(never(Reason::TargetNotAllowed, message));
    }
    Ok(Some(target))
}

/// Names of the PASSWORD parameters that the run gives in its spec, where whoever may read the run reads them.
pub fn open_passwords(run: &ActionRun, extension: Option<&OrchestratorExtension>) -> Vec<String> {
    let actions = extension.and_then(effective).and_then(|spec| spec.custom_actions).unwrap_or_default();
    let parameters = actions.into_iter().find(|action| action.name == run.spec.action).and_then(|a| a.parameters);
    let is_password = |format: &Option<String>| format.as_ref().is_some_and(|f| f.eq_ignore_ascii_case("PASSWORD"));
    let passwords = parameters.into_iter().flatten().filter(|parameter| is_password(&parameter.validationformat));
    passwords.map(|parameter| parameter.name).filter(|name| run.spec.parameters.contains_key(name)).collect()
}

/// The target that a run gives in place. It has no Secrets and no status.
pub fn inline_target(run: &ActionRun) -> Option<ExtensionTarget> {
    let given = run.spec.target.clone()?;
    let spec = ExtensionTargetSpec {
        extension_ref: run.spec.extension_ref.clone(),
        resourcetype: given.resourcetype,
        name: given.name,
        id: given.id,
        host: given.host,
        host_from: None,
        resourcemap: given.resourcemap,
        virtualmachine: given.virtualmachine,
        vm: given.vm,
        allowed_namespaces: None,
    };
    Some(ExtensionTarget { metadata: ObjectMeta::default(), spec, status: None })
}

/// All messages under the first one's reason.
fn joined(refusals: Vec<Refusal>) -> Option<Refusal> {
    let messages: Vec<&str> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    refusals.first().map(|first| Refusal::new(first.reason, messages.join("; ")))
}

/// Whether a target may be used from a namespace: by name, by `*`, or by the namespace's labels. Unset means no.
pub fn is_allowed(allowed: Option<&AllowedNamespaces>, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let Some(allowed) = allowed else { return false };
    is_named(allowed, namespace) || allowed.selector.as_ref().is_some_and(|selector| selects(selector, labels))
}

/// Whether [`is_allowed`] depends on the namespace's labels.
pub fn needs_labels(allowed: Option<&AllowedNamespaces>, namespace: &str) -> bool {
    allowed.is_some_and(|allowed| allowed.selector.is_some() && !is_named(allowed, namespace))
}

fn is_named(allowed: &AllowedNamespaces, namespace: &str) -> bool {
    allowed.names.iter().flatten().any(|name| name == "*" || name == namespace)
}

/// An empty selector selects everything, as everywhere in Kubernetes; a malformed one nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

impl Request {
    /// A request whose parts were validated one by one, against `target`.
    pub(super) fn validated(
        extension: Extension,
        invocation: Invocation,
        revision: RunRevision,
        role_type: RoleType,
        target: Option<ExtensionTarget>,
    ) -> Self {
        Self { extension, invocation, revision, role_type, target }
    }

    /// As a decision sees it.
    pub fn start(&self) -> Start {
        Start::Ready {
            revision: self.revision.clone(),
            timeout_seconds: self.invocation.timeout_seconds,
            role_type: self.role_type,
            grace_seconds: u32::try_from(self.extension.runtime.grace_seconds).unwrap_or(u32::MAX),
        }
    }

    /// Names of the Secrets of the operator's namespace that [`grant`](Self::grant) needs: host details, then the
    /// extension's.
    pub fn secrets(&self) -> (Vec<String>, Vec<String>) {
        let host = self.target.iter().flat_map(|target| target.spec.host_from.iter().flatten());
        (host.map(|from| from.secret_ref.name.clone()).collect(), self.extension.details_from.clone())
    }

    /// What the runner gets. `host` and `details` are the entries of the Secrets; they win over equal keys and are
    /// redacted from all output.
    ///
    /// The caller's role type is the one that status recorded when the attempt was decided.
    pub fn grant(
        &self,
        run: &ActionRun,
        host: BTreeMap<String, String>,
        details: BTreeMap<String, String>,
    ) -> ClaimGrant {
        let Self { extension, invocation, target, .. } = self;
        let redact: BTreeSet<String> =
            invocation.password_values.iter().chain(host.values()).chain(details.values()).cloned().collect();
        let spec = target.as_ref().map(|target| &target.spec);
        let of = |map: Option<&Option<BTreeMap<String, String>>>| map.and_then(Clone::clone).unwrap_or_default();
        let mut host_details = of(spec.map(|spec| &spec.host));
        host_details.extend(host);
        let mut extension_details = extension.details.clone();
        extension_details.extend(details);
        let (timeout_seconds, runtime) = self.decided(run);
        let status = target.as_ref().and_then(|target| target.status.as_ref());
        let prepared = status.and_then(|status| status.details.clone()).unwrap_or_default();
        let recorded = run.status.as_ref().and_then(|status| RoleType::named(status.role_type.as_deref()?));
        let caller = run.spec.caller.as_ref().map(|caller| action::caller(caller, recorded.unwrap_or(RoleType::User)));
        let payload = action::payload(&PayloadInput {
            kind: invocation.kind,
            action: &invocation.action,
            extension: &extension_details,
            resourcemap: &of(spec.map(|spec| &spec.resourcemap)),
            host: &host_details,
            virtualmachine: &of(spec.map(|spec| &spec.virtualmachine)),
            action_details: &invocation.details,
            resource_id: resource_id(target.as_ref()),
            resource_name: resource_name(target.as_ref()),
            vm: spec.and_then(|spec| spec.vm.as_ref()),
            prepared: &prepared,
            prepared_nics: status.and_then(|status| status.nics.as_deref()).unwrap_or_default(),
            caller,
            parameters: &invocation.parameters,
        });
        ClaimGrant {
            action: invocation.action.clone(),
            payload: payload.to_string(),
            timeout_seconds,
            grace_seconds: runtime.grace_seconds,
            language: extension.entrypoint.language.clone(),
            env: environment(run, runtime.env),
            redact: redact.into_iter().collect(),
            withhold_stdout: action::may_answer_with_password(invocation.kind),
            output_bytes: 0,
            skip_report: false,
        }
    }

    /// The timeout in seconds, and how the Job looks, as the newest attempt was decided: the leader gives up by them, so
    /// that neither another flag of the operator nor a changed extension may change them meanwhile.
    pub fn decided(&self, run: &ActionRun) -> (u64, Runtime) {
        let status = run.status.as_ref();
        let timeout = status.and_then(|status| u64::try_from(status.timeout_seconds?).ok());
        let grace = status.and_then(|status| status.attempts.last()?.grace_seconds).map(u64::from);
        let runtime = &self.extension.runtime;
        let runtime = Runtime { grace_seconds: grace.unwrap_or(runtime.grace_seconds), ..runtime.clone() };
        (timeout.unwrap_or(self.invocation.timeout_seconds), runtime)
    }
}

/// The script's own variables: those of the extension, and what it needs to do a repeated request once.
fn environment(run: &ActionRun, mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let attempt = run.status.as_ref().and_then(|status| status.attempts.last()).map_or(1, |attempt| attempt.number);
    variables.insert(script_env::IDEMPOTENCY_KEY.to_owned(), run.metadata.uid.clone().unwrap_or_default());
    variables.insert(script_env::ATTEMPT.to_owned(), attempt.to_string());
    variables
}

/// What `{{resourceName}}` and the payload call a target.
pub(super) fn resource_name(target: Option<&ExtensionTarget>) -> Option<&str> {
    let target = target?;
    target.spec.name.as_deref().or_else(|| of_vm(target, "name")).or(target.metadata.name.as_deref())
}

fn resource_id(target: Option<&ExtensionTarget>) -> Option<&str> {
    let target = target?;
    target.spec.id.as_deref().or_else(|| of_vm(target, "uuid"))
}

/// What the instance itself says.
fn of_vm<'a>(target: &'a ExtensionTarget, key: &str) -> Option<&'a str> {
    target.spec.vm.as_ref()?.get(key)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
