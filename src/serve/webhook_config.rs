//! Registers the webhooks: the one definition of them, and the edges that keep the API server's copy right.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use super::certificates::Trust;
use crate::admission::handlers::{MUTATE_EXTENSIONS, MUTATE_RUNS, VALIDATE_RUNS};
use crate::api::{GROUP, MANAGED_BY_LABEL, MANAGER, VERSION};

/// Name of both configurations, unless a flag says otherwise.
pub const DEFAULT_NAME: &str = "outrigger";

/// Pause between two looks at what the API server has: an upgrade of the chart may have emptied `caBundle`.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How often a write that lost against somebody else's is tried again.
const ATTEMPTS: usize = 5;

/// Where the API server finds the webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The operator runs in the cluster, behind this Service.
    Service {
        /// Namespace of the Service.
        namespace: String,
        /// Name of the Service.
        name: String,
        /// Port of the Service.
        port: u16,
    },
    /// The operator runs elsewhere: `https://<address>:<port>`, for which its certificate must be valid.
    Url(String),
}

impl Endpoint {
    fn client_config(&self, path: &str, ca: Option<&str>) -> WebhookClientConfig {
        let ca_bundle = ca.map(|ca| ByteString(ca.as_bytes().to_vec()));
        match self {
            Self::Service { namespace, name, port } => WebhookClientConfig {
                ca_bundle,
                service: Some(ServiceReference {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    path: Some(path.to_owned()),
                    port: Some(i32::from(*port)),
                }),
                url: None,
            },
            Self::Url(base) => {
                let url = format!("{}{path}", base.trim_end_matches('/'));
                WebhookClientConfig { ca_bundle, service: None, url: Some(url) }
            }
        }
    }
}

