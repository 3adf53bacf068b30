//! How a script is started: arguments, payload, environment, interpreters.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use outrigger::protocol::{ClaimGrant, Ending, Fault, Outcome};

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
        fs::copy(RUNNER.as_str(), bench.path("runner")).unwrap();
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
    bench.set_mode(0o755);
    assert_eq!(outcome_of(&bench).1.stdout.text, "by language List Snapshots\n", "the shell's, as under CloudStack");
    bench.set_mode(0o644);
    let grant = ClaimGrant { language: Some("Bash".to_owned()), ..grant() };
    assert_eq!(outcome_with(&bench, grant).1.stdout.text, "by language List Snapshots\n");
}

#[test]
fn what_cannot_be_started_is_reported_with_its_reason() {
    let unlike_a_program = [0x7F, b'E', b'L', b'F', 0, 0, 0, 0];
    let (no_interpreter, no_program) = (Some(Fault::InterpreterMissing), Some(Fault::ExecFormatError));
    for (script, mode, fault, expected) in [
        (&b"#!/usr/bin/env no-such-interpreter\n"[..], 0o755, no_interpreter, "interpreter \"no-such-interpreter\""),
        (b"#!/no/such/interpreter\n", 0o755, no_interpreter, "interpreter \"/no/such/interpreter\""),
        (b"#!/bin/sh\r\n", 0o755, no_interpreter, "ends in CR (Windows line ends)"),
        (&unlike_a_program, 0o755, no_program, "is no program that this machine can execute: it is no text"),
        (b"echo", 0o644, None, "cannot be executed: it has no execute bit"),
    ] {
        let bench = Bench::new(script);
        bench.set_mode(mode);
        let (done, outcome) = outcome_of(&bench);
        assert_eq!((outcome.ending, outcome.exit_code, done.code), (Ending::NotStarted, None, 1));
        assert_eq!((outcome.fault, outcome.stdout.text.as_str()), (fault, ""), "{expected}");
        let message = outcome.message.unwrap();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_payload_that_cannot_be_written_is_reported() {
    let bench = Bench::sh("touch $DIR/started");
    fs::remove_dir(bench.path("payload")).unwrap();
    let (_, outcome) = outcome_of(&bench);
    assert_eq!((outcome.ending, outcome.fault), (Ending::NotStarted, None));
    assert!(outcome.message.unwrap().starts_with("cannot write the payload into"));
    assert!(!bench.path("started").exists());
}

/// Runs the script by a shell that prepares something for the runner, and then becomes it.
fn outcome_after(preparation: &str, in_own_mounts: bool, bench: &Bench) -> Outcome {
    let leader = Leader::start(grant());
    let script = format!("set -e; {preparation}; exec \"$0\"");
    let mut command = match in_own_mounts {
        true => bench.command("unshare", &leader),
        false => bench.command("env", &leader),
    };
    if in_own_mounts {
        command.arg("--mount");
    }
    let done = bench.finish(command.args(["sh", "-c", &script, RUNNER.as_str()]).spawn().unwrap());
    leader.reports().pop().unwrap_or_else(|| panic!("no report: {}", done.stderr)).outcome
}

#[test]
fn a_payload_that_there_is_no_room_for_is_reported_as_a_full_disk() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let bench = Bench::sh("touch $DIR/started");
    let fill =
        "mount -t tmpfs -o size=4k none $OUTRIGGER_PAYLOAD_DIR; head -c 4096 /dev/zero > $OUTRIGGER_PAYLOAD_DIR/full";
    let outcome = outcome_after(fill, true, &bench);
    assert_eq!((outcome.ending, outcome.fault), (Ending::NotStarted, Some(Fault::DiskFull)), "{outcome:?}");
    let message = outcome.message.unwrap();
    assert!(message.starts_with("cannot write the payload into") && message.contains("No space left"), "{message}");
    assert!(!bench.path("started").exists());
}

/// A control group that may use 64 MiB; `None` where this machine does not let one be made.
fn small_group(name: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let (parent, limit) = match root.join("memory").is_dir() {
        true => (root.join("memory"), "memory.limit_in_bytes"),
        false => (root.to_owned(), "memory.max"),
    };
    let group = parent.join(format!("{name}-{}", std::process::id()));
    fs::create_dir(&group).ok()?;
    if fs::write(group.join(limit), "67108864").is_err() {
        fs::remove_dir(&group).unwrap();
        return None;
    }
    Some(group)
}

#[test]
fn a_script_of_which_the_kernel_killed_a_process_for_lack_of_memory_is_said_to_be_out_of_memory() {
    let Some(group) = small_group("outrigger-out-of-memory") else {
        eprintln!("skipped: no control group can be made here");
        return;
    };
    let (failing, coping) = (Bench::sh("tail /dev/zero; exit $?"), Bench::sh("tail /dev/zero; exit 0"));
    let join = format!("echo $$ > {}/cgroup.procs", group.display());
    let outcomes = [failing, coping].map(|bench| outcome_after(&join, false, &bench));
    fs::remove_dir(group).unwrap();
    let fault = match Path::new("/sys/fs/cgroup/memory").is_dir() {
        true => Fault::KilledForMemory,
        false => Fault::OutOfMemory,
    };
    assert_eq!((outcomes[0].exit_code, outcomes[0].fault), (Some(137), Some(fault)), "{:?}", outcomes[0]);
    assert_eq!((outcomes[1].exit_code, outcomes[1].fault), (Some(0), None), "{:?}", outcomes[1]);
    let (_, own) = outcome_of(&Bench::sh("exit 137"));
    assert_eq!((own.exit_code, own.fault), (Some(137), None));
}
