//! What becomes of a script's output.

use outrigger::protocol::TerminationMessage;

use super::bench::{Bench, grant, outcome_of};
use super::leader::Leader;

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

#[test]
fn binary_output_passes_live_and_is_reported_as_text() {
    let (done, outcome) = outcome_of(&Bench::sh(r"printf 'a\377\000b'"));
    assert_eq!(done.stdout, b"a\xff\0b");
    assert_eq!(outcome.stdout.text, "a\u{FFFD}\0b");
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
