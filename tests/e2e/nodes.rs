//! What runs on the nodes, whatever the API server still has of it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{NAMESPACE, World, until};

fn names(list: &Value) -> impl Iterator<Item = String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
}

/// Names of the pods with a label in the operator's namespace.
pub fn pods(world: &World, label: &str) -> BTreeSet<String> {
    names(&world.get(&format!("-n {NAMESPACE} pods -l {label}"))).collect()
}

/// Waits until no container of these pods of the operator's namespace runs. A pod that is deleted by force is gone from the
/// API at once, and its processes have their grace period.
pub fn stopped(world: &World, pods: &BTreeSet<String>) {
    until("end of the containers", || {
        for node in names(&world.get("nodes")) {
            let path = format!("/api/v1/nodes/{node}/proxy/runningpods/");
            let printed = world.kubectl(&["get", "--raw", &path]);
            let list = serde_json::Deserializer::from_str(&printed.text).into_iter::<Value>().next();
            let list = list.and_then(Result::ok).ok_or(printed.text)?;
            if let Some(name) = names(&list).find(|name| pods.contains(name)) {
                return Err(format!("{name} runs"));
            }
        }
        Ok(())
    });
}
