//! Tests of the limits: whatever is reconciled at the same time, and whatever the caches show.

use serde_json::{Value, json};

use super::super::controller::reconcile;
use super::super::fixture::{self, Fixture, JOBS, NAMESPACES, RUN};
use super::super::live::is_conflict;
use super::*;
use crate::run::controller::ReconcileError;

pub(super) fn path(namespace: &str, name: &str) -> String {
    format!("{NAMESPACES}/{namespace}/actionruns/{name}")
}

/// A run of its own namespace; `age` in seconds.
pub(super) fn add(fixture: &Fixture, namespace: &str, name: &str, age: i64) {
    let mut run = fixture::run();
    let created = Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_secs(age);
    run["metadata"]["name"] = json!(name);
    run["metadata"]["namespace"] = json!(namespace);
    run["metadata"]["uid"] = json!(format!("{namespace}-{name}"));
    run["metadata"]["creationTimestamp"] = json!(created.to_string());
    run["spec"].as_object_mut().unwrap().remove("targetRef");
    fixture.api.put(&path(namespace, name), run);
}

pub(super) fn limited(operator: Option<u32>, of_extension: Option<u32>) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.api.remove(RUN);
    let context = std::sync::Arc::get_mut(&mut fixture.context).unwrap();
    context.settings.max_concurrent_runs = operator;
    // Every question is a look of its own, so that no test waits.
    context.slots.interval = Duration::ZERO;
    fixture.extend(with_limit(of_extension));
    fixture
}

fn with_limit(most: Option<u32>) -> Value {
    let mut extension = fixture::extension();
    extension["spec"]["runtime"] = json!({"maxConcurrentRuns": most});
    extension
}

pub(super) fn status(fixture: &Fixture, path: &str) -> Value {
    fixture.api.get(path).unwrap()["status"].clone()
}

/// Paths of the runs that are decided and have not ended.
pub(super) fn active(fixture: &Fixture) -> Vec<String> {
    let is_active = |run: &Value| {
        let has_ended = ["Succeeded", "Failed", "Canceled"].contains(&run["status"]["phase"].as_str().unwrap_or(""));
        run["status"]["attempts"].is_array() && !has_ended
    };
    let runs = fixture.api.under(NAMESPACES).into_iter();
    runs.filter(|(path, run)| path.contains("/actionruns/") && is_active(run)).map(|(path, _)| path).collect()
}

pub(super) fn ends(fixture: &Fixture, path: &str) {
    fixture.api.change(path, |run| {
        run["status"]["phase"] = json!("Succeeded");
        run["status"]["completionTime"] = json!("2026-11-23T10:00:00Z");
    });
}