/// Why the webhooks are not registered.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The chart makes it; it is not there.
    #[error(
        "{kind} {name:?} does not exist: without it no run is stamped, and none starts; install the chart, or start the \
         operator with the name that was installed"
    )]
    Missing {
        /// Kind of the configuration.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API refused or failed.
    #[error("{kind} {name:?} cannot be read or written: {source}")]
    Api {
        /// Kind of the configuration.
        kind: String,
        /// Its name.
        name: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else keeps writing it.
    #[error("{kind} {name:?} was changed by somebody else {ATTEMPTS} times while it was being written")]
    Contended {
        /// Kind of the configuration.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// The webhooks' definitions, under `name`, for an operator that writes as user `operator`.
///
/// Runs fail closed: a run that was not stamped could never start. Updates of what is being deleted and of the
/// operator itself are not sent at all, so that nothing hangs while no replica answers. The stamp is made once
/// (`reinvocationPolicy: Never`): asked again within one request, it could not be told from one of a backup.
///
/// Extensions fail open, because the controller checks them again and adds what is missing: so one may be applied before
/// the operator is up. One call judges an extension and adds its finalizer, and is made again where another webhook
/// changed it.
pub fn webhooks(
    name: &str,
    endpoint: &Endpoint,
    ca: Option<&str>,
    operator: &str,
) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
    let mutating = |resource: &str, scope: &str, path: &str, failure: &str, reinvocation: &str| MutatingWebhook {
        name: format!("mutate.{resource}.{GROUP}"),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: endpoint.client_config(path, ca),
        failure_policy: Some(failure.to_owned()),
        match_conditions: Some(conditions(operator)),
        match_policy: Some("Equivalent".to_owned()),
        reinvocation_policy: Some(reinvocation.to_owned()),
        rules: Some(rules(resource, scope)),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(5),
        ..MutatingWebhook::default()
    };
    let validate_runs = ValidatingWebhook {
        name: format!("validate.actionruns.{GROUP}"),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: endpoint.client_config(VALIDATE_RUNS, ca),
        failure_policy: Some("Fail".to_owned()),
        match_conditions: Some(conditions(operator)),
        match_policy: Some("Equivalent".to_owned()),
        rules: Some(rules("actionruns", "Namespaced")),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(5),
        ..ValidatingWebhook::default()
    };
    let metadata = || ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let mutating = MutatingWebhookConfiguration {
        metadata: metadata(),
        webhooks: Some(vec![
            mutating("actionruns", "Namespaced", MUTATE_RUNS, "Fail", "Never"),
            mutating("orchestratorextensions", "Cluster", MUTATE_EXTENSIONS, "Ignore", "IfNeeded"),
        ]),
    };
    let validating = ValidatingWebhookConfiguration { metadata: metadata(), webhooks: Some(vec![validate_runs]) };
    (mutating, validating)
}

fn rules(resource: &str, scope: &str) -> Vec<RuleWithOperations> {
    vec![RuleWithOperations {
        api_groups: Some(vec![GROUP.to_owned()]),
        api_versions: Some(vec![VERSION.to_owned()]),
        operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        scope: Some(scope.to_owned()),
    }]
}

fn conditions(operator: &str) -> Vec<MatchCondition> {
    // A JSON string is a CEL string literal of the same value.
    let operator = serde_json::Value::from(operator);
    let condition = |name: &str, expression: String| MatchCondition { name: name.to_owned(), expression };
    vec![
        condition(
            "not-being-deleted",
            "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp)".to_owned(),
        ),
        condition(
            "not-by-the-operator",
            format!("request.operation != 'UPDATE' || request.userInfo.username != {operator}"),
        ),
    ]
}

/// Writes `ca` into every webhook of both configurations called `name`, where it is not there already.
///
/// # Access
/// `get` and `update` on both configurations.
///
/// # Errors
/// [`WebhookError`].
pub async fn inject_ca(client: &Client, name: &str, ca: &str) -> Result<(), WebhookError> {
    let ca = ByteString(ca.as_bytes().to_vec());
    inject(client, name, |configuration: &mut MutatingWebhookConfiguration| {
        let webhooks = configuration.webhooks.iter_mut().flatten();
        set_all(webhooks.map(|webhook| &mut webhook.client_config.ca_bundle), &ca)
    })
    .await?;
    inject(client, name, |configuration: &mut ValidatingWebhookConfiguration| {
        let webhooks = configuration.webhooks.iter_mut().flatten();
        set_all(webhooks.map(|webhook| &mut webhook.client_config.ca_bundle), &ca)
    })
    .await
}

/// Calls [`inject_ca`] again and again, and at once when other CAs are to be trusted. Never returns.
pub async fn keep_injected(client: Client, name: String, mut trust: watch::Receiver<Trust>) {
    loop {
        let bundle = trust.borrow_and_update().bundle.clone();
        if let Err(error) = inject_ca(&client, &name, &bundle).await {
            warn!("webhooks are not registered: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK_EVERY) => {}
            Ok(()) = trust.changed() => {}
        }
    }
}

fn set_all<'a>(bundles: impl Iterator<Item = &'a mut Option<ByteString>>, ca: &ByteString) -> bool {
    let mut changed = false;
    for bundle in bundles.filter(|bundle| bundle.as_ref() != Some(ca)) {
        *bundle = Some(ca.clone());
        changed = true;
    }
    changed
}

async fn inject<K>(client: &Client, name: &str, mut change: impl FnMut(&mut K) -> bool) -> Result<(), WebhookError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let api = Api::<K>::all(client.clone());
    let kind = K::kind(&()).into_owned();
    for _ in 0..ATTEMPTS {
        let mut configuration = match api.get_opt(name).await {
            Ok(Some(configuration)) => configuration,
            Ok(None) => return Err(WebhookError::Missing { kind, name: name.to_owned() }),
            Err(error) => return Err(api_error::<K>(name, error)),
        };
        if !change(&mut configuration) {
            return Ok(());
        }
        // Left out they stay as they are; an empty list would erase who owns the chart's fields.
        configuration.meta_mut().managed_fields = None;
        match api.replace(name, &PostParams::default(), &configuration).await {
            Ok(_) => {
                info!(name, kind, "the operator's CA is written into the webhooks");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(api_error::<K>(name, error)),
        }
    }
    Err(WebhookError::Contended { kind, name: name.to_owned() })
}

/// For an operator outside the cluster: registers the webhooks at `base_url` under `name`. Not to be
/// mixed with the chart, which registers the Service.
///
/// # Access
/// `create` and `patch` on both configurations.
///
/// # Errors
/// [`WebhookError::Api`].
pub async fn apply_url_configuration(
    client: &Client,
    name: &str,
    base_url: &str,
    ca: &str,
    operator: &str,
) -> Result<(), WebhookError> {
    let (mutating, validating) = webhooks(name, &Endpoint::Url(base_url.to_owned()), Some(ca), operator);
    apply(client, name, &mutating).await?;
    apply(client, name, &validating).await
}

async fn apply<K>(client: &Client, name: &str, configuration: &K) -> Result<(), WebhookError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = Api::<K>::all(client.clone()).patch(name, &parameters, &Patch::Apply(configuration)).await;
    applied.map(drop).map_err(|error| api_error::<K>(name, error))
}

fn api_error<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> WebhookError {
    WebhookError::Api { kind: K::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
#[path = "webhook_config_tests.rs"]
mod tests;
