//! Asks the API what the caller of a run is allowed to do. Nothing is cached: a right that was taken away is gone at once.

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client, Error};

use super::rights::{Right, Rights, is_granted, needed};
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
