//! Keeps an extension's NetworkPolicy right before its Jobs are created.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::context::Context;
use super::network_policy::{name, network_policy};
use crate::api::MANAGER;
use crate::validate::EgressRule;

impl Context {
    /// Creates or changes the NetworkPolicy of an extension, where it is not what `egress` says.
    ///
    /// # Access
    /// `get`, `create` and `patch` on NetworkPolicies of the operator's namespace.
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
        policies.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    const POLICY: &str =
        "/apis/networking.k8s.io/v1/namespaces/outrigger-system/networkpolicies/outrigger-action-redfish";

    #[tokio::test]
    async fn a_policy_is_written_when_it_is_missing_or_another_and_only_then() {
        let fixture = Fixture::new();
        let writes = || fixture.api.writes().len();
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(fixture.api.writes(), [format!("PATCH {POLICY}")]);
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(writes(), 1);
        let open = EgressRule { network: "192.0.2.0/24".parse().unwrap(), ports: vec![] };
        fixture.context.restrict("redfish", &[open]).await.unwrap();
        assert_eq!(writes(), 2);
        fixture.api.change(POLICY, |policy| policy["spec"]["egress"] = serde_json::json!([{}]));
        fixture.context.restrict("redfish", &[]).await.unwrap();
        assert_eq!(writes(), 3, "somebody else opened it");
    }
}
