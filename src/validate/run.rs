//! A run's request against its extension and target. Pure: no client, clock, disk or network.
//!
//! Used at admission and again when a queued run starts, so that both say the same words. A target is optional for every
//! action: a script that needs none (an inventory, a report) gets a payload without those sections.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::action::parameters;
use crate::api::{ActionRunSpec, ExtensionTargetSpec, Reason};

use super::problem::{did_you_mean, quoted};
use super::types::{Extension, LifecycleAction, ResourceType, RoleType};

/// Why a run cannot start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In one word.
    pub reason: Reason,
    /// For people: the field, what is wrong, what is allowed. Never holds the value of a PASSWORD parameter.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The operator's own limits for runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Seconds that an action may take where its definition says nothing: also the most for a lifecycle action.
    pub default_timeout_seconds: u64,
    /// Seconds that no action may exceed, whatever its definition says.
    pub max_timeout_seconds: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { default_timeout_seconds: crate::api::DEFAULT_TIMEOUT_SECONDS, max_timeout_seconds: 86_400 }
    }
}

/// What kind of action a run asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionKind {
    /// One that CloudStack itself sends.
    Lifecycle(LifecycleAction),
    /// One of the extension's own.
    Custom,
}

/// A request that may start: all that payload and outcome need of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The name that was asked for: `{{actionName}}`.
    pub name: String,
    /// The name that the script gets, after `actionAliases`.
    pub action: String,
    /// What kind it is.
    pub kind: ActionKind,
    /// Typed parameters for the payload.
    pub parameters: Map<String, Value>,
    /// Values of PASSWORD parameters, which must not appear in any output.
    pub password_values: Vec<String>,
    /// Seconds that the script may run.
    pub timeout_seconds: u64,
    /// `externaldetails.action`.
    pub details: BTreeMap<String, String>,
    /// Template of the message of success.
    pub success_message: Option<String>,
    /// Template of the message of failure.
    pub error_message: Option<String>,
}

/// Role types of which the caller needs one to run this action. `None`: it is no custom action. A lifecycle action is open
/// to all of them, as in CloudStack: there the right to the extension and its target decides.
pub fn roles_needed<'a>(action: &str, extension: &'a Extension) -> Option<&'a [RoleType]> {
    let custom = extension.action(action).filter(|_| LifecycleAction::named(action).is_none());
    custom.map(|action| action.roles.as_slice())
}

/// Checks `spec` against the extension, and against the target that `spec.targetRef` names or `spec.target` is (`None`: none
/// is given, or it is not there yet, about which nothing is said). `secret` are the values of `spec.parametersFrom` by the
/// parameters' names, as far as they were read. Errors: everything that is wrong, at least one refusal.
pub fn run(
    spec: &ActionRunSpec,
    extension: &Extension,
    target: Option<&ExtensionTargetSpec>,
    secret: &BTreeMap<String, String>,
    limits: &RunLimits,
) -> Result<Invocation, Vec<Refusal>> {
    let mut refusals = given_twice(spec);
    let name = &extension.object_name;
    if !extension.enabled {
        refusals.push(Refusal::new(Reason::ExtensionDisabled, format!("extension {name:?} is disabled")));
    }
    refusals.extend(target_refusal(spec, extension, target));
    let custom = extension.action(&spec.action);
    let kind = match (LifecycleAction::named(&spec.action), custom) {
        (Some(action), _) => ActionKind::Lifecycle(action),
        (None, Some(_)) => ActionKind::Custom,
        (None, None) => {
            refusals.push(unknown_action(spec, extension));
            return Err(refusals);
        }
    };
    let mut invocation = Invocation {
        name: spec.action.clone(),
        action: extension.aliases.get(&spec.action).unwrap_or(&spec.action).clone(),
        kind,
        parameters: Map::new(),
        password_values: Vec::new(),
        timeout_seconds: limits.default_timeout_seconds,
        details: BTreeMap::new(),
        success_message: None,
        error_message: None,
    };
    if let Some(action) = custom {
        if !action.enabled {
            let message = format!(
                "spec.action: action {:?} of extension {name:?} is disabled; {}",
                action.name.as_str(),
                allowed(extension)
            );
            refusals.push(Refusal::new(Reason::ActionDisabled, message));
        }
        let from_secrets = spec.parameters_from.iter().map(|from| (from.name.clone(), secret.get(&from.name).cloned()));
        let from_secrets = from_secrets.filter(|(name, _)| !spec.parameters.contains_key(name)).collect();
        match parameters::read(&spec.parameters, &from_secrets, &action.parameters, extension.allow_unknown_parameters)
        {
            Ok(read) => {
                invocation.parameters = read.values;
                invocation.password_values = read.password_values;
            }
            Err(messages) => {
                refusals.extend(messages.into_iter().map(|message| Refusal::new(Reason::InvalidParameters, message)))
            }
        }
        invocation.timeout_seconds = action.timeout_seconds.unwrap_or(limits.default_timeout_seconds);
        invocation.details.clone_from(&action.details);
        invocation.success_message.clone_from(&action.success_message);
        invocation.error_message.clone_from(&action.error_message);
    } else if !spec.parameters.is_empty() || !spec.parameters_from.is_empty() {
        let field = if spec.parameters.is_empty() { "parametersFrom" } else { "parameters" };
        let message = format!("spec.{field}: the lifecycle action {:?} takes no parameters", spec.action);
        refusals.push(Refusal::new(Reason::InvalidParameters, message));
    }
    invocation.timeout_seconds = invocation.timeout_seconds.min(limits.max_timeout_seconds);
    if let Some(asked) = spec.timeout_seconds {
        invocation.timeout_seconds = invocation.timeout_seconds.min(asked).max(1);
    }
    if refusals.is_empty() { Ok(invocation) } else { Err(refusals) }
}

