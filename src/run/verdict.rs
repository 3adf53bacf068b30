//! What the outcome of a run's script means: pure. Read by the manifest that the run was claimed with.

use super::request::{inline_target, resource_name};
use crate::action::{self, Names, OutcomeInput, Verdict};
use crate::api::{ActionRun, ExtensionTarget, OrchestratorExtension};
use crate::protocol::Outcome;
use crate::validate::{ActionKind, LifecycleAction};

/// What an outcome means, by the manifest that is resolved in `extension`. Needs less than a request: an extension that was
/// disabled or changed since the claim, or a target that is gone, does not lose an outcome.
pub fn verdict(
    run: &ActionRun,
    extension: Option<&OrchestratorExtension>,
    target: Option<&ExtensionTarget>,
    outcome: &Outcome,
) -> Verdict {
    let inline = inline_target(run);
    let resolved = extension.and_then(|extension| extension.status.as_ref()?.resolved.as_ref());
    let custom = resolved
        .iter()
        .flat_map(|spec| spec.custom_actions.iter().flatten())
        .find(|action| action.name == run.spec.action);
    let own_name = resolved.and_then(|spec| spec.name.as_deref());
    let timeout = run.status.as_ref().and_then(|status| status.timeout_seconds).unwrap_or_default();
    let claimed_as = run.status.as_ref().and_then(|status| status.attempts.last()?.strict_result);
    let target_name = run.spec.target_ref.as_ref().map(|target| target.name.as_str());
    let input = OutcomeInput {
        kind: LifecycleAction::named(&run.spec.action).map_or(ActionKind::Custom, ActionKind::Lifecycle),
        strict_result: claimed_as.or(extension.and_then(|extension| extension.spec.strict_result)).unwrap_or_default(),
        success_message: custom.and_then(|action| action.successmessage.as_deref()),
        error_message: custom.and_then(|action| action.errormessage.as_deref()),
        names: Names {
            action: &run.spec.action,
            extension: own_name.unwrap_or(&run.spec.extension_ref.name),
            resource: resource_name(inline.as_ref().or(target)).or(target_name).unwrap_or("VirtualMachine"),
        },
        timeout_seconds: u64::try_from(timeout).unwrap_or_default(),
    };
    action::outcome(&input, outcome)
}
