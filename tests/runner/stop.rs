//! How a script and all that it started is stopped.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use outrigger::protocol::{ClaimGrant, Ending, TerminationMessage};
use rustix::process::{Pid, Signal, kill_process};

use super::bench::{Bench, Done, RUNNER, grant, is_alive, outcome_of, outcome_with};
use super::leader::{Answer, Leader};

/// Leaves its session, ignores TERM, and writes its pid.
const STUBBORN: &str = "setsid sh -c 'trap \"\" TERM; echo $$ > '$DIR'/pid; while :; do sleep 1; done' &
                        while [ ! -s $DIR/pid ]; do sleep 0.01; done";

/// Arguments for `unshare` that make what it starts PID 1.
const IN_OWN_PIDS: [&str; 3] = ["--pid", "--fork", "--mount-proc"];

/// Sends TERM to the runner; also says how long it then took to end.
fn terminate(bench: &Bench, runner: Child) -> (Done, Duration) {
    let started = Instant::now();
    kill_process(Pid::from_child(&runner), Signal::TERM).unwrap();
    (bench.finish(runner), started.elapsed())
}

#[test]
fn a_timeout_kills_also_a_process_that_left_its_session_and_ignores_term() {
    let bench = Bench::sh(&format!("{STUBBORN}\necho before; wait"));
    let grant = ClaimGrant { timeout_seconds: 1, grace_seconds: 1, ..grant() };
    let (done, outcome) = outcome_with(&bench, grant);
    assert_eq!((outcome.ending, outcome.exit_code, outcome.signal), (Ending::Timeout, None, Some(15)));
    assert_eq!(outcome.message.as_deref(), Some("stopped at its timeout of 1 s"));
    assert_eq!((outcome.stdout.text.as_str(), done.code), ("before\n", 1));
    assert!((1000..3000).contains(&outcome.duration_millis), "{}", outcome.duration_millis);
    let pid = bench.read("pid");
    assert!(!pid.is_empty() && !is_alive(&pid));
}

#[test]
fn a_script_may_clean_up_within_its_grace() {
    let bench = Bench::sh("trap 'sleep 0.3 && echo cleaned; exit 7' TERM; sleep 60 & wait");
    let (_, outcome) = outcome_with(&bench, ClaimGrant { timeout_seconds: 1, ..grant() });
    assert_eq!((outcome.ending, outcome.exit_code), (Ending::Timeout, Some(7)));
    assert_eq!(outcome.stdout.text, "cleaned\n");
}

#[test]
fn what_a_script_leaves_behind_is_killed_and_does_not_hang_the_run() {
    let bench = Bench::sh(&format!("{STUBBORN}\n(sleep 300 &) ; echo done"));
    let started = Instant::now();
    let (done, outcome) = outcome_of(&bench);
    assert_eq!((outcome.ending, outcome.exit_code, done.code), (Ending::Exited, Some(0), 0));
    assert_eq!(outcome.stdout.text, "done\n");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!is_alive(&bench.read("pid")));
}

#[test]
fn an_answer_that_says_cancel_stops_the_script() {
    let bench = Bench::sh(&format!("{STUBBORN}\ntouch $DIR/started; wait"));
    let leader = Leader::start(ClaimGrant { grace_seconds: 1, ..grant() });
    let runner = bench.spawn(&leader);
    bench.wait_for("started");
    leader.cancel();
    let done = bench.finish(runner);
    let outcome = leader.reports().remove(0).outcome;
    assert_eq!((outcome.ending, done.code), (Ending::Canceled, 1));
    assert_eq!(outcome.message.as_deref(), Some("stopped because the run was cancelled"));
    assert!(!is_alive(&bench.read("pid")));
}

#[test]
fn a_run_that_is_gone_stops_the_script() {
    let bench = Bench::sh("sleep 60");
    let leader = Leader::start(grant());
    leader.answer_progress(Answer::Status(410));
    leader.answer_reports(&[Answer::Status(410)]);
    let done = bench.run(&leader);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("the outcome was not taken: refused by the operator (410)"), "{}", done.stderr);
}

