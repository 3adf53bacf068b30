//! A run without a cluster: the same validation, payload and outcome, from a manifest alone. Pure: no client, clock, disk
//! or network.
//!
//! It builds the objects that would stand in the cluster (an installed extension, a run that was admitted) and hands them
//! to the code that the operator uses, so that an author reads on a laptop what a user reads in a run's status. What only
//! the resource can set (`runtime`, `strictResult`, `actionAliases`, …) has its default.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::local_target::LocalTarget;
use super::request::Request;
use super::{status, verdict};
use crate::api::extension::CustomAction;
use crate::api::run::{ActionRunStatus, Attempt, Caller, RunRevision, TargetReference};
use crate::api::target::ExtensionReference;
use crate::api::{
    ActionRun, ActionRunSpec, ExtensionTarget, OrchestratorExtension, OrchestratorExtensionSpec,
    OrchestratorExtensionStatus,
};
use crate::manifest::{self, Manifest};
use crate::protocol::{ClaimGrant, Outcome};
use crate::validate::{self, ContractLevels, Entrypoint, ParameterKind, RoleType, RunLimits};

/// What an author asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The action.
    pub action: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, Value>,
    /// JSON text to use as payload instead of one that is built. Parameters are then neither needed nor checked.
    pub payload: Option<String>,
    /// What to act on.
    pub target: Option<LocalTarget>,
    /// Seconds the action may take; never more than the action allows.
    pub timeout_seconds: Option<u64>,
    /// Name of the caller in the payload.
    pub user: String,
    /// What stands for the run's UID: the script's idempotency key.
    pub idempotency_key: String,
    /// Number of the attempt that the script is told, from 1.
    pub attempt: u32,
}

/// A run that may start.
#[derive(Clone, Debug)]
pub struct LocalRun {
    /// What is started.
    pub entrypoint: Entrypoint,
    /// What a runner would get.
    pub grant: ClaimGrant,
    run: ActionRun,
    extension: OrchestratorExtension,
    target: Option<ExtensionTarget>,
}

/// Validates `asked` against `manifest` and builds what the runner gets. Errors: everything that is wrong, one line each,
/// with its place in the manifest or the field of the run.
pub fn prepare(manifest: &Manifest, asked: &Asked) -> Result<LocalRun, Vec<String>> {
    let mut extension = manifest::convert::to_resource(manifest);
    // As in a cluster, where the resource says where the tree comes from, and not the tree.
    extension.spec.source = None;
    let name = extension.metadata.name.clone().unwrap_or_default();
    let lines = |problems| manifest.locate(problems).iter().map(ToString::to_string).collect::<Vec<_>>();
    let contracts = ContractLevels::default();
    let passwords = match &asked.payload {
        None => vec![],
        Some(payload) => {
            let full = validate::extension(&name, &extension.spec, &contracts).map_err(lines)?;
            let definitions = full.action(&asked.action).map(|action| action.parameters.as_slice()).unwrap_or_default();
            let secret = definitions.iter().filter(|definition| definition.kind == ParameterKind::Password);
            let passwords = passwords(payload, secret.map(|definition| definition.name.as_str()))?;
            without_parameters(&mut extension.spec);
            passwords
        }
    };
    let valid = validate::extension(&name, &extension.spec, &contracts).map_err(lines)?;
    let run = run(&name, asked);
    let target = asked.target.as_ref().map(|target| &target.object);
    let invocation =
        validate::run(&run.spec, &valid, target.map(|target| &target.spec), &BTreeMap::new(), &RunLimits::default())
            .map_err(|refusals| refusals.into_iter().map(|refusal| refusal.message).collect::<Vec<_>>())?;
    let timeout_seconds = i64::try_from(invocation.timeout_seconds).ok();
    // whoever owns the laptop may run everything
    let role = RoleType::Admin;
    let role_type = Some(role.to_string());
    let attempts = vec![Attempt { number: asked.attempt, ..Attempt::default() }];
    let status = ActionRunStatus { timeout_seconds, role_type, attempts, ..Default::default() };
    let run = ActionRun { status: Some(status), ..run };
    let entrypoint = valid.entrypoint.clone();
    let request = Request::validated(valid, invocation, RunRevision::default(), role, target.cloned());
    let host = asked.target.as_ref().map(|target| target.host_entries.clone()).unwrap_or_default();
    let mut grant = request.grant(&run, host, BTreeMap::new());
    if let Some(payload) = &asked.payload {
        grant.payload.clone_from(payload);
        grant.redact.extend(passwords);
    }
    let resolved = Some(extension.spec.clone());
    extension.status = Some(OrchestratorExtensionStatus { resolved, ..OrchestratorExtensionStatus::default() });
    Ok(LocalRun { entrypoint, grant, run, extension, target: target.cloned() })
}

impl LocalRun {
    /// The status that the run would have, and whether a part of the answer is secret: in a cluster that part goes to a
    /// Secret that `status.resultRef` names.
    pub fn status(&self, outcome: &Outcome, started: Timestamp, ended: Timestamp) -> (ActionRunStatus, bool) {
        let verdict = verdict::verdict(&self.run, Some(&self.extension), self.target.as_ref(), outcome);
        let mut status = status::concluded(&self.run, &verdict, None, ended);
        status.start_time = Some(Time(started));
        // There was no Job.
        status.attempts.clear();
        (status, verdict.secret.is_some())
    }
}

