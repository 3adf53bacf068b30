//! Custom actions and their parameters: `spec.customActions`. Pure: no client, clock, disk or network.

use std::collections::BTreeMap;

use crate::api::extension as api;

use super::parameter::{ParameterDefinition, ParameterKind, Typed};
use super::problem::{Problem, did_you_mean, quoted};
use super::types::{Action, ActionName, LifecycleAction, ResourceType, RoleType};

/// Most seconds that an action may take: a week.
const LONGEST_TIMEOUT: u32 = 604_800;

/// Reads all custom actions; problems are added to `problems`, what deserves a look to `notes`.
pub(super) fn actions(
    given: &[api::CustomAction],
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Vec<Action> {
    let mut first_by_name = BTreeMap::new();
    let mut first_by_lower_case: BTreeMap<String, &str> = BTreeMap::new();
    let mut actions = Vec::new();
    for (index, action) in given.iter().enumerate() {
        let path = format!("spec.customActions[{index}]");
        if let Some(first) = first_by_name.insert(action.name.as_str(), index) {
            let message =
                format!("{} is already the name of customActions[{first}]; names must be unique", quoted(&action.name));
            problems.push(Problem::new(format!("{path}.name"), message));
        } else if let Some(other) = first_by_lower_case.insert(action.name.to_lowercase(), &action.name) {
            let names = format!("the custom actions {other:?} and {:?} differ in case only", action.name);
            notes.push(format!("{names}: scripts that compare in lower case cannot tell them apart"));
        }
        let lower = action.name.to_lowercase();
        if lower != action.name && LifecycleAction::named(&lower).is_some() {
            let names =
                format!("the custom action {:?} and the lifecycle action {lower:?} differ in case only", action.name);
            notes.push(format!("{names}: scripts that compare in lower case cannot tell them apart"));
        }
        actions.extend(self::action(&path, action, problems));
    }
    actions
}

fn action(path: &str, given: &api::CustomAction, problems: &mut Vec<Problem>) -> Option<Action> {
    let before = problems.len();
    let name = ActionName::parse(&given.name)
        .map_err(|message| problems.push(Problem::new(format!("{path}.name"), message)))
        .ok();
    if let Some(type_) = &given.resourcetype
        && !type_.is_empty()
        && !type_.eq_ignore_ascii_case(ResourceType::VirtualMachine.as_str())
    {
        let message = format!("{} is not supported; allowed is VirtualMachine", quoted(type_));
        problems.push(Problem::new(format!("{path}.resourcetype"), message));
    }
    if let Some(timeout) = given.timeout.filter(|timeout| *timeout > LONGEST_TIMEOUT) {
        let message =
            format!("{timeout} is too long; allowed are 0 (the operator's default) to {LONGEST_TIMEOUT} seconds");
        problems.push(Problem::new(format!("{path}.timeout"), message));
    }
    let roles = roles(path, given.allowedroletypes.as_deref().unwrap_or_default(), problems);
    let mut seen = BTreeMap::new();
    let mut parameters = Vec::new();
    for (index, parameter) in given.parameters.iter().flatten().enumerate() {
        let path = format!("{path}.parameters[{index}]");
        if let Some(first) = seen.insert(parameter.name.as_str(), index) {
            let message =
                format!("{} is already the name of parameters[{first}]; names must be unique", quoted(&parameter.name));
            problems.push(Problem::new(format!("{path}.name"), message));
        }
        parameters.extend(definition(&path, parameter, problems));
    }
    if problems.len() > before {
        return None;
    }
    Some(Action {
        name: name?,
        display_name: given.display_name.clone(),
        description: given.description.clone(),
        enabled: given.enabled.unwrap_or(false),
        timeout_seconds: given.timeout.filter(|timeout| *timeout > 0).map(u64::from),
        roles,
        resource_type: ResourceType::VirtualMachine,
        success_message: given.successmessage.clone(),
        error_message: given.errormessage.clone(),
        details: given.details.clone().unwrap_or_default(),
        parameters,
    })
}

/// The roles of exact case, with `Admin` always among them.
fn roles(path: &str, given: &[String], problems: &mut Vec<Problem>) -> Vec<RoleType> {
    let mut roles = vec![RoleType::Admin];
    for (index, word) in given.iter().enumerate() {
        match RoleType::named(word) {
            Some(role) => roles.push(role),
            None => {
                let suggestion = did_you_mean(word, RoleType::ALL.iter().map(|role| role.as_str()));
                let message = format!(
                    "{} is no role type{suggestion}; allowed are Admin, ResourceAdmin, DomainAdmin, User",
                    quoted(word)
                );
                problems.push(Problem::new(format!("{path}.allowedroletypes[{index}]"), message));
            }
        }
    }
    roles.sort();
    roles.dedup();
    roles
}

fn definition(path: &str, given: &api::Parameter, problems: &mut Vec<Problem>) -> Option<ParameterDefinition> {
    let before = problems.len();
    if given.name.trim().is_empty() || given.name.chars().count() > 128 || given.name.chars().any(char::is_control) {
        let message =
            format!("{} is no parameter name; allowed are 1 to 128 printable characters", quoted(&given.name));
        problems.push(Problem::new(format!("{path}.name"), message));
    }
    let kind = ParameterKind::parse(&given.type_, given.validationformat.as_deref())
        .map_err(|(field, message)| problems.push(Problem::new(format!("{path}.{field}"), message)))
        .ok()?;
    let options = options(path, kind, given.valueoptions.as_deref().unwrap_or_default(), problems);
    (problems.len() == before).then(|| ParameterDefinition {
        name: given.name.clone(),
        kind,
        required: given.required.unwrap_or(false),
        options,
    })
}

/// Comma-separated, trimmed, empty ones dropped, each of the parameter's own kind.
fn options(path: &str, kind: ParameterKind, text: &str, problems: &mut Vec<Problem>) -> Vec<Typed> {
    let texts: Vec<&str> = text.split(',').map(str::trim).filter(|option| !option.is_empty()).collect();
    if !texts.is_empty() && !kind.takes_options() {
        let message = "options are not supported for BOOLEAN and DATE: remove them";
        problems.push(Problem::new(format!("{path}.valueoptions"), message));
        return Vec::new();
    }
    let mut options = Vec::new();
    for option in texts {
        match kind.read(option) {
            Some(value) => options.push(value),
            None => {
                let message = format!("option {} does not fit: expected is {}", quoted(option), kind.expects());
                problems.push(Problem::new(format!("{path}.valueoptions"), message));
            }
        }
    }
    options
}