#[test]
fn progress_that_fails_does_not_disturb_the_script() {
    let bench = Bench::sh("sleep 3; echo done");
    let leader = Leader::start(grant());
    leader.answer_progress(Answer::Status(409));
    bench.run(&leader);
    assert_eq!(leader.reports()[0].outcome.stdout.text, "done\n");
}

#[test]
fn term_from_outside_stops_the_script_and_is_reported() {
    let bench = Bench::sh("touch $DIR/started; sleep 60");
    let leader = Leader::start(grant());
    let runner = bench.spawn(&leader);
    bench.wait_for("started");
    let (done, took) = terminate(&bench, runner);
    let outcome = leader.reports().remove(0).outcome;
    assert_eq!((outcome.ending, outcome.signal, done.code), (Ending::PodDeleted, Some(15), 1));
    assert_eq!(outcome.message.as_deref(), Some("stopped because its pod was told to end"));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_process_that_is_being_forked_at_that_moment_is_stopped_too() {
    for _ in 0..20 {
        let bench = Bench::sh("touch $DIR/started; sleep 60");
        let leader = Leader::start(grant());
        let runner = bench.spawn(&leader);
        bench.wait_for("started");
        let (_, took) = terminate(&bench, runner);
        assert!(took < Duration::from_secs(4), "TERM was missed, only KILL ended it: {took:?}");
    }
}

#[test]
fn term_before_the_claim_ends_without_start() {
    let bench = Bench::sh("touch $DIR/started");
    let leader = Leader::stopped(grant());
    let runner = bench.spawn(&leader);
    thread::sleep(Duration::from_millis(300));
    let (done, took) = terminate(&bench, runner);
    assert_eq!(done.code, 203);
    assert!(done.not_started().starts_with("the pod was told to end before the claim was granted"));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn term_between_claim_and_start_leaves_the_attempt_unclaimed() {
    let bench = Bench::sh("touch $DIR/started");
    let leader = Leader::start(grant());
    leader.answer_claims(&[Answer::Slow]);
    let runner = bench.spawn(&leader);
    while leader.claims().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    let (done, _) = terminate(&bench, runner);
    assert_eq!((done.code, leader.reports().len()), (203, 0));
    assert_eq!(done.not_started(), "the pod was told to end before the script was started");
    let Some(TerminationMessage::NotStarted { nonce, .. }) = &done.message else { panic!("no message") };
    assert_eq!(*nonce, leader.claims()[0].nonce, "only the word of the runner that claimed counts");
    assert!(!bench.path("started").exists());
    let [unstarted] = &leader.unstarted()[..] else { panic!("{:?}", leader.unstarted()) };
    assert_eq!((unstarted.attempt, &unstarted.nonce, unstarted.message.as_str()), (1, nonce, done.not_started()));
}

#[test]
fn a_claim_whose_answer_was_lost_is_given_back_when_the_pod_is_told_to_end() {
    let bench = Bench::sh("touch $DIR/started");
    let leader = Leader::start(grant());
    leader.answer_claims(&[Answer::Lost; 100]);
    let runner = bench.spawn(&leader);
    while leader.claims().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    let (done, _) = terminate(&bench, runner);
    assert_eq!(done.code, 203);
    let [unstarted] = &leader.unstarted()[..] else { panic!("{:?}", leader.unstarted()) };
    assert_eq!((&unstarted.nonce, unstarted.message.as_str()), (&leader.claims()[0].nonce, done.not_started()));
}

#[test]
fn a_leader_that_takes_no_word_of_a_non_start_is_left_the_termination_message() {
    // The first knows no such request: it is of an earlier version.
    for answer in [Answer::Status(404), Answer::Status(503), Answer::Status(409), Answer::Lost] {
        let bench = Bench::sh("touch $DIR/started");
        let leader = Leader::start(grant());
        leader.answer_claims(&[Answer::Slow]);
        leader.answer_unstarted(answer);
        let runner = bench.spawn(&leader);
        while leader.claims().is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        let (done, _) = terminate(&bench, runner);
        assert_eq!(done.code, 203);
        assert_eq!(done.not_started(), "the pod was told to end before the script was started");
        let unstarted = leader.unstarted();
        assert!(unstarted.len() > 1 || answer == Answer::Status(409), "{answer:?}: {unstarted:?}");
        assert!(!done.stderr.contains("refused"), "{}", done.stderr);
        assert!(!bench.path("started").exists());
    }
}

#[test]
fn term_while_reporting_changes_nothing() {
    let bench = Bench::sh("echo done");
    let leader = Leader::start(grant());
    leader.answer_reports(&[Answer::Status(503); 4]);
    let runner = bench.spawn(&leader);
    bench.wait_for("termination");
    let (done, _) = terminate(&bench, runner);
    assert_eq!(done.code, 0);
    assert_eq!(leader.reports().last().unwrap().outcome.ending, Ending::Exited);
}

#[test]
fn as_pid_1_everything_in_the_namespace_is_stopped_and_reaped() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: a PID namespace of one's own needs root");
        return;
    }
    let zombies = "(sh -c 'exit 0' &); sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    let bench = Bench::sh(&format!("{STUBBORN}\n[ $PPID = 1 ] && echo below pid 1; {zombies}; wait"));
    let leader = Leader::start(ClaimGrant { timeout_seconds: 1, grace_seconds: 1, ..grant() });
    let mut command = bench.command("unshare", &leader);
    let runner = command.args(IN_OWN_PIDS).arg(RUNNER.as_str()).spawn().unwrap();
    let done = bench.finish(runner);
    let outcome = leader.reports().remove(0).outcome;
    assert_eq!(outcome.stdout.text, "below pid 1\n0\n", "{outcome:?}");
    assert_eq!((outcome.ending, done.code), (Ending::Timeout, 1));
    assert!(matches!(done.message, Some(TerminationMessage::Ended { .. })));
}