fn given_twice(spec: &ActionRunSpec) -> Vec<Refusal> {
    let names = || spec.parameters_from.iter().map(|from| &from.name);
    let is_given =
        |index: usize, name: &String| spec.parameters.contains_key(name) || names().take(index).any(|n| n == name);
    let twice = names().enumerate().filter(|(index, name)| is_given(*index, name));
    let message = |(index, name): (usize, &String)| {
        format!("spec.parametersFrom[{index}]: parameter {} is given twice; give it once", quoted(name))
    };
    twice.map(|twice| Refusal::new(Reason::InvalidParameters, message(twice))).collect()
}

fn unknown_action(spec: &ActionRunSpec, extension: &Extension) -> Refusal {
    let lifecycle = LifecycleAction::ALL.iter().map(|action| action.as_str());
    let suggestion = did_you_mean(&spec.action, enabled(extension).chain(lifecycle));
    let message = format!(
        "spec.action: extension {:?} has no action {}{suggestion}; {}",
        extension.object_name,
        quoted(&spec.action),
        allowed(extension),
    );
    Refusal::new(Reason::UnknownAction, message)
}

fn enabled(extension: &Extension) -> impl Iterator<Item = &str> {
    extension.actions.iter().filter(|action| action.enabled).map(|action| action.name.as_str())
}

/// The actions that a run can ask for.
fn allowed(extension: &Extension) -> String {
    let custom: Vec<&str> = enabled(extension).collect();
    let lifecycle: Vec<&str> = LifecycleAction::ALL.iter().map(|action| action.as_str()).collect();
    let own =
        if custom.is_empty() { String::new() } else { format!("{}; and the lifecycle actions ", custom.join(", ")) };
    format!("allowed are {own}{}", lifecycle.join(", "))
}

fn target_refusal(
    spec: &ActionRunSpec,
    extension: &Extension,
    target: Option<&ExtensionTargetSpec>,
) -> Option<Refusal> {
    let refusal = |message: String| Some(Refusal::new(Reason::InvalidTarget, message));
    let subject = match (&spec.target_ref, &spec.target) {
        (None, None) => return None,
        (Some(_), Some(_)) => return refusal("spec.targetRef and spec.target exclude each other; give one".to_owned()),
        (Some(reference), None) => format!("spec.targetRef: ExtensionTarget {:?}", reference.name),
        (None, Some(_)) => "spec.target.resourcetype: the target".to_owned(),
    };
    let target = target?;
    if target.extension_ref.name != extension.object_name {
        return refusal(format!(
            "{subject} belongs to extension {:?}, not to {:?}",
            target.extension_ref.name, extension.object_name
        ));
    }
    let wanted = match (LifecycleAction::named(&spec.action), extension.action(&spec.action)) {
        (Some(_), _) => ResourceType::VirtualMachine,
        (None, Some(action)) => action.resource_type,
        // What an action that does not exist acts on is nobody's to say.
        (None, None) => return None,
    };
    let given = target.resourcetype.as_deref().filter(|type_| !type_.is_empty())?;
    if given.eq_ignore_ascii_case(wanted.as_str()) {
        return None;
    }
    refusal(format!("{subject} is a {}; action {:?} acts on a {wanted}", quoted(given), spec.action))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
