//! What becomes of a script's output.

use std::io::Read;
use std::time::Instant;

use outrigger::protocol::{ClaimGrant, OutputSizes, TerminationMessage};

use super::bench::{Bench, Done, RUNNER, grant, outcome_of};
use super::leader::{Answer, Leader};

#[test]
fn json_passes_unchanged_and_the_streams_stay_apart() {
    let (done, outcome) = outcome_of(&Bench::sh(r#"echo noise >&2; printf '{"status":"success","n":[1,"\\u00e9"]}'"#));
    assert_eq!(outcome.stdout.text, r#"{"status":"success","n":[1,"\u00e9"]}"#);
    assert_eq!(outcome.stderr.text, "noise\n");
    assert_eq!(done.stdout, outcome.stdout.text.as_bytes(), "live output has no line end added");
    assert_eq!(done.stderr, "noise\n");
}

#[test]
fn ten_mebibytes_pass_live_and_their_end_is_reported() {
    let (done, outcome) = outcome_of(&Bench::sh("yes 0123456789abcde | head -c 10485760; echo END"));
    assert_eq!(done.stdout.len(), 10_485_764);
    assert!(outcome.stdout.text.ends_with("abcde\nEND\n"));
    assert_eq!(outcome.stdout.text.len(), 1 << 20);
    assert_eq!(outcome.stdout.dropped_bytes, 10_485_764 - (1 << 20));
}

#[test]
fn live_output_is_cut_at_its_limit_and_says_so() {
    let (done, outcome) = outcome_of(&Bench::sh("yes | head -c 17000000 >&2"));
    let mark = "[outrigger: output cut after 16777216 bytes]\n";
    assert!(done.stderr.ends_with(&format!("y\n{mark}")));
    assert_eq!(done.stderr.len(), (16 << 20) + mark.len());
    assert_eq!(outcome.stderr.text.len() as u64 + outcome.stderr.dropped_bytes, 17_000_000);
    assert_eq!(outcome.stderr.text.len(), 64 << 10);
}

/// The log holds 64 KiB, and nobody reads it before the runner has ended: as much again is left in the script's own pipe.
#[test]
fn a_log_that_stands_still_takes_nothing_from_the_outcome_or_from_what_is_kept() {
    let bench = Bench::sh("for i in $(seq 10000); do echo hunter2 '& co'; done; echo '{\"answer\": 42}'; kill -9 $$");
    let leader = Leader::start(keeping(1 << 20));
    let (done, mut log) = run_with_a_log_that_stands_still(&bench, &leader);
    let expected = "********\n".repeat(10_000) + "{\"answer\": 42}\n";
    let (report, output) = (leader.reports().remove(0), leader.outputs().remove(0));
    assert_eq!((report.outcome.stdout.text, report.outcome.stdout.dropped_bytes), (expected.clone(), 0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(matches!(done.message, Some(TerminationMessage::Ended { .. })));
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("********\n") && !text.contains("hunter"), "{text}");
}

#[test]
fn a_log_that_stands_still_keeps_no_outcome_back_that_takes_many_tries() {
    let bench = Bench::sh("head -c 100000 /dev/zero | tr '\\0' x >&2; echo done");
    let leader = Leader::start(grant());
    // What is said about them, from the eighth on, finds no room in the log.
    leader.answer_reports(&[Answer::Status(503); 9]);
    run_with_a_log_that_stands_still(&bench, &leader);
    assert_eq!(leader.reports().len(), 10);
}

/// Also what the log holds, which nobody reads until then.
fn run_with_a_log_that_stands_still(bench: &Bench, leader: &Leader) -> (Done, std::io::PipeReader) {
    let (log, end) = std::io::pipe().unwrap();
    let mut command = bench.command(&RUNNER, leader);
    command.stdout(end.try_clone().unwrap()).stderr(end);
    let runner = command.spawn().unwrap();
    // the log ends with its last writer
    drop(command);
    (bench.finish(runner), log)
}

#[test]
fn binary_output_passes_live_and_is_reported_as_text() {
    let (done, outcome) = outcome_of(&Bench::sh(r"printf 'a\377\000b'"));
    assert_eq!(done.stdout, b"a\xff^@b");
    assert_eq!(outcome.stdout.text, "a\u{FFFD}\0b");
}

#[test]
fn escapes_for_a_terminal_are_visible_in_the_log_and_unchanged_in_the_outcome() {
    let (done, outcome) = outcome_of(&Bench::sh(r"printf '\033[2J{}\r\n'; printf '\033]0;title\007' >&2"));
    assert_eq!((outcome.stdout.text.as_str(), done.stdout.as_slice()), ("\u{1b}[2J{}\r\n", &b"^[[2J{}\r\n"[..]));
    assert_eq!((outcome.stderr.text.as_str(), done.stderr.as_str()), ("\u{1b}]0;title\u{7}", "^[]0;title^G"));
}

#[test]
fn the_termination_message_holds_the_outcome_cut_to_fit() {
    let bench = Bench::sh("yes | head -c 100000; echo END; exit 4");
    let leader = Leader::start(grant());
    let done = bench.run(&leader);
    let Some(TerminationMessage::Ended { attempt, nonce, outcome }) = done.message else { panic!("no message") };
    assert_eq!((attempt, &nonce), (1, &leader.claims()[0].nonce));
    assert_eq!(outcome.exit_code, Some(4));
    assert!(outcome.stdout.text.ends_with("END\n"));
    assert!(bench.read("termination").len() <= 4096);
}

#[test]
fn what_the_script_writes_to_the_termination_log_is_replaced() {
    let bench = Bench::sh("yes | head -c 9000 > $DIR/termination");
    let (done, _) = outcome_of(&bench);
    assert!(matches!(done.message, Some(TerminationMessage::Ended { .. })));
}

#[test]
fn progress_is_told_while_the_script_runs_at_a_bounded_rate() {
    let bench = Bench::sh("for i in 1 2 3 4 5; do echo step $i; sleep 1; done");
    let leader = Leader::start(grant());
    bench.run(&leader);
    let told = leader.progress();
    assert!((2..=5).contains(&told.len()), "{told:?}");
    assert!(told[0].stdout_tail.starts_with("step 1\n"), "{told:?}");
    assert!(told.last().unwrap().stdout_tail.contains("step 4\n"), "{told:?}");
    let times: Vec<_> = leader.requests("/progress").iter().map(|request| request.at).collect();
    assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).as_millis() >= 900));
}

fn keeping(bytes: u64) -> ClaimGrant {
    ClaimGrant { output_bytes: bytes, ..grant() }
}

#[test]
fn the_output_is_handed_over_once_the_report_is_acknowledged() {
    let bench = Bench::sh("echo out hunter2 '& co'; echo err >&2");
    let leader = Leader::start(keeping(1000));
    leader.answer_reports(&[Answer::Status(503), Answer::Lost]);
    assert_eq!(bench.run(&leader).code, 0);
    let sizes = OutputSizes { stdout_bytes: 13, stderr_bytes: 4, truncated: false };
    assert!(leader.reports().iter().all(|report| report.output == Some(sizes)), "{:?}", leader.reports());
    let (report, output) = (leader.requests("/report").pop().unwrap(), leader.requests("/output").pop().unwrap());
    assert!(report.at <= output.at);
    let outputs = leader.outputs();
    assert_eq!(outputs.len(), 1);
    assert_eq!((outputs[0].stdout.as_slice(), outputs[0].stderr.as_slice()), (&b"out ********\n"[..], &b"err\n"[..]));
    assert_eq!((outputs[0].attempt, &outputs[0].nonce), (1, &leader.claims()[0].nonce));
}

#[test]
fn of_a_long_output_beginning_and_end_are_handed_over() {
    let bench = Bench::sh("echo BEGIN; yes | head -c 3000000; echo END");
    let leader = Leader::start(keeping(1 << 20));
    bench.run(&leader);
    let output = leader.outputs().remove(0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("BEGIN\ny\n") && text.ends_with("y\nEND\n"));
    assert!(text.contains(&format!("\n[outrigger: {} bytes left out]\ny\n", 3_000_010 - (1 << 20))));
    assert!(text.len() < (1 << 20) + 100);
    assert!(leader.reports()[0].output.unwrap().truncated);
}

#[test]
fn nothing_is_handed_over_of_a_script_that_prints_nothing_or_where_nothing_is_kept() {
    for (script, bytes) in [("true", 1000), ("echo x", 0)] {
        let leader = Leader::start(keeping(bytes));
        Bench::sh(script).run(&leader);
        assert_eq!((leader.reports()[0].output, leader.outputs().len()), (None, 0), "{script}");
    }
}

#[test]
fn an_output_that_is_not_taken_changes_no_outcome_and_is_given_up() {
    for (answer, seconds) in [(Answer::Status(409), 2), (Answer::Status(503), 8)] {
        let leader = Leader::start(keeping(1000));
        leader.answer_outputs(answer);
        let started = Instant::now();
        let done = Bench::sh("echo x").run(&leader);
        assert_eq!((done.code, leader.reports().len()), (0, 1));
        assert!(done.stderr.contains("the output was not kept: "), "{}", done.stderr);
        assert!(started.elapsed().as_secs() <= seconds, "{:?}", started.elapsed());
    }
}

#[test]
fn an_answer_that_may_hold_a_password_is_reported_and_shown_nowhere_else() {
    let bench = Bench::sh("echo '{\"password\": \"fresh\"}'; echo note >&2; sleep 2.5");
    let leader = Leader::start(ClaimGrant { withhold_stdout: true, ..keeping(1000) });
    let done = bench.run(&leader);
    assert_eq!(done.stdout, b"[outrigger: standard output is not shown: it may hold a password]\n");
    assert!(leader.progress().iter().all(|told| told.stdout_tail.is_empty() && told.stderr_tail == "note\n"));
    let (report, output) = (leader.reports().remove(0), leader.outputs().remove(0));
    assert_eq!(report.outcome.stdout.text, "{\"password\": \"fresh\"}\n");
    assert_eq!(report.output, Some(OutputSizes { stdout_bytes: 0, stderr_bytes: 5, truncated: false }));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b"note\n"[..]));
}

#[test]
fn without_reports_the_outcome_is_in_the_termination_message_alone() {
    let leader = Leader::start(ClaimGrant { skip_report: true, ..keeping(1000) });
    let done = Bench::sh("echo x; exit 3").run(&leader);
    assert_eq!((done.code, leader.reports().len(), leader.outputs().len()), (1, 0, 0));
    let Some(TerminationMessage::Ended { outcome, .. }) = done.message else { panic!("no message") };
    assert_eq!(outcome.exit_code, Some(3));
}
