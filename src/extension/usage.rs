//! What objects use of the volume, read leniently: an object that is not readable as its kind must hold up neither the
//! collection of trees nor the deletion of another extension. Pure but for [`each`].

use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use serde_json::Value;

use crate::digest::Digest;

/// Objects that are asked for at a time.
const PAGE: u32 = 500;

/// Visits every object of a kind as the API has it now, page by page.
///
/// # Errors
/// The API's.
pub async fn each<K: Resource<DynamicType = ()>>(
    client: &Client,
    mut visit: impl FnMut(&DynamicObject),
) -> Result<(), kube::Error> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        page.items.iter().for_each(&mut visit);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// The trees and manifests that an extension keeps: the installed pair and its history.
pub fn kept_by_extension(extension: &DynamicObject) -> Vec<Digest> {
    let status = &extension.data["status"];
    let history = status["history"].as_array().into_iter().flatten();
    std::iter::once(&status["artifact"])
        .chain(history)
        .flat_map(|artifact| [&artifact["treeDigest"], &artifact["manifestDigest"]])
        .filter_map(digest)
        .collect()
}

/// The tree that a run which has not ended is pinned to, and the manifest by which its outcome will be read.
pub fn pinned_by_run(run: &DynamicObject) -> Vec<Digest> {
    let revision = &run.data["status"]["revision"];
    let pinned = [&revision["treeDigest"], &revision["manifestDigest"]];
    if has_ended(run) { Vec::new() } else { pinned.into_iter().filter_map(digest).collect() }
}

/// Whether a run of `extension` has a Job and has not ended.
pub fn is_active_run(run: &DynamicObject, extension: &str) -> bool {
    let attempts = run.data["status"]["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty());
    run.data["spec"]["extensionRef"]["name"] == extension && attempts && !has_ended(run)
}

fn has_ended(run: &DynamicObject) -> bool {
    let phase = run.data["status"]["phase"].as_str().unwrap_or("Pending");
    !matches!(phase, "Pending" | "Running")
}

fn digest(value: &Value) -> Option<Digest> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> DynamicObject {
        let mut value = value;
        value["metadata"] = json!({"name": "x"});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_installed_pair_and_its_history_are_kept_whatever_else_the_object_holds() {
        let [a, b, c] = ["a", "b", "c"].map(Digest::of);
        let extension = object(json!({
            "spec": {"suspend": "not a boolean"},
            "status": {
                "artifact": {"treeDigest": a, "manifestDigest": b},
                "history": [{"treeDigest": c}, "nonsense"],
            },
        }));
        assert_eq!(kept_by_extension(&extension), [a, b, c]);
    }

    #[test]
    fn only_a_run_that_has_not_ended_uses_its_tree() {
        let (tree, manifest) = (Digest::of("a"), Digest::of("m"));
        let run = |phase: &str| {
            object(json!({
                "spec": {"extensionRef": {"name": "probe"}, "timeoutSeconds": "soon"},
                "status": {"phase": phase, "attempts": [{}], "revision": {"treeDigest": tree, "manifestDigest": manifest}},
            }))
        };
        for phase in ["Pending", "Running"] {
            assert_eq!(pinned_by_run(&run(phase)), [tree, manifest]);
            assert!(is_active_run(&run(phase), "probe") && !is_active_run(&run(phase), "other"));
        }
        for phase in ["Succeeded", "Failed", "Canceled", "OutcomeUnknown"] {
            assert_eq!(pinned_by_run(&run(phase)), []);
            assert!(!is_active_run(&run(phase), "probe"));
        }
        let waiting = object(json!({"spec": {"extensionRef": {"name": "probe"}}}));
        assert!(!is_active_run(&waiting, "probe"), "without a Job nothing is in use");
    }
}