#[test]
fn as_pid_1_a_signal_from_inside_the_pod_stops_nothing_and_one_from_outside_does() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: a PID namespace of one's own needs root");
        return;
    }
    let bench = Bench::sh("kill -TERM 1; kill -INT 1; sleep 0.5; echo goes on; touch $DIR/started; sleep 60");
    let leader = Leader::start(grant());
    let unshare = bench.command("unshare", &leader).args(IN_OWN_PIDS).arg(RUNNER.as_str()).spawn().unwrap();
    bench.wait_for("started");
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let runner: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(runner).unwrap(), Signal::TERM).unwrap();
    let done = bench.finish(unshare);
    let outcome = leader.reports().remove(0).outcome;
    assert_eq!((outcome.ending, outcome.stdout.text.as_str(), done.code), (Ending::PodDeleted, "goes on\n", 1));
    let said = "outrigger-runner: a process of the pod told the runner to end: that is ignored\n";
    assert_eq!(done.stderr.matches(said).count(), 1, "{}", done.stderr);
}

#[test]
fn a_process_that_was_stopped_can_clean_up_within_the_grace() {
    let stopped = "sh -c 'trap \"echo cleaned > '$DIR'/cleaned; exit\" TERM; echo $$ > '$DIR'/pid; while :; do sleep 0.05; done' &
                   while [ ! -s $DIR/pid ]; do sleep 0.01; done; kill -STOP $(cat $DIR/pid); wait";
    for as_first in [false, true] {
        if as_first && !rustix::process::getuid().is_root() {
            eprintln!("skipped: a PID namespace of one's own needs root");
            return;
        }
        let bench = Bench::sh(stopped);
        let leader = Leader::start(ClaimGrant { timeout_seconds: 1, grace_seconds: 10, ..grant() });
        let runner = match as_first {
            true => bench.command("unshare", &leader).args(IN_OWN_PIDS).arg(RUNNER.as_str()).spawn().unwrap(),
            false => bench.spawn(&leader),
        };
        bench.finish(runner);
        assert_eq!(
            (leader.reports()[0].outcome.ending, bench.read("cleaned").as_str()),
            (Ending::Timeout, "cleaned\n")
        );
    }
}
