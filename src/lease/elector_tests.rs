//! Tests of the elector against an API in memory, with real clocks and short times.

use serde_json::json;

use super::*;
use crate::fake_api::FakeApi;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases/outrigger";

fn settings(identity: &str) -> Settings {
    Settings {
        duration: Duration::from_secs(1),
        renew_every: Duration::from_millis(50),
        give_up_after: Duration::from_millis(700),
        ..Settings::new("outrigger-system", identity, format!("https://{identity}:8443"))
    }
}

async fn within<T>(seconds: f64, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs_f64(seconds), future).await.expect("takes too long")
}

fn holder_now(api: &FakeApi) -> String {
    api.get(PATH).unwrap()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_first_candidate_wins_and_the_second_learns_its_address() {
    let api = FakeApi::default();
    let one = Elector::start(api.client(), settings("one"));
    within(5.0, one.leadership().acquired()).await;
    let two = Elector::start(api.client(), settings("two"));
    let mut standby = two.leadership();
    within(5.0, standby.changed()).await;
    assert!(one.leadership().is_leader());
    assert!(!standby.is_leader());
    assert_eq!(standby.leader_address().as_deref(), Some("https://one:8443"));
    assert_eq!(one.leadership().leader_address().as_deref(), Some("https://one:8443"));
    assert!(timeout(Duration::from_millis(1500), standby.acquired()).await.is_err(), "a renewed lease is never taken");
}

#[tokio::test]
async fn a_leader_that_leaves_hands_over_without_a_wait() {
    let api = FakeApi::default();
    let one = Elector::start(api.client(), settings("one"));
    let first = one.leadership();
    within(5.0, first.acquired()).await;
    let two = Elector::start(api.client(), settings("two"));
    one.release().await;
    assert!(!first.is_leader());
    within(0.1, first.lost()).await;
    within(0.9, two.leadership().acquired()).await;
    assert_eq!(holder_now(&api), "two");
    assert_eq!(api.get(PATH).unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_another_can_win() {
    let (api, reachable) = (FakeApi::default(), FakeApi::default());
    let one = Elector::start(api.client(), settings("one"));
    let first = one.leadership();
    within(5.0, first.acquired()).await;
    reachable.put(PATH, api.get(PATH).unwrap());
    api.set_silent(true);
    let two = Elector::start(reachable.client(), settings("two"));
    within(0.95, first.lost()).await;
    assert!(!first.is_leader());
    assert!(!two.leadership().is_leader());
    assert_eq!(first.leader_address(), None);
    within(5.0, two.leadership().acquired()).await;
}

#[tokio::test]
async fn errors_shorter_than_the_deadline_cost_no_leadership() {
    let api = FakeApi::default();
    let one = Elector::start(api.client(), settings("one"));
    let leadership = one.leadership();
    within(5.0, leadership.acquired()).await;
    let end = Instant::now() + Duration::from_millis(250);
    api.before(move |_, _, _| (Instant::now() < end).then_some(axum::http::StatusCode::FORBIDDEN));
    sleep(Duration::from_millis(900)).await;
    assert!(leadership.is_leader());
}

#[tokio::test]
async fn a_lease_that_somebody_else_took_is_lost_at_once() {
    let api = FakeApi::default();
    let one = Elector::start(api.client(), settings("one"));
    let leadership = one.leadership();
    within(5.0, leadership.acquired()).await;
    let mut lease = api.get(PATH).unwrap();
    lease["spec"]["holderIdentity"] = json!("two");
    api.put(PATH, lease);
    within(0.6, leadership.lost()).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(holder_now(&api), "two", "the loser writes nothing more");
    within(5.0, one.release()).await;
    assert_eq!(holder_now(&api), "two", "what is not held is not let go");
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_no_loss() {
    let api = FakeApi::default();
    let one = Elector::start(api.client(), settings("one"));
    let leadership = one.leadership();
    within(5.0, leadership.acquired()).await;
    api.put(PATH, api.get(PATH).unwrap());
    sleep(Duration::from_millis(1000)).await;
    assert!(leadership.is_leader());
}

#[tokio::test]
async fn a_replica_that_never_led_has_nothing_to_lose() {
    let standby = Leadership::fixed(false, Some("https://leader:8443"));
    assert!(timeout(Duration::from_millis(50), standby.lost()).await.is_err());
}
