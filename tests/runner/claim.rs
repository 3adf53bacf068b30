//! Claim and report against a leader that refuses, fails, and comes late.

use std::fs;
use std::thread;
use std::time::Duration;

use outrigger::protocol::{EXIT_NOT_STARTED, env};

use super::bench::{Bench, RUNNER, grant, token};
use super::leader::{Answer, Leader};

fn bench() -> Bench {
    Bench::sh("touch $DIR/started; echo run >> $DIR/runs; echo done")
}

#[test]
fn a_claim_names_attempt_pod_and_nonce_and_carries_the_token() {
    let (bench, leader) = (bench(), Leader::start(grant()));
    bench.run(&leader);
    let request = leader.requests("/claim").remove(0);
    assert_eq!(request.path, "/v1/runs/0d7e5c52-9a5e-4a0e-8f6b-0123456789ab/claim");
    assert_eq!(request.authorization, format!("Bearer {}", token().to_hex()));
    let (claim, report) = (leader.claims().remove(0), leader.reports().remove(0));
    assert_eq!((claim.attempt, claim.pod_uid.as_str()), (1, "pod-1"));
    assert_eq!((report.attempt, report.nonce), (1, claim.nonce));
}

#[test]
fn a_refused_runner_starts_nothing() {
    for status in [401, 409, 410] {
        let (bench, leader) = (bench(), Leader::start(grant()));
        leader.answer_claims(&[Answer::Status(status)]);
        let done = bench.run(&leader);
        assert_eq!(done.code, EXIT_NOT_STARTED);
        let expected = format!("cannot claim: refused by the operator ({status}): because of the test");
        assert_eq!(done.not_started(), expected);
        assert!(!bench.path("started").exists());
        assert_eq!((leader.claims().len(), leader.reports().len()), (1, 0));
        assert_eq!(leader.unstarted().len(), 1, "a leader that refuses may have stored the claim before");
    }
}

#[test]
fn a_leader_that_is_down_at_first_is_waited_for() {
    let (bench, leader) = (bench(), Leader::stopped(grant()));
    let runner = bench.spawn(&leader);
    thread::sleep(Duration::from_millis(500));
    assert!(!bench.path("started").exists());
    leader.listen();
    assert_eq!(bench.finish(runner).code, 0);
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_nonce() {
    let (bench, leader) = (bench(), Leader::start(grant()));
    leader.answer_claims(&[Answer::Lost, Answer::Status(503), Answer::Status(500)]);
    assert_eq!(bench.run(&leader).code, 0);
    let claims = leader.claims();
    assert_eq!(claims.len(), 4);
    assert!(claims.iter().all(|claim| *claim == claims[0]));
    assert_eq!(bench.read("runs"), "run\n");
}

#[test]
fn every_process_draws_a_nonce_of_its_own() {
    let (bench, leader) = (bench(), Leader::start(grant()));
    bench.run(&leader);
    bench.run(&leader);
    assert_ne!(leader.claims()[0].nonce, leader.claims()[1].nonce);
}

#[test]
fn a_report_is_repeated_until_it_is_acknowledged_and_the_message_is_there_before() {
    let (bench, leader) = (bench(), Leader::start(grant()));
    leader.answer_reports(&[Answer::Status(503), Answer::Lost, Answer::Status(502)]);
    let runner = bench.spawn(&leader);
    bench.wait_for("termination");
    let done = bench.finish(runner);
    assert_eq!(done.code, 0);
    let reports = leader.reports();
    assert_eq!(reports.len(), 4);
    assert!(reports.iter().all(|report| *report == reports[0]));
    assert_eq!(bench.read("runs"), "run\n");
}

#[test]
fn a_report_that_is_refused_is_given_up() {
    for status in [401, 409, 410] {
        let (bench, leader) = (bench(), Leader::start(grant()));
        leader.answer_reports(&[Answer::Status(status)]);
        assert_eq!(bench.run(&leader).code, 0);
        assert_eq!(leader.reports().len(), 1);
    }
}

#[test]
fn another_tree_is_not_claimed_for() {
    for spoil in ["tree/.outrigger-tree", "tree/bin/run"] {
        let (bench, leader) = (bench(), Leader::start(grant()));
        fs::write(bench.path(spoil), "something else").unwrap();
        let done = bench.run(&leader);
        assert_eq!(done.code, EXIT_NOT_STARTED);
        assert!(done.not_started().contains("is not the pinned one"), "{}", done.not_started());
        assert!(leader.claims().is_empty() && leader.unstarted().is_empty());
    }
}

#[test]
fn a_leader_of_another_ca_hears_nothing() {
    let (bench, leader, other) = (bench(), Leader::start(grant()), Leader::stopped(grant()));
    let mut runner = bench.command(&RUNNER, &leader).env(env::CA, &other.ca).spawn().unwrap();
    thread::sleep(Duration::from_millis(700));
    let status = runner.try_wait().unwrap();
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert_eq!(status, None, "it tries again: the CA could be about to be replaced");
    assert!(leader.claims().is_empty());
    assert!(!bench.path("started").exists());
}

#[test]
fn the_certificate_that_is_asked_for_is_that_of_the_first_ca_given() {
    let (bench, leader, other) = (bench(), Leader::start(grant()), Leader::stopped(grant()));
    let both = format!("{}{}", leader.ca, other.ca);
    let runner = bench.command(&RUNNER, &leader).env(env::CA, both).spawn().unwrap();
    assert_eq!(bench.finish(runner).code, 0);
}

#[test]
fn a_proxy_in_the_environment_is_not_used() {
    let (bench, leader) = (bench(), Leader::start(grant()));
    let mut command = bench.command(&RUNNER, &leader);
    let runner =
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9").spawn().unwrap();
    assert_eq!(bench.finish(runner).code, 0);
}

#[test]
fn a_runner_without_configuration_says_what_is_missing() {
    let (bench, leader) = (bench(), Leader::start(grant()));
    let runner = bench.command(&RUNNER, &leader).env_remove(env::TOKEN).spawn().unwrap();
    let done = bench.finish(runner);
    assert_eq!(done.code, EXIT_NOT_STARTED);
    assert_eq!(done.stderr, "outrigger-runner: environment variable OUTRIGGER_TOKEN is not set\n");
}
