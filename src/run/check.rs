//! What admission says about a run: the request is validated against what is installed at this moment, asked of the API
//! and not of a cache, so that a run can follow its extension in one `kubectl apply`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Error};

use super::decide::Start;
use super::request::{Policy, References, request};
use crate::admission::{RunCheck, RunChecker};
use crate::api::{ActionRun, ExtensionTarget, OrchestratorExtension};

/// Judges runs at admission. What may still come (an extension, its installation, a target) is a warning, because GitOps
/// tools apply everything at once; the run then waits for it.
///
/// # Access
/// `get` on extensions, targets and namespaces.
pub fn checker(client: Client, policy: Policy) -> RunChecker {
    Arc::new(move |run| {
        let (client, policy) = (client.clone(), policy.clone());
        Box::pin(async move {
            match judge(&client, &run, &policy).await {
                Ok(check) => check,
                Err(error) => {
                    tracing::warn!(%error, "a run is admitted unchecked; it is checked again before it starts");
                    RunCheck::default()
                }
            }
        })
    })
}

async fn judge(client: &Client, run: &ActionRun, policy: &Policy) -> Result<RunCheck, Error> {
    let extension = Api::<OrchestratorExtension>::all(client.clone()).get_opt(&run.spec.extension_ref.name).await?;
    let target = match &run.spec.target_ref {
        Some(reference) => Api::<ExtensionTarget>::all(client.clone()).get_opt(&reference.name).await?,
        None => None,
    };
    let namespace_labels = match run.metadata.namespace.as_deref().filter(|_| target.is_some()) {
        Some(namespace) => Api::<Namespace>::all(client.clone()).get(namespace).await?.metadata.labels,
        None => None,
    };
    let references = References {
        extension: extension.as_ref(),
        target: target.as_ref(),
        namespace_labels: &namespace_labels.unwrap_or_else(BTreeMap::new),
        stamp: Ok(()),
    };
    Ok(match request(run, &references, policy) {
        Ok(_) => RunCheck::default(),
        Err(Start::Never(refusal)) => RunCheck { refusals: vec![refusal.message], ..RunCheck::default() },
        Err(Start::Wait(refusal)) => {
            RunCheck { warnings: vec![format!("the run will wait: {}", refusal.message)], ..RunCheck::default() }
        }
        Err(Start::Ready { .. }) => RunCheck::default(),
    })
}
