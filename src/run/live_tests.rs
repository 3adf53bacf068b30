//! Tests of what is asked of the API about a run.

use super::super::controller::reconcile;
use super::super::fixture::{Fixture, RUN, TARGET, UID};
use serde_json::json;

const NAMESPACE: &str = "/api/v1/namespaces/team-a";

async fn asked_for_labels(fixture: &mut Fixture) -> usize {
    fixture.refresh();
    let before = fixture.api.log().len();
    let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
    reconcile(run, fixture.context.clone()).await.unwrap();
    fixture.api.log()[before..].iter().filter(|line| **line == format!("GET {NAMESPACE}")).count()
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_looked_for_where_the_cache_has_it() {
    let mut fixture = Fixture::new();
    fixture.api.change(RUN, |run| run["spec"]["action"] = json!({"of": "another version"}));
    fixture.refresh();
    let before = fixture.api.log().len();
    assert!(fixture.context.read(UID).await.is_err());
    assert_eq!(fixture.api.log()[before..], [format!("GET {RUN}")]);
}

#[test]
fn the_chart_lets_the_operator_delete_what_secret_results_are_called() {
    let policy = include_str!("../../charts/outrigger/templates/secrets.yaml");
    assert!(policy.contains(r#"request.name.matches("^arun-[0-9a-f-]+-result$")"#), "{policy}");
    let name = super::result_secret(UID);
    let uid = name.strip_prefix("arun-").and_then(|rest| rest.strip_suffix("-result")).unwrap();
    assert!(!uid.is_empty() && uid.bytes().all(|byte| b"0123456789abcdef-".contains(&byte)), "{name}");
}

#[tokio::test]
async fn labels_of_a_namespace_are_asked_for_only_where_something_depends_on_them() {
    let mut fixture = Fixture::new();
    fixture.api.put(NAMESPACE, json!({"metadata": {"name": "team-a", "labels": {"tier": "gold"}}}));
    let selector = json!({"matchLabels": {"tier": "gold"}});
    let allow = |fixture: &Fixture, names: &[&str]| {
        let allowed = json!({"names": names, "selector": selector});
        fixture.api.change(TARGET, |target| target["spec"]["allowedNamespaces"] = allowed);
    };
    allow(&fixture, &["team-a"]);
    assert_eq!(asked_for_labels(&mut fixture).await, 0, "it is named");
    let mut fixture = Fixture::new();
    fixture.api.put(NAMESPACE, json!({"metadata": {"name": "team-a", "labels": {"tier": "gold"}}}));
    allow(&fixture, &["team-b"]);
    assert!(asked_for_labels(&mut fixture).await > 0);
    assert_eq!(fixture.status()["attempts"][0]["number"], 1, "its labels allow it: {}", fixture.status());
    fixture.api.change(RUN, |run| run["status"]["phase"] = json!("Succeeded"));
    assert_eq!(asked_for_labels(&mut fixture).await, 0, "it has ended");
}