/// Reconciles everything that the cache holds at the same time.
pub(super) async fn all_at_once(fixture: &Fixture) -> Vec<Result<(), ReconcileError>> {
    let runs = fixture.context.caches.runs.state().into_iter();
    let tasks: Vec<_> = runs
        .map(|run| {
            let context = fixture.context.clone();
            tokio::spawn(async move { reconcile(run, context).await.map(drop) })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

pub(super) async fn one(fixture: &mut Fixture, namespace: &str, name: &str) {
    fixture.refresh();
    let run = fixture.context.caches.runs.get(&ObjectRef::new(name).within(namespace)).unwrap();
    reconcile(run, fixture.context.clone()).await.unwrap();
}

/// Looks, if something has changed, as the controller does; whom that and all looks before have woken.
pub(super) fn woken(fixture: &Fixture, receiver: &mut UnboundedReceiver<Reference>) -> Vec<String> {
    fixture.context.look_at_change();
    std::iter::from_fn(|| receiver.try_recv().ok()).map(|run| run.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_runs_are_ever_active_than_allowed_and_all_get_their_turn() {
    let mut fixture = limited(Some(5), Some(4));
    for number in 0..30 {
        add(&fixture, &format!("team-{}", number % 3), &format!("run-{number}"), 60 - number);
    }
    let mut started = 0;
    for _ in 0..30 {
        fixture.refresh();
        all_at_once(&fixture).await.into_iter().for_each(|result| result.unwrap());
        // Once more with caches that show none of it.
        for result in all_at_once(&fixture).await {
            assert!(result.is_ok() || matches!(&result, Err(ReconcileError::Api(error)) if is_conflict(error)));
        }
        let now = active(&fixture);
        assert!(now.len() <= 4, "{now:?}");
        if now.is_empty() {
            break;
        }
        started += now.len();
        now.iter().for_each(|path| ends(&fixture, path));
    }
    assert_eq!(started, 30);
}

#[tokio::test]
async fn the_next_in_line_is_woken_when_a_run_ends_and_nobody_else_writes() {
    let mut fixture = limited(Some(1), None);
    for (name, age) in [("first", 30), ("second", 20), ("third", 10)] {
        add(&fixture, "a", name, age);
        one(&mut fixture, "a", name).await;
    }
    assert_eq!(active(&fixture), [path("a", "first")]);
    assert_eq!(status(&fixture, &path("a", "second"))["queuePosition"], 1);
    assert_eq!(status(&fixture, &path("a", "third"))["queuePosition"], 2);
    let mut receiver = fixture.context.slots.woken().unwrap();
    assert_eq!(woken(&fixture, &mut receiver), [""; 0]);
    ends(&fixture, &path("a", "first"));
    one(&mut fixture, "a", "first").await;
    assert_eq!(woken(&fixture, &mut receiver), ["second"]);
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [path("a", "second")]);
    assert!(status(&fixture, &path("a", "second")).get("queuePosition").is_none());
    // The third has moved up, and says so only when its last place has stood for ten seconds.
    let before = fixture.api.writes().len();
    one(&mut fixture, "a", "third").await;
    assert_eq!(fixture.api.writes().len(), before);
    assert_eq!(status(&fixture, &path("a", "third"))["queuePosition"], 2);
}

#[tokio::test]
async fn the_next_in_line_is_woken_whoever_sees_first_that_a_slot_is_free() {
    let paused = |run: &mut Value| {
        run["status"]["attempts"][0]["nonceHash"] = json!("n");
        run["status"]["attempts"][0]["endedAt"] = json!(format!("{:.6}", Timestamp::now()));
    };
    let ended = |run: &mut Value| {
        run["status"]["phase"] = json!("Succeeded");
        run["status"]["completionTime"] = json!("2026-11-23T10:00:00Z");
    };
    for frees in [&ended as &dyn Fn(&mut Value), &paused] {
        let mut fixture = limited(Some(1), None);
        for (name, age) in [("first", 30), ("second", 20), ("third", 10)] {
            add(&fixture, "a", name, age);
            fixture.api.change(&path("a", name), |run| run["spec"]["retries"] = json!(1));
            one(&mut fixture, "a", name).await;
        }
        let mut receiver = fixture.context.slots.woken().unwrap();
        fixture.api.change(&path("a", "first"), frees);
        one(&mut fixture, "a", "third").await;
        assert_eq!(woken(&fixture, &mut receiver), ["second"]);
        one(&mut fixture, "a", "first").await;
        assert!(!woken(&fixture, &mut receiver).contains(&"third".to_owned()));
        one(&mut fixture, "a", "second").await;
        assert_eq!(woken(&fixture, &mut receiver), [""; 0]);
        assert!(status(&fixture, &path("a", "second"))["attempts"].is_array());
    }
}

#[tokio::test]
async fn a_run_that_vanishes_or_no_longer_waits_lets_the_next_one_through() {
    let mut fixture = limited(Some(1), None);
    for (name, age) in [("first", 30), ("second", 20), ("third", 10)] {
        add(&fixture, "a", name, age);
        one(&mut fixture, "a", name).await;
    }
    let mut receiver = fixture.context.slots.woken().unwrap();
    // Its finalizer was removed by force.
    fixture.api.remove(&path("a", "first"));
    fixture.refresh();
    fixture.context.wake_next();
    assert_eq!(woken(&fixture, &mut receiver), ["second"]);
    fixture.api.change(&path("a", "second"), |run| run["spec"]["cancel"] = json!(true));
    one(&mut fixture, "a", "second").await;
    assert_eq!(woken(&fixture, &mut receiver), ["third"]);
}

#[tokio::test]
async fn a_decision_that_could_not_be_written_gives_its_slot_back() {
    let mut fixture = limited(Some(1), None);
    add(&fixture, "a", "first", 30);
    add(&fixture, "a", "second", 20);
    fixture.refresh();
    let stale = fixture.context.caches.runs.get(&ObjectRef::new("first").within("a")).unwrap();
    fixture.api.change(&path("a", "first"), |run| run["spec"]["cancel"] = json!(true));
    assert!(reconcile(stale, fixture.context.clone()).await.is_err());
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [path("a", "second")]);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_keeps_its_slot() {
    let mut fixture = limited(Some(1), None);
    add(&fixture, "a", "first", 30);
    add(&fixture, "a", "second", 20);
    fixture.refresh();
    let stale = fixture.context.caches.runs.get(&ObjectRef::new("first").within("a")).unwrap();
    let lost = axum::http::StatusCode::GATEWAY_TIMEOUT;
    fixture.api.before(move |_, method, path| (method == "PUT" && path.ends_with("first/status")).then_some(lost));
    assert!(reconcile(stale, fixture.context.clone()).await.is_err());
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [""; 0]);
    fixture.api.before(|_, _, _| None);
    one(&mut fixture, "a", "first").await;
    assert_eq!(active(&fixture), [path("a", "first")]);
}

#[tokio::test]
async fn a_new_leader_knows_from_the_caches_who_runs_and_who_waits() {
    let mut fixture = limited(Some(1), None);
    for (name, age) in [("first", 30), ("second", 20), ("third", 10)] {
        add(&fixture, "a", name, age);
        one(&mut fixture, "a", name).await;
    }
    std::sync::Arc::get_mut(&mut fixture.context).unwrap().slots =
        Slots { interval: Duration::ZERO, ..Slots::default() };
    one(&mut fixture, "a", "third").await;
    assert_eq!(active(&fixture), [path("a", "first")]);
    ends(&fixture, &path("a", "first"));
    // The second waits longer, although only the third has asked the new leader.
    one(&mut fixture, "a", "third").await;
    assert_eq!(active(&fixture), [""; 0]);
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [path("a", "second")]);
}

#[tokio::test]
async fn a_raised_limit_counts_at_the_next_look() {
    let mut fixture = limited(None, Some(1));
    for (name, age) in [("first", 30), ("second", 20)] {
        add(&fixture, "a", name, age);
        one(&mut fixture, "a", name).await;
    }
    let expected =
        "queued at position 1: extension \"redfish\" runs 1 action at a time (spec.runtime.maxConcurrentRuns)";
    assert_eq!(status(&fixture, &path("a", "second"))["message"], expected);
    fixture.extend(with_limit(Some(2)));
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture).len(), 2);
    let jobs = fixture.api.under(JOBS).len();
    assert_eq!(jobs, 2);
}

