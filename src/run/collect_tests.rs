//! Tests of collecting against an API in memory.

use serde_json::json;

use super::super::fixture::{Fixture, RUN};
use super::*;

fn finished(fixture: &mut Fixture) {
    fixture.api.change(RUN, |run| {
        run["spec"]["ttlSecondsAfterFinished"] = json!(5);
        run["status"] = json!({"phase": "Succeeded", "completionTime": "2026-11-23T10:00:00Z"});
    });
    fixture.refresh();
}

#[tokio::test]
async fn a_run_whose_ttl_is_over_is_deleted() {
    let mut fixture = Fixture::new();
    assert_eq!(collect(&fixture.context).await.unwrap(), 0);
    finished(&mut fixture);
    assert_eq!(collect(&fixture.context).await.unwrap(), 1);
    assert!(fixture.api.get(RUN).is_none());
}

#[tokio::test]
async fn a_run_that_changed_meanwhile_or_was_made_again_is_left_alone() {
    let mut fixture = Fixture::new();
    finished(&mut fixture);
    fixture.api.change(RUN, |run| run["metadata"]["labels"] = json!({"keep": "me"}));
    assert_eq!(collect(&fixture.context).await.unwrap(), 0);
    finished(&mut fixture);
    fixture.api.change(RUN, |run| run["metadata"]["uid"] = json!("another"));
    assert_eq!(collect(&fixture.context).await.unwrap(), 0);
    assert!(fixture.api.get(RUN).is_some());
}

#[tokio::test]
async fn a_run_that_cannot_be_deleted_keeps_no_other() {
    let mut fixture = Fixture::new();
    finished(&mut fixture);
    let mut younger = fixture.api.get(RUN).unwrap();
    younger["metadata"]["name"] = json!("younger");
    younger["metadata"]["uid"] = json!("younger");
    younger["status"]["completionTime"] = json!("2026-11-23T10:00:01Z");
    let path = RUN.replace("/backup", "/younger");
    fixture.api.put(&path, younger);
    fixture.refresh();
    let refused = axum::http::StatusCode::FORBIDDEN;
    fixture.api.before(move |_, method, path| (method == "DELETE" && path.ends_with("/backup")).then_some(refused));
    assert!(collect(&fixture.context).await.is_err());
    assert!(fixture.api.get(RUN).is_some());
    assert!(fixture.api.get(&path).is_none());
}

#[tokio::test]
async fn what_is_there_is_counted() {
    let mut fixture = Fixture::new();
    finished(&mut fixture);
    count(&fixture.context);
    let text = fixture.context.metrics.encode();
    assert!(text.contains("outrigger_runs{phase=\"Succeeded\"} 1\n"), "{text}");
    assert!(text.contains("outrigger_runs_active 0\n"), "{text}");
}

#[tokio::test]
async fn a_run_is_active_from_its_decision_but_not_while_it_pauses_before_the_next_attempt() {
    let mut fixture = Fixture::new();
    let active = |fixture: &mut Fixture, more: serde_json::Value| {
        fixture.api.change(RUN, |run| {
            let mut attempt = json!({"number": 1, "jobs": 1, "job": "j", "decidedAt": "2026-11-23T10:00:00.000000Z"});
            attempt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            run["status"] = json!({"phase": "Pending", "attempts": [attempt]});
        });
        fixture.refresh();
        count(&fixture.context);
        let text = fixture.context.metrics.encode();
        text.lines().find_map(|line| line.strip_prefix("outrigger_runs_active ")).unwrap().to_owned()
    };
    assert_eq!(active(&mut fixture, json!({})), "1");
    let failed = json!({"reason": "ActionFailed", "nonceHash": "n", "endedAt": "2026-11-23T10:00:05.000000Z"});
    assert_eq!(active(&mut fixture, failed), "0");
}
