//! What the caller of a run must be allowed to do: pure. Which access reviews to ask for, and what follows from the
//! answers. Admission and the run controller use the same, so that both say the same words.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};

use crate::api::run::Caller;
use crate::api::{ActionRun, GROUP, Reason};
use crate::validate::{Refusal, RoleType};

/// A right that is asked for in the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// `use` on the OrchestratorExtension of this name.
    Extension(String),
    /// `use` on the ExtensionTarget of this name.
    Target(String),
    /// `use` on targets given in place, for the OrchestratorExtension of this name.
    FreeFormTarget(String),
    /// `use` on a role type.
    Role(RoleType),
    /// `get` on the Secret of this name.
    Secret(String),
}

impl Right {
    /// API group, resource, verb and name, as a rule of RBAC has them.
    fn attributes(&self) -> (&'static str, &'static str, &'static str, &str) {
        match self {
            Self::Extension(name) => (GROUP, "orchestratorextensions", "use", name),
            Self::Target(name) => (GROUP, "extensiontargets", "use", name),
            Self::FreeFormTarget(name) => (GROUP, "freeformtargets", "use", name),
            Self::Role(role) => (GROUP, "roletypes", "use", role.as_str()),
            Self::Secret(name) => ("", "secrets", "get", name),
        }
    }

    /// The review that asks whether `caller` holds this right in `namespace`.
    pub fn review(&self, caller: &Caller, namespace: &str) -> SubjectAccessReview {
        let (group, resource, verb, name) = self.attributes();
        let attributes = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        };
        SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.username.clone()),
                uid: Some(caller.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        }
    }
}

/// Everything to ask about a run. All four role types, because the payload names the highest that is held.
pub fn needed(run: &ActionRun) -> Vec<Right> {
    let mut needed = vec![Right::Extension(run.spec.extension_ref.name.clone())];
    needed.extend(run.spec.target_ref.iter().map(|target| Right::Target(target.name.clone())));
    needed.extend(run.spec.target.iter().map(|_| Right::FreeFormTarget(run.spec.extension_ref.name.clone())));
    let secrets: BTreeSet<&String> = run.spec.parameters_from.iter().map(|from| &from.secret_key_ref.name).collect();
    needed.extend(secrets.into_iter().map(|name| Right::Secret(name.clone())));
    needed.extend(RoleType::ALL.iter().map(|role| Right::Role(*role)));
    needed
}

/// Whether an answered review grants the right. One that was not answered does not.
pub fn is_granted(review: &SubjectAccessReview) -> bool {
    review.status.as_ref().is_some_and(|status| status.allowed && status.denied != Some(true))
}

/// The answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Not asked: nothing is refused, and the caller counts as `User`. So it is before there is something to decide, for
    /// a claim soon after the decision, and without admission, where no caller is known.
    NotAsked,
    /// Asked; these are held.
    Held(Vec<Right>),
}

impl Rights {
    fn has(&self, right: &Right) -> bool {
        match self {
            Self::NotAsked => true,
            Self::Held(held) => held.contains(right),
        }
    }

    /// What the caller may not do, whatever the action: use the extension, use the target or give one, read a Secret.
    pub fn refusals(&self, run: &ActionRun) -> Vec<Refusal> {
        let missing = needed(run).into_iter().filter(|right| !self.has(right));
        missing.filter_map(|right| refusal(&right, run)).collect()
    }

    /// The caller's role type: the highest one held, `User` if none is. `needed` are those of which the action needs one,
    /// if it needs any.
    ///
    /// # Errors
    /// The caller holds none of `needed`, of which `Admin` is always one.
    pub fn role(&self, run: &ActionRun, needed: Option<&[RoleType]>) -> Result<RoleType, Refusal> {
        let Self::Held(held) = self else { return Ok(RoleType::User) };
        let holds = |role: &&RoleType| held.contains(&Right::Role(**role));
        if let Some(needed) = needed.filter(|needed| !needed.iter().any(|role| holds(&role))) {
            return Err(role_refusal(run, needed));
        }
        Ok(RoleType::ALL.iter().find(holds).copied().unwrap_or(RoleType::User))
    }
}

fn refusal(right: &Right, run: &ActionRun) -> Option<Refusal> {
    let (group, resource, verb, name) = right.attributes();
    let kind = match right {
        Right::Extension(_) => "OrchestratorExtension",
        Right::Target(_) => "ExtensionTarget",
        Right::Secret(_) => {
            let message = format!(
                "spec.parametersFrom: {} may not read Secret {name:?} in namespace {:?}: grant the verb get on secrets {name:?} \
                 there",
                user(run),
                namespace(run)
            );
            return Some(Refusal::new(Reason::NotAllowed, message));
        }
        Right::FreeFormTarget(_) => {
            let message = format!(
                "spec.target: {} may not give a target in place to extension {name:?} in namespace {:?}: name an \
                 ExtensionTarget in spec.targetRef, or grant the verb {verb} on {resource}.{group} {name:?} there",
                user(run),
                namespace(run)
            );
            return Some(Refusal::new(Reason::NotAllowed, message));
        }
        Right::Role(_) => return None,
    };
    let message = format!(
        "{} may not use {kind} {name:?} in namespace {:?}: bind ClusterRole outrigger-tenant there, or grant the verb \
         {verb} on {resource}.{group} {name:?}",
        user(run),
        namespace(run)
    );
    Some(Refusal::new(Reason::NotAllowed, message))
}

fn role_refusal(run: &ActionRun, roles: &[RoleType]) -> Refusal {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    // What an administrator is told to give is the least that will do.
    let least = roles.iter().max().copied().unwrap_or(RoleType::Admin).as_str();
    let message = format!(
        "{} may not run action {:?} of extension {:?} in namespace {:?}, which needs the role type {}: bind ClusterRole \
         outrigger-role-{} there, or grant the verb use on roletypes.{GROUP} {least:?}",
        user(run),
        run.spec.action,
        run.spec.extension_ref.name,
        namespace(run),
        names.join(" or "),
        least.to_lowercase(),
    );
    Refusal::new(Reason::NotAllowed, message)
}

fn user(run: &ActionRun) -> String {
    format!("user {:?}", run.spec.caller.as_ref().map_or("", |caller| &caller.username))
}

fn namespace(run: &ActionRun) -> &str {
    run.metadata.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
