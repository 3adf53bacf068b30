//! Asks the API what the caller of a run is allowed to do, and reads the Secrets that the run names. Nothing is cached: a
//! right that was taken away is gone at once.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, Error};

use super::rights::{Right, Rights, is_granted, needed};
use super::secret_parameters::{self, Read, SecretParameters};
use crate::api::ActionRun;

/// The rights of the stamped caller that the run needs, all asked for at once.
///
/// # Access
/// `create` on subjectaccessreviews.
///
/// # Errors
/// The API's: what could not be asked is not known, and so not held.
pub async fn rights(client: &Client, run: &ActionRun) -> Result<Rights, Error> {
    let Some(caller) = &run.spec.caller else { return Ok(Rights::Held(Vec::new())) };
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let reviews = &reviews;
    let ask = |right: Right| async move {
        let answer = reviews.create(&PostParams::default(), &right.review(caller, namespace)).await?;
        Ok::<_, Error>(is_granted(&answer).then_some(right))
    };
    let held = try_join_all(needed(run).into_iter().map(ask)).await?;
    Ok(Rights::Held(held.into_iter().flatten().collect()))
}

/// The values of `spec.parametersFrom`. Nothing is read for a caller who lacks a right.
///
/// # Access
/// `get` on the Secrets that are named.
///
/// # Errors
/// The API's; a Secret that is missing or forbidden to the operator is an answer.
pub async fn secret_parameters(client: &Client, run: &ActionRun, rights: &Rights) -> Result<SecretParameters, Error> {
    if !rights.refusals(run).is_empty() {
        return Ok(SecretParameters::NotRead);
    }
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let mut read = BTreeMap::new();
    for from in &run.spec.parameters_from {
        let name = &from.secret_key_ref.name;
        if read.contains_key(name) {
            continue;
        }
        let result = match secrets.get_opt(name).await {
            Ok(Some(found)) => Read::Found(found.data.unwrap_or_default()),
            Ok(None) => Read::Missing,
            Err(Error::Api(status)) if status.code == 403 => Read::Forbidden,
            Err(error) => return Err(error),
        };
        read.insert(name.clone(), result);
    }
    Ok(secret_parameters::values(run, &read))
}
