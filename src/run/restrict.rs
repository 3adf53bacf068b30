//! Keeps an extension's NetworkPolicy right before its Jobs are created, and takes it away.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};

use super::context::Context;
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

/// Deletes an extension's NetworkPolicy, if there is one.
///
/// # Access
/// `get` and `delete` on NetworkPolicies of the operator's namespace.
///
/// # Errors
/// The API refused or failed.
pub async fn lift(client: &Client, namespace: &str, extension: &str) -> Result<(), kube::Error> {
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), namespace);
    let name = name(extension);
    if policies.get_opt(&name).await?.is_none() {
        return Ok(());
    }
    match policies.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        result => result.map(drop),
    }
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
