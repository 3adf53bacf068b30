//! Takes away the NetworkPolicy of an extension that has none any more. It is made when a Job needs it.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::DeleteParams;

use super::context::Context;
use crate::run::network_policy::name;

/// Deletes the extension's NetworkPolicy, if there is one.
///
/// # Access
/// `get` and `delete` on NetworkPolicies of the operator's namespace.
pub async fn remove(extension: &str, context: &Context) -> Result<(), kube::Error> {
    let policies = Api::<NetworkPolicy>::namespaced(context.client.clone(), &context.namespace);
    let name = name(extension);
    if policies.get_opt(&name).await?.is_none() {
        return Ok(());
    }
    match policies.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        result => result.map(drop),
    }
}
