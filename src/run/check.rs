//! What admission says about a run: the request is validated against what is installed at this moment, asked of the API
//! and not of a cache, so that a run can follow its extension in one `kubectl apply`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Error};

use super::ask;
use super::decide::Start;
use super::request::{Answers, Policy, References, open_passwords, request};
use crate::admission::{RunCheck, RunChecker};
use crate::api::{ActionRun, ExtensionTarget, OrchestratorExtension};
use crate::validate::quoted;

/// Judges runs at admission. What may still come (an extension, its installation, a target) is a warning, because GitOps
/// tools apply everything at once; the run then waits for it. A right that is missing, or cannot be asked for, is not.
///
/// # Access
/// `get` on extensions, targets and namespaces, `create` on subjectaccessreviews, and on the named
/// Secrets of runs `get`.
pub fn checker(client: Client, policy: Policy) -> RunChecker {
    Arc::new(move |run| {
        let (client, policy) = (client.clone(), policy.clone());
        Box::pin(async move {
            let (answers, found) = tokio::join!(answers(&client, &run), find(&client, &run));
            match (answers, found) {
                (Err(error), _) => refused(format!("the caller's rights cannot be asked for, try again: {error}")),
                (Ok(answers), Ok(found)) => judge(&run, &found, &answers, &policy),
                (Ok(answers), Err(error)) => {
                    tracing::warn!(%error, "a run is admitted unchecked; it is checked again before it starts");
                    let refusals = answers.rights.refusals(&run).into_iter().map(|refusal| refusal.message).collect();
                    RunCheck { refusals, ..RunCheck::default() }
                }
            }
        })
    })
}

async fn answers(client: &Client, run: &ActionRun) -> Result<Answers, Error> {
    let rights = ask::rights(client, run).await?;
    let parameters = ask::secret_parameters(client, run, &rights).await?;
    Ok(Answers { rights, parameters })
}

fn refused(message: String) -> RunCheck {
    RunCheck { refusals: vec![message], ..RunCheck::default() }
}

/// What a run refers to.
struct Found {
    extension: Option<OrchestratorExtension>,
    target: Option<ExtensionTarget>,
    namespace_labels: BTreeMap<String, String>,
}

async fn find(client: &Client, run: &ActionRun) -> Result<Found, Error> {
    let extension = Api::<OrchestratorExtension>::all(client.clone()).get_opt(&run.spec.extension_ref.name).await?;
    let target = match &run.spec.target_ref {
        Some(reference) => Api::<ExtensionTarget>::all(client.clone()).get_opt(&reference.name).await?,
        None => None,
    };
    let namespace_labels = match run.metadata.namespace.as_deref().filter(|_| target.is_some()) {
        Some(namespace) => Api::<Namespace>::all(client.clone()).get(namespace).await?.metadata.labels,
        None => None,
    };
    Ok(Found { extension, target, namespace_labels: namespace_labels.unwrap_or_default() })
}

fn judge(run: &ActionRun, found: &Found, answers: &Answers, policy: &Policy) -> RunCheck {
    let references = References {
        extension: found.extension.as_ref(),
        target: found.target.as_ref(),
        namespace_labels: &found.namespace_labels,
        stamp: Ok(()),
        answers,
    };
    let waits = match request(run, &references, policy) {
        Err(Start::Never(refusal)) => return refused(refusal.message),
        Err(Start::Wait(refusal)) => Some(format!("the run will wait: {}", refusal.message)),
        Ok(_) | Err(Start::Ready { .. }) => None,
    };
    let passwords = open_passwords(run, found.extension.as_ref()).into_iter().map(|name| {
        format!(
            "spec.parameters: whoever may read the run reads the PASSWORD {}: give it by spec.parametersFrom",
            quoted(&name)
        )
    });
    RunCheck { warnings: waits.into_iter().chain(passwords).collect(), ..RunCheck::default() }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