#[tokio::test]
async fn a_limit_that_is_raised_just_after_a_look_is_not_forgotten() {
    let mut fixture = limited(None, Some(1));
    for (name, age) in [("first", 30), ("second", 20)] {
        add(&fixture, "a", name, age);
        one(&mut fixture, "a", name).await;
    }
    std::sync::Arc::get_mut(&mut fixture.context).unwrap().slots.interval = Duration::from_secs(3600);
    fixture.extend(with_limit(Some(2)));
    let mut receiver = fixture.context.slots.woken().unwrap();
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture).len(), 1);
    assert_eq!(woken(&fixture, &mut receiver), ["second"]);
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture).len(), 2);
}

#[tokio::test]
async fn a_run_of_a_missing_extension_is_not_in_the_queue() {
    let mut fixture = limited(Some(1), None);
    add(&fixture, "a", "lost", 30);
    fixture.api.change(&path("a", "lost"), |run| run["spec"]["extensionRef"]["name"] = json!("other"));
    one(&mut fixture, "a", "lost").await;
    add(&fixture, "a", "ready", 20);
    one(&mut fixture, "a", "ready").await;
    assert_eq!(active(&fixture), [path("a", "ready")]);
    assert_eq!(fixture.context.slots.waiting(), 0);
    assert!(status(&fixture, &path("a", "lost")).get("queuePosition").is_none());
}

