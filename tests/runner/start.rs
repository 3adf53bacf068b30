//! How a script is started: arguments, payload, environment, interpreters.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use outrigger::protocol::{ClaimGrant, Ending};

use super::bench::{Bench, RUNNER, grant, outcome_of, outcome_with};
use super::leader::Leader;

#[test]
fn a_script_gets_action_payload_and_timeout_and_its_success_is_reported() {
    let bench =
        Bench::sh("echo \"$1|$3|$#|$(pwd)|$GRANTED\"; cp \"$2\" $DIR/copy; stat -c %a \"$2\"; echo \"$2\"; cat");
    let (done, outcome) = outcome_of(&bench);
    let lines: Vec<_> = outcome.stdout.text.lines().collect();
    assert_eq!(lines[..2], ["List Snapshots|60|3|/tmp|yes", "400"]);
    let payload = Path::new(lines[2]);
    assert_eq!(payload.parent(), Some(bench.path("payload").as_path()));
    assert_eq!(payload.extension().unwrap(), "json");
    assert!(!payload.exists(), "the payload is gone after the run");
    assert_eq!(bench.read("copy"), r#"{"virtualmachineid":"7"}"#);
    assert_eq!((outcome.ending, outcome.exit_code, outcome.signal), (Ending::Exited, Some(0), None));
    assert_eq!((outcome.message, done.code), (None, 0));
}

#[test]
fn an_exit_code_is_reported_and_never_becomes_the_runners_own() {
    for code in [1, 3, 203] {
        let (done, outcome) = outcome_of(&Bench::sh(&format!("echo failed >&2; exit {code}")));
        assert_eq!((outcome.ending, outcome.exit_code), (Ending::Exited, Some(code)));
        assert_eq!((outcome.stderr.text.as_str(), done.code), ("failed\n", 1));
    }
}

#[test]
fn a_script_killed_by_a_signal_is_said_to_be() {
    let (done, outcome) = outcome_of(&Bench::sh("kill -9 $$"));
    assert_eq!((outcome.ending, outcome.exit_code, outcome.signal), (Ending::Exited, None, Some(9)));
    assert_eq!(outcome.message.as_deref(), Some("killed by signal 9 (out of memory?)"));
    assert_eq!(done.code, 1);
}

#[test]
fn the_runners_configuration_does_not_reach_the_script() {
    let (_, outcome) = outcome_of(&Bench::sh("env"));
    assert!(outcome.stdout.text.contains("PATH="));
    assert!(!outcome.stdout.text.contains("OUTRIGGER_"), "{}", outcome.stdout.text);
}

#[test]
fn the_runners_environment_cannot_be_read_through_proc() {
    let bench = Bench::sh("for f in environ mem maps; do cat /proc/$PPID/$f; done | wc -c; ls /proc/$PPID/fd");
    let leader = Leader::start(grant());
    if !rustix::process::getuid().is_root() {
        bench.run(&leader);
    } else {
        // Root may read everything: become the unprivileged user that every Job's runner and script are.
        fs::copy(RUNNER, bench.path("runner")).unwrap();
        for dir in ["", "payload"] {
            fs::set_permissions(bench.path(dir), PermissionsExt::from_mode(0o777)).unwrap();
        }
        let mut command = bench.command("setpriv", &leader);
        command.args(["--reuid=65532", "--regid=65532", "--clear-groups", "--bounding-set=-all"]);
        bench.finish(command.arg(bench.path("runner")).spawn().unwrap());
    }
    let outcome = leader.reports().remove(0).outcome;
    assert_eq!(outcome.stdout.text.trim(), "0");
    assert_eq!(outcome.stderr.text.matches("ermission denied").count(), 4, "{}", outcome.stderr.text);
}

#[test]
fn without_execute_bit_the_first_line_or_the_language_decides() {
    let bench = Bench::new("#!/usr/bin/env sh\necho by line \"$1\"");
    bench.set_mode(0o644);
    assert_eq!(outcome_of(&bench).1.stdout.text, "by line List Snapshots\n");

    let bench = Bench::new("echo by language \"$1\"");
    bench.set_mode(0o644);
    let grant = ClaimGrant { language: Some("Bash".to_owned()), ..grant() };
    assert_eq!(outcome_with(&bench, grant).1.stdout.text, "by language List Snapshots\n");
}

#[test]
fn what_cannot_be_started_is_reported_with_its_reason() {
    let unlike_a_program = [0x7F, b'E', b'L', b'F', 0, 0, 0, 0];
    for (script, mode, expected) in [
        (&b"#!/usr/bin/env no-such-interpreter\n"[..], 0o755, "interpreter \"no-such-interpreter\""),
        (b"#!/no/such/interpreter\n", 0o755, "interpreter \"/no/such/interpreter\""),
        (b"#!/bin/sh\r\n", 0o755, "ends in CR (Windows line ends)"),
        (&unlike_a_program, 0o755, "is no program that this machine can execute"),
        (b"echo", 0o644, "cannot be executed: it has no execute bit"),
    ] {
        let bench = Bench::new(script);
        bench.set_mode(mode);
        let (done, outcome) = outcome_of(&bench);
        assert_eq!((outcome.ending, outcome.exit_code, done.code), (Ending::NotStarted, None, 1));
        let message = outcome.message.unwrap();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_payload_that_cannot_be_written_is_reported() {
    let bench = Bench::sh("touch $DIR/started");
    fs::remove_dir(bench.path("payload")).unwrap();
    let (_, outcome) = outcome_of(&bench);
    assert_eq!(outcome.ending, Ending::NotStarted);
    assert!(outcome.message.unwrap().starts_with("cannot write the payload into"));
    assert!(!bench.path("started").exists());
}
