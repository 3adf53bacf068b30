//! Keeps an extension's NetworkPolicy right before its Jobs are created, and takes it away.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource as _};

use super::context::Context;
use super::live::{is_conflict, is_gone};
use super::network_policy::{name, network_policy};
use crate::api::{MANAGER, OrchestratorExtension};
use crate::validate::EgressRule;

impl Context {
    /// Creates or changes the NetworkPolicy of an extension, where it is not what `egress` says. What `egress` was read
    /// from may be out of date: an extension that wants none any more, or is gone, is left without one.
    ///
    /// # Access
    /// `get`, `create`, `patch` and `delete` on NetworkPolicies of the operator's namespace, `get` on extensions.
    ///
    /// # Errors
    /// The API refused or failed: no Job may be created.
    pub(super) async fn restrict(&self, extension: &str, egress: &[EgressRule]) -> Result<(), kube::Error> {
        let wanted = network_policy(&self.settings.operator, extension, egress);
        let policies = Api::<NetworkPolicy>::namespaced(self.client.clone(), &self.settings.operator.namespace);
        let name = name(extension);
        if policies.get_opt(&name).await?.is_some_and(|there| there.spec == wanted.spec) {
            return Ok(());
        }
        policies.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted)).await?;
        // Asked after the write: whoever takes the policy away afterwards finds it.
        let now = Api::<OrchestratorExtension>::all(self.client.clone()).get_opt(extension).await?;
        if now.as_ref().is_none_or(|now| !is_restricted(now)) {
            lift(&self.client, &self.settings.operator.namespace, extension).await?;
        }
        Ok(())
    }
}

/// Whether an extension asks for a NetworkPolicy.
pub fn is_restricted(extension: &OrchestratorExtension) -> bool {
    extension.spec.runtime.as_ref().is_some_and(|runtime| runtime.network_policy.is_some())
}

/// Deletes an extension's NetworkPolicy, if there is one and the extension, asked now, wants none: the caller's copy may be an
/// earlier generation.
///
/// # Access
/// `get`, `create` and `delete` on NetworkPolicies of the operator's namespace, `get` on extensions.
///
/// # Errors
/// The API refused or failed, or the policy changed meanwhile: ask again.
pub async fn lift(client: &Client, namespace: &str, extension: &str) -> Result<(), kube::Error> {
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), namespace);
    let name = name(extension);
    let Some(there) = policies.get_opt(&name).await? else { return Ok(()) };
    if wants_policy(client, extension).await? {
        return Ok(());
    }
    let only =
        Preconditions { uid: there.metadata.uid.clone(), resource_version: there.metadata.resource_version.clone() };
    match policies.delete(&name, &DeleteParams::default().preconditions(only)).await {
        Err(error) if is_gone(&error) => return Ok(()),
        result => result.map(drop)?,
    }
    // Between the question and the deletion it may have been wanted again: then it was found as it should be, and a Job
    // relies on it.
    if wants_policy(client, extension).await? {
        let metadata = ObjectMeta {
            name: there.metadata.name,
            namespace: there.metadata.namespace,
            labels: there.metadata.labels,
            ..ObjectMeta::default()
        };
        let again = NetworkPolicy { metadata, spec: there.spec };
        match policies.create(&PostParams::default(), &again).await {
            Err(error) if !is_conflict(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn wants_policy(client: &Client, extension: &str) -> Result<bool, kube::Error> {
    let now = Api::<DeserializeGuard<OrchestratorExtension>>::all(client.clone()).get_opt(extension).await?;
    // One that cannot be read may want it.
    let wants = |now: &DeserializeGuard<_>| now.0.as_ref().map_or(true, is_restricted);
    Ok(now.is_some_and(|now| now.meta().deletion_timestamp.is_none() && wants(&now)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Fixture, extension};
    use super::*;

    const POLICY: &str =
        "/apis/networking.k8s.io/v1/namespaces/outrigger-system/networkpolicies/outrigger-action-redfish";
    const EXTENSION: &str = "/apis/outrigger.dev/v1alpha1/orchestratorextensions/redfish";

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        let mut extension = extension();
        extension["spec"]["runtime"] = json!({"networkPolicy": {"egress": []}});
        fixture.api.put(EXTENSION, extension);
        fixture
    }

    #[tokio::test]
    async fn a_policy_is_written_when_it_is_missing_or_another_and_only_then() {
        let fixture = fixture();
        let writes = || fixture.api.writes().len();
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(fixture.api.writes(), [format!("PATCH {POLICY}")]);
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(writes(), 1);
        let open = EgressRule { network: "192.0.2.0/24".parse().unwrap(), ports: vec![] };
        fixture.context.restrict("redfish", &[open]).await.unwrap();
        assert_eq!(writes(), 2);
        fixture.api.change(POLICY, |policy| policy["spec"]["egress"] = json!([{}]));
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(writes(), 3, "somebody else opened it");
    }

    #[tokio::test]
    async fn an_earlier_generation_takes_no_policy_away_that_is_wanted_now() {
        let fixture = fixture();
        fixture.context.restrict("redfish", &[]).await.unwrap();
        let spec = fixture.api.get(POLICY).unwrap()["spec"].clone();
        let lift = async || lift(&fixture.context.client, "outrigger-system", "redfish").await.unwrap();
        let writes = fixture.api.writes().len();
        lift().await;
        assert_eq!(fixture.api.writes().len(), writes);
        // It comes to want one just when the policy is deleted.
        fixture.api.change(EXTENSION, |extension| extension["spec"]["runtime"] = json!({}));
        fixture.api.before(|api, method, path| {
            if method == "DELETE" && path == POLICY {
                api.change(EXTENSION, |extension| {
                    extension["spec"]["runtime"] = json!({"networkPolicy": {"egress": []}});
                });
            }
            None
        });
        lift().await;
        let writes = fixture.api.writes();
        assert!(writes.contains(&format!("DELETE {POLICY}")), "{writes:?}");
        assert_eq!(fixture.api.get(POLICY).map(|policy| policy["spec"].clone()), Some(spec));
    }

    #[tokio::test]
    async fn a_policy_that_changed_meanwhile_is_not_deleted() {
        let fixture = fixture();
        fixture.context.restrict("redfish", &[]).await.unwrap();
        fixture.api.change(EXTENSION, |extension| extension["spec"]["runtime"] = json!({}));
        fixture.api.before(|api, method, path| {
            if method == "DELETE" && path == POLICY {
                api.change(POLICY, |policy| policy["spec"]["egress"] = json!([{}]));
            }
            None
        });
        let result = lift(&fixture.context.client, "outrigger-system", "redfish").await;
        assert!(is_conflict(&result.unwrap_err()));
        assert!(fixture.api.get(POLICY).is_some());
    }

    #[tokio::test]
    async fn an_extension_that_wants_none_any_more_is_left_without_one() {
        let fixture = fixture();
        fixture.api.change(EXTENSION, |extension| extension["spec"]["runtime"] = json!({}));
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(fixture.api.get(POLICY), None);
        fixture.api.remove(EXTENSION);
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(fixture.api.get(POLICY), None);
    }
}