#[tokio::test]
async fn a_run_that_pauses_between_attempts_gives_its_slot_away_and_waits_for_another() {
    let mut fixture = limited(Some(1), None);
    add(&fixture, "a", "flaky", 30);
    fixture.api.change(&path("a", "flaky"), |run| run["spec"]["retries"] = json!(1));
    one(&mut fixture, "a", "flaky").await;
    add(&fixture, "a", "second", 20);
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [path("a", "flaky")]);
    let mut receiver = fixture.context.slots.woken().unwrap();

    let fails = |fixture: &Fixture, ended: Timestamp| {
        fixture.api.change(&path("a", "flaky"), |run| {
            run["status"]["attempts"][0]["nonceHash"] = json!("n");
            run["status"]["attempts"][0]["endedAt"] = json!(format!("{ended:.6}"));
        });
    };
    let now = Timestamp::now();
    fails(&fixture, now);
    one(&mut fixture, "a", "flaky").await;
    assert_eq!(woken(&fixture, &mut receiver), ["second"]);
    one(&mut fixture, "a", "second").await;
    assert!(status(&fixture, &path("a", "second"))["attempts"].is_array());

    // Its pause is over; the slot is not free.
    fails(&fixture, now - k8s_openapi::jiff::SignedDuration::from_secs(20));
    one(&mut fixture, "a", "flaky").await;
    let waiting = status(&fixture, &path("a", "flaky"));
    assert_eq!((&waiting["reason"], &waiting["queuePosition"]), (&json!("Queued"), &json!(1)), "{waiting}");
    assert_eq!(waiting["attempts"].as_array().unwrap().len(), 1);
    ends(&fixture, &path("a", "second"));
    one(&mut fixture, "a", "second").await;
    assert_eq!(woken(&fixture, &mut receiver), ["flaky"]);
    one(&mut fixture, "a", "flaky").await;
    assert_eq!(status(&fixture, &path("a", "flaky"))["attempts"][1]["number"], 2);
}

#[tokio::test]
async fn two_thousand_that_wait_cost_few_looks_and_each_is_woken_once() {
    let mut fixture = limited(None, Some(1));
    for number in 0..2000 {
        add(&fixture, &format!("team-{}", number % 7), &format!("run-{number}"), 60);
    }
    fixture.refresh();
    // Longer than this test takes.
    std::sync::Arc::get_mut(&mut fixture.context).unwrap().slots.interval = Duration::from_secs(3600);
    let context = fixture.context.clone();
    let guards = context.caches.runs.state();
    let runs: Vec<&ActionRun> = guards.iter().map(|guard| guard.0.as_ref().unwrap()).collect();
    let looks = || context.slots.state().looks;
    let mut receiver = context.slots.woken().unwrap();
    let ask = |run| match context.turn(run) {
        Turn::Now(slot) => {
            slot.keep();
            "now"
        }
        Turn::Later(_) => "later",
        Turn::Soon(_) => "soon",
    };
    assert_eq!(ask(runs[0]), "now");
    // One look serves all who come within a moment.
    assert!(runs[1..].iter().all(|run| ask(run) == "soon"));
    assert_eq!(looks(), 1);
    context.look_again();
    assert!(runs[1..].iter().all(|run| ask(run) == "later"));
    assert_eq!(looks(), 2);
    // So does one for whatever changes within a moment: half of them no longer wait.
    runs[1000..].iter().for_each(|run| context.left(run));
    context.look_at_change();
    context.look_at_change();
    assert_eq!(looks(), 3);
    assert_eq!(woken(&fixture, &mut receiver), [""; 0]);
    // There is room for all: each is woken once, however often somebody looks before it has asked.
    fixture.extend(with_limit(Some(10_000)));
    (0..20).for_each(|_| context.look_again());
    assert_eq!(woken(&fixture, &mut receiver).len(), 999);
    // Who failed after that is not woken by what others do.
    let Turn::Now(slot) = context.turn(runs[1]) else { panic!("it is its turn") };
    drop(slot);
    context.left(runs[2]);
    context.look_at_change();
    assert_eq!(woken(&fixture, &mut receiver), [""; 0]);
}