fn run(extension: &str, asked: &Asked) -> ActionRun {
    let target_name = asked.target.as_ref().map(|target| target.object.metadata.name.clone().unwrap_or_default());
    let mut run = ActionRun::new(
        "local",
        ActionRunSpec {
            extension_ref: ExtensionReference { name: extension.to_owned() },
            action: asked.action.clone(),
            parameters: asked.parameters.clone(),
            target_ref: target_name.map(|name| TargetReference { name }),
            timeout_seconds: asked.timeout_seconds,
            ..ActionRunSpec::default()
        },
    );
    run.metadata.uid = Some(asked.idempotency_key.clone());
    run.spec.caller = Some(Caller { username: asked.user.clone(), ..Caller::default() });
    run
}

/// The values that a ready payload has for PASSWORD parameters.
fn passwords<'a>(payload: &str, names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Vec<String>> {
    let payload: Value =
        serde_json::from_str(payload).map_err(|error| vec![format!("the payload is no JSON: {error}")])?;
    let given = payload.get("parameters");
    let value = |name| given?.get(name)?.as_str().map(str::to_owned);
    Ok(names.filter_map(value).collect())
}

fn without_parameters(spec: &mut OrchestratorExtensionSpec) {
    let bare = |action: &mut CustomAction| action.parameters = None;
    spec.custom_actions.iter_mut().flatten().for_each(bare);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Ending;

    const MANIFEST: &str = "apiVersion: cloudstack.apache.org/v1
kind: OrchestratorExtension
metadata: {name: Hello World}
source: {type: nonsense}
spec: {entrypoint: {path: run.sh}}
customActions:
- name: Greet
  enabled: true
  timeout: 30
  successmessage: '{{extensionName}} greeted'
  parameters:
  - {name: whom, type: STRING, required: true}
  - {name: secret, type: STRING, validationformat: PASSWORD}
";

    fn prepared(asked: Asked) -> Result<LocalRun, Vec<String>> {
        let manifest = manifest::parse(MANIFEST.as_bytes(), "manifest.yaml").unwrap();
        let own = Asked { action: "Greet".into(), user: "me".into(), idempotency_key: "k".into(), attempt: 2, ..asked };
        prepare(&manifest, &own)
    }

    fn given(parameters: &[(&str, &str)]) -> BTreeMap<String, Value> {
        parameters.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
    }

    #[test]
    fn the_payload_is_the_operators_and_the_source_of_the_tree_does_not_count() {
        let parameters = given(&[("whom", "world"), ("secret", "hunter2")]);
        let local = prepared(Asked { parameters, timeout_seconds: Some(60), ..Asked::default() }).unwrap();
        let payload: Value = serde_json::from_str(&local.grant.payload).unwrap();
        assert_eq!(payload["parameters"]["whom"], "world");
        assert_eq!((&payload["caller"]["name"], &payload["caller"]["roletype"]), (&"me".into(), &"Admin".into()));
        assert_eq!(local.grant.timeout_seconds, 30, "never more than the action allows");
        assert_eq!(local.grant.redact, ["hunter2"]);
        let env = BTreeMap::from([("OUTRIGGER_ATTEMPT", "2"), ("OUTRIGGER_IDEMPOTENCY_KEY", "k")]);
        assert!(local.grant.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(env));
    }

    #[test]
    fn a_ready_payload_needs_no_parameters_and_its_passwords_are_still_kept_out() {
        let payload = r#"{"parameters": {"secret": "hunter2", "more": 1}}"#;
        let local = prepared(Asked { payload: Some(payload.into()), ..Asked::default() }).unwrap();
        assert_eq!(local.grant.payload, payload);
        assert_eq!(local.grant.redact, ["hunter2"]);
        let error = prepared(Asked { payload: Some("{".into()), ..Asked::default() }).unwrap_err().remove(0);
        assert!(error.starts_with("the payload is no JSON: EOF"), "{error}");
    }

    #[test]
    fn refusals_are_the_operators_words() {
        let errors = prepared(Asked::default()).unwrap_err();
        assert_eq!(errors, ["spec.parameters.whom: is required and missing; expected is text"]);
    }

    #[test]
    fn the_status_is_the_one_of_a_run() {
        let local = prepared(Asked { parameters: given(&[("whom", "x")]), ..Asked::default() }).unwrap();
        let outcome = Outcome {
            exit_code: Some(0),
            stdout: crate::protocol::Stream { text: "{\"a\": 1}\n".into(), dropped_bytes: 0 },
            duration_millis: 5,
            ..Outcome::of(Ending::Exited)
        };
        let (status, is_secret) = local.status(&outcome, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        assert_eq!(status.message.as_deref(), Some("Hello World greeted"));
        assert_eq!((status.exit_code, status.timeout_seconds, is_secret), (Some(0), Some(30), false));
        assert_eq!(status.result, Some(serde_json::json!({"a": 1})));
        assert_eq!(status.attempts, []);
    }
}
