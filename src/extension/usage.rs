//! What objects use of the volume, read leniently: an object that is not readable as its kind must hold up neither the
//! collection of trees nor the deletion of another extension. Pure but for [`each`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::api::{ListParams, Request};
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::ActionRun;
use crate::digest::Digest;

/// Objects that are asked for at a time.
const PAGE: u32 = 500;
/// Runs that are asked for at a time: each may have 160 KiB, of which nearly nothing matters here.
const PAGE_OF_RUNS: u32 = 50;

/// An extension or a run, as far as it says what is used.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Lenient<Spec>,
    #[serde(default)]
    status: Lenient<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    extension_ref: Lenient<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Lenient<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    artifact: Lenient<Pair>,
    history: Lenient<Vec<Lenient<Pair>>>,
    revision: Lenient<Pair>,
    attempts: Lenient<Vec<IgnoredAny>>,
    phase: Lenient<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pair {
    tree_digest: Lenient<String>,
    manifest_digest: Lenient<String>,
}

/// A value, or something else in its place that says nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Is(T),
    Other(IgnoredAny),
}

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self::Other(IgnoredAny)
    }
}

impl<T> Lenient<T> {
    fn get(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

impl Lenient<String> {
    fn digest(&self) -> Option<Digest> {
        self.get()?.parse().ok()
    }
}

impl User {
    /// Its namespace.
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn status(&self) -> Status {
        self.status.get().cloned().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<User>,
}

/// Visits every object of a kind as the API has it now, page by page.
///
/// # Errors
/// The API's.
pub async fn each<K: Resource<DynamicType = ()>>(
    client: &Client,
    mut visit: impl FnMut(&User),
) -> Result<(), kube::Error> {
    let page = if K::kind(&()) == ActionRun::kind(&()) { PAGE_OF_RUNS } else { PAGE };
    let mut parameters = ListParams::default().limit(page);
    loop {
        let request = Request::new(K::url_path(&(), None)).list(&parameters).map_err(kube::Error::BuildRequest)?;
        let page: Page = client.request(request).await?;
        page.items.iter().for_each(&mut visit);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// The trees and manifests that an extension keeps: the installed pair and its history.
pub fn kept_by_extension(extension: &User) -> Vec<Digest> {
    let status = extension.status();
    let history = status.history.get().into_iter().flatten();
    std::iter::once(&status.artifact)
        .chain(history)
        .filter_map(Lenient::get)
        .flat_map(|pair| [&pair.tree_digest, &pair.manifest_digest])
        .filter_map(Lenient::digest)
        .collect()
}

/// The tree that a run which has not ended is pinned to, and the manifest by which its outcome will be read.
pub fn pinned_by_run(run: &User) -> Vec<Digest> {
    let status = run.status();
    let revision = status.revision.get().filter(|_| !has_ended(&status));
    let pinned = revision.into_iter().flat_map(|pair| [&pair.tree_digest, &pair.manifest_digest]);
    pinned.filter_map(Lenient::digest).collect()
}

/// Whether a run of `extension` has a Job and has not ended.
pub fn is_active_run(run: &User, extension: &str) -> bool {
    let status = run.status();
    let named = run.spec.get().and_then(|spec| spec.extension_ref.get()?.name.get());
    let has_attempts = status.attempts.get().is_some_and(|attempts| !attempts.is_empty());
    named.is_some_and(|name| name == extension) && has_attempts && !has_ended(&status)
}

fn has_ended(status: &Status) -> bool {
    let phase = status.phase.get().map_or("Pending", String::as_str);
    !matches!(phase, "Pending" | "Running")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> User {
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
                "history": [{"treeDigest": c, "manifestDigest": 7}, "nonsense"],
            },
        }));
        assert_eq!(kept_by_extension(&extension), [a, b, c]);
        for nonsense in [json!({}), json!({"status": "nonsense"}), json!({"status": {"history": 7, "artifact": []}})] {
            assert_eq!(kept_by_extension(&object(nonsense)), []);
        }
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