#[tokio::test]
async fn a_run_that_left_the_queue_and_comes_back_starts_no_more_than_there_is_room_for() {
    let mut fixture = limited(Some(1), None);
    for (name, age) in [("first", 30), ("second", 20)] {
        add(&fixture, "a", name, age);
    }
    fixture.refresh();
    std::sync::Arc::get_mut(&mut fixture.context).unwrap().slots.interval = Duration::from_secs(3600);
    let context = fixture.context.clone();
    let run = |name: &str| {
        let guard = context.caches.runs.get(&ObjectRef::new(name).within("a")).unwrap();
        guard.0.as_ref().unwrap().clone()
    };
    // The first is told that it may start, and leaves before it does: its target is gone for a moment.
    context.slots.state().waiting.insert("a-first".into(), (waiting(&run("first")), reference(&run("first"))));
    context.look_again();
    context.left(&run("first"));
    let Turn::Now(slot) = context.turn(&run("second")) else { panic!("nobody else waits") };
    slot.keep();
    assert!(!matches!(context.turn(&run("first")), Turn::Now(_)), "the one slot is taken");
}

#[tokio::test]
async fn who_comes_alone_starts_at_once_while_there_is_room() {
    let mut fixture = limited(Some(2), None);
    for (name, age) in [("first", 30), ("second", 20), ("third", 10)] {
        add(&fixture, "a", name, age);
    }
    std::sync::Arc::get_mut(&mut fixture.context).unwrap().slots.interval = Duration::from_secs(3600);
    for name in ["first", "second", "third"] {
        one(&mut fixture, "a", name).await;
    }
    assert_eq!(active(&fixture), [path("a", "first"), path("a", "second")]);
    // The third asks again before it says anything.
    assert!(status(&fixture, &path("a", "third")).is_null());
}

#[tokio::test]
async fn a_slot_whose_decision_was_lost_is_free_again_once_the_caches_would_show_it() {
    let mut fixture = limited(Some(1), None);
    add(&fixture, "a", "first", 30);
    add(&fixture, "a", "second", 20);
    let lost = axum::http::StatusCode::GATEWAY_TIMEOUT;
    fixture.api.before(move |_, method, path| (method == "PUT" && path.ends_with("first/status")).then_some(lost));
    fixture.refresh();
    let first = fixture.context.caches.runs.get(&ObjectRef::new("first").within("a")).unwrap();
    assert!(reconcile(first, fixture.context.clone()).await.is_err());
    fixture.api.before(|_, _, _| None);
    // Now it only waits, and so never comes back for its slot.
    fixture.api.change(&path("a", "first"), |run| run["spec"]["extensionRef"]["name"] = json!("other"));
    one(&mut fixture, "a", "first").await;
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [""; 0], "it may have been stored");
    fixture.context.slots.state().taken.get_mut("a-first").unwrap().kept = Instant::now().checked_sub(CACHE_LAG);
    one(&mut fixture, "a", "first").await;
    one(&mut fixture, "a", "second").await;
    assert_eq!(active(&fixture), [path("a", "second")]);
}

#[test]
fn of_runs_that_were_created_in_the_same_second_the_first_that_was_admitted_goes_first() {
    let run = |admitted: &str| -> ActionRun {
        let mut run = super::super::fixture::run();
        run["metadata"]["creationTimestamp"] = "2026-11-23T10:00:05Z".into();
        run["spec"]["caller"] = json!({"username": "ada", "groups": [], "time": admitted, "mac": ""});
        serde_json::from_value(run).unwrap()
    };
    let at = |admitted: &str| created(&run(admitted)).to_string();
    assert_eq!(at("2026-11-23T10:00:05.250000Z"), "2026-11-23T10:00:05.25Z");
    // admitted just before the second began, by another clock, and by nobody
    for admitted in ["2026-11-23T10:00:04.999000Z", "2026-11-23T11:00:00Z", ""] {
        assert_eq!(at(admitted), "2026-11-23T10:00:05Z");
    }
}
