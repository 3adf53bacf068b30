//! Tests of the limit of each namespace: what one holds is never all that there is.

use std::sync::Arc;

use super::super::fixture::Fixture;
use super::tests::{active, add, all_at_once, ends, limited, one, path, status, woken};
use super::*;

fn with_namespaces(operator: Option<u32>, of_namespace: u32) -> Fixture {
    let mut fixture = limited(operator, None);
    settings(&mut fixture, of_namespace);
    fixture
}

fn settings(fixture: &mut Fixture, of_namespace: u32) {
    let context = Arc::get_mut(&mut fixture.context).unwrap();
    context.settings.max_concurrent_runs_per_namespace = Some(of_namespace);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_namespace_that_floods_the_queue_leaves_places_for_others() {
    let mut fixture = with_namespaces(Some(5), 4);
    for number in 0..20 {
        add(&fixture, "greedy", &format!("run-{number:02}"), 60 - number);
    }
    fixture.refresh();
    all_at_once(&fixture).await.into_iter().for_each(|result| result.unwrap());
    let started = active(&fixture);
    assert_eq!(started.len(), 4, "{started:?}");
    let limit = ": namespace \"greedy\" runs 4 actions at a time (--max-concurrent-runs-per-namespace)";
    for waiting in
        (0..20).map(|number| path("greedy", &format!("run-{number:02}"))).filter(|run| !started.contains(run))
    {
        let status = status(&fixture, &waiting);
        assert_eq!(status["reason"], "Queued", "{status}");
        assert!(status["message"].as_str().unwrap().ends_with(limit), "{status}");
    }
    add(&fixture, "quiet", "late", 0);
    one(&mut fixture, "quiet", "late").await;
    assert!(active(&fixture).contains(&path("quiet", "late")), "{:?}", active(&fixture));
}

#[tokio::test]
async fn the_end_of_a_run_wakes_the_next_of_its_namespace_where_that_was_full() {
    let mut fixture = with_namespaces(None, 2);
    for (namespace, name, age) in
        [("a", "a1", 60), ("a", "a2", 50), ("b", "b1", 40), ("a", "a3", 30), ("a", "a4", 20), ("b", "b2", 10)]
    {
        add(&fixture, namespace, name, age);
        one(&mut fixture, namespace, name).await;
    }
    let started = [path("a", "a1"), path("a", "a2"), path("b", "b1"), path("b", "b2")];
    assert_eq!(active(&fixture), started);
    let mut receiver = fixture.context.slots.woken().unwrap();
    ends(&fixture, &path("b", "b1"));
    one(&mut fixture, "b", "b1").await;
    assert_eq!(woken(&fixture, &mut receiver), [""; 0]);
    ends(&fixture, &path("a", "a2"));
    one(&mut fixture, "a", "a2").await;
    assert_eq!(woken(&fixture, &mut receiver), ["a3"]);
    one(&mut fixture, "a", "a3").await;
    one(&mut fixture, "a", "a4").await;
    assert_eq!(active(&fixture), [path("a", "a1"), path("a", "a3"), path("b", "b2")]);
}

#[tokio::test]
async fn who_comes_alone_waits_where_its_namespace_is_full_and_nowhere_else() {
    let mut fixture = with_namespaces(Some(5), 1);
    for (namespace, name) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        add(&fixture, namespace, name, 30);
    }
    Arc::get_mut(&mut fixture.context).unwrap().slots.interval = Duration::from_secs(3600);
    fixture.refresh();
    let run = |namespace: &str, name: &str| {
        let guard = fixture.context.caches.runs.get(&ObjectRef::new(name).within(namespace)).unwrap();
        guard.0.as_ref().unwrap().clone()
    };
    for (namespace, name, is_now) in [("a", "a1", true), ("a", "a2", false), ("b", "b1", true)] {
        let run = run(namespace, name);
        match fixture.context.turn(&run) {
            Turn::Now(slot) if is_now => slot.keep(),
            Turn::Soon(_) if !is_now => fixture.context.left(&run),
            _ => panic!("{name}"),
        }
    }
}

#[tokio::test]
async fn an_operator_that_is_started_with_a_raised_limit_starts_the_next() {
    let mut fixture = with_namespaces(Some(5), 1);
    for (name, age) in [("first", 30), ("second", 20), ("third", 10)] {
        add(&fixture, "a", name, age);
        one(&mut fixture, "a", name).await;
    }
    assert_eq!(active(&fixture), [path("a", "first")]);
    settings(&mut fixture, 2);
    Arc::get_mut(&mut fixture.context).unwrap().slots = Slots { interval: Duration::ZERO, ..Slots::default() };
    one(&mut fixture, "a", "second").await;
    one(&mut fixture, "a", "third").await;
    assert_eq!(active(&fixture), [path("a", "first"), path("a", "second")]);
}
