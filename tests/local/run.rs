//! `outrigger run --local`: what a script gets, and what is shown of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::bench::{Bench, Done, MANIFEST};

#[test]
fn a_run_shows_the_output_and_then_what_its_status_would_say() {
    let bench = Bench::new("echo working >&2; echo '{\"ok\": true}'");
    let status =
        "phase:     Succeeded\nreason:    Succeeded\nmessage:   probed VirtualMachine\nexit code: 0\nresult:\n";
    bench.run(&["Probe"]).is(0, &format!("{{\"ok\": true}}\n\n{status}  {{\n    \"ok\": true\n  }}\n"), "working\n");
}

#[test]
fn a_message_to_be_printed_is_a_table() {
    let rows = r#"[{"sensor": "fan", "value": 1200}, {"sensor": "cpu", "value": 40}]"#;
    let bench = Bench::new(&format!("echo '{{\"printmessage\": \"true\", \"message\": {rows}}}'"));
    let done = bench.run(&["Probe"]);
    assert!(done.stdout.ends_with("\nresult:\n  sensor  value\n  fan     1200\n  cpu     40\n"), "{}", done.stdout);
}

#[test]
fn a_script_that_fails_fails_the_command() {
    let bench = Bench::new("echo 'no such disk' >&2; exit 7");
    let status = "\nphase:     Failed\nreason:    ActionFailed\n\
                  message:   did not probe VirtualMachine: no such disk (exit code 7)\nexit code: 7\n";
    bench.run(&["Probe"]).is(1, status, "no such disk\n");
}

#[test]
fn a_script_is_stopped_at_the_timeout_of_its_action() {
    let bench = Bench::new("echo limit $3; sleep 60");
    let started = Instant::now();
    let done = bench.run(&["Quick", "--timeout", "50"]);
    assert!(started.elapsed() < Duration::from_secs(30));
    let status = "limit 1\n\nphase:     Failed\nreason:    Timeout\n\
                  message:   Failed to complete Quick: stopped at its timeout of 1 s\n";
    done.is(1, status, "");
    let done = bench.run(&["Probe", "--timeout", "1"]);
    assert!(done.stdout.contains("stopped at its timeout of 1 s"), "{}", done.stdout);
    assert_eq!(bench.left_behind(), 0);
}

#[test]
fn parameters_are_refused_in_the_operators_words() {
    let bench = Bench::new("touch started");
    let cases: &[(&[&str], &str)] = &[
        (&["Strict"], "spec.parameters.mode: is required and missing; expected is one of full, part"),
        (
            &["Probe", "-p", "whon=x"],
            "spec.parameters.whon: is unknown (did you mean \"whom\"?); allowed are whom, count, key",
        ),
        (
            &["Probe", "-p", "count=many"],
            "spec.parameters.count: \"many\" is not valid; expected is a whole number from -2147483648 to 2147483647",
        ),
        (&["Probe", "-p", "whom=x", "-p", "whom=y"], "parameter \"whom\" is given twice"),
        (&["start", "-p", "whom=x"], "spec.parameters: the lifecycle action \"start\" takes no parameters"),
    ];
    for (arguments, expected) in cases {
        bench.run(arguments).is(2, "", &format!("outrigger: {expected}\n"));
    }
    let done = bench.run(&["Probe", "-p", "whom"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("expected is NAME=VALUE"), "{}", done.stderr);
    let done = bench.run(&["Prob"]);
    assert!(done.stderr.contains("has no action \"Prob\" (did you mean \"Probe\"?)"), "{}", done.stderr);
    assert_eq!(done.code, Some(2));
}

#[test]
fn the_script_reads_typed_parameters_and_the_caller_from_a_private_file() {
    let bench = Bench::new("stat -c %a \"$2\" >&2; stat -c %a \"$(dirname \"$2\")/..\" >&2; cat \"$2\"");
    let done = bench.run(&["Probe", "-p", "count=3", "-p", "whom=a=b", "--json"]);
    for mode in ["400\n", "700\n"] {
        assert!(done.stderr.contains(mode), "{}", done.stderr);
    }
    let status: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(status["result"]["parameters"], serde_json::json!({"count": 3, "whom": "a=b"}));
    assert_eq!(status["result"]["caller"]["name"], "author");
    assert_eq!(bench.left_behind(), 0);
}

#[test]
fn the_script_is_told_its_attempt_and_a_key_of_its_own() {
    let bench = Bench::new("echo \"{\\\"seen\\\": \\\"$OUTRIGGER_ATTEMPT $OUTRIGGER_IDEMPOTENCY_KEY\\\"}\"");
    let seen = |more: &[&str]| {
        let done = bench.run(&[&["--json", "Probe"], more].concat());
        let status: Value = serde_json::from_str(&done.stdout).unwrap();
        status["result"]["seen"].as_str().unwrap().to_owned()
    };
    let (one, other) = (seen(&[]), seen(&[]));
    assert!(one.starts_with("1 ") && one.len() == 38 && one != other, "{one} {other}");
    assert_eq!(seen(&["--attempt", "3", "--idempotency-key", "k"]), "3 k");
}

#[test]
fn a_password_appears_nowhere() {
    let bench = Bench::new("cat \"$2\"; cat \"$2\" >&2; exit 1");
    for json in [&["--json"][..], &[]] {
        let done = bench.run(&[&["Probe", "-p", "key=hunter2"], json].concat());
        assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
        assert!(done.stderr.contains("\"key\":\"********\""), "{done:?}");
    }
    bench.write("payload.json", r#"{"parameters": {"key": "hunter2"}, "more": [1]}"#, 0o600);
    let done = bench.run(&["Probe", "--payload", "payload.json"]);
    assert!(done.stderr.ends_with(r#"{"parameters": {"key": "********"}, "more": [1]}"#), "{done:?}");
    assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
}

#[test]
fn the_password_of_a_console_appears_nowhere() {
    let answer =
        r#"{"status": "success", "console": {"host": "h", "port": 5900, "password": "fresh", "protocol": "vnc"}}"#;
    let bench = Bench::new(&format!("echo '{answer}'; echo note >&2"));
    for json in [&["--json"][..], &[]] {
        let done = bench.run(&[&["getconsole"], json].concat());
        assert!(!format!("{done:?}").contains("fresh"), "{done:?}");
        let shown = format!("{}{}", done.stdout, done.stderr);
        assert!(shown.contains("[outrigger: standard output is not shown: it may hold a password]\n"), "{shown}");
        assert!(shown.contains("vnc") && done.stderr.contains("note\n"), "{shown}");
        assert_eq!(done.code, Some(0));
    }
}

#[test]
fn a_target_comes_with_its_secrets_which_appear_nowhere() {
    let target = "apiVersion: v1
kind: Secret
metadata: {name: bmc}
stringData: {password: hunter2}
---
apiVersion: outrigger.dev/v1alpha1
kind: ExtensionTarget
metadata: {name: node7}
spec:
  extensionRef: {name: probe}
  id: '42'
  host: {url: 'https://bmc'}
  hostFrom: [{secretRef: {name: bmc}}]
  vm: {cpus: 2}
";
    let bench = Bench::new("grep -q hunter2 \"$2\" && cat \"$2\"");
    bench.write("target.yaml", target, 0o600);
    let done = bench.run(&["Probe", "--target", "target.yaml", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
    let status: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(status["message"], "probed node7");
    let payload = &status["result"];
    assert_eq!(payload["externaldetails"]["host"], serde_json::json!({"password": "********", "url": "https://bmc"}));
    assert_eq!((&payload["virtualmachineid"], &payload["cloudstack.vm.details"]["cpus"]), (&"42".into(), &2.into()));

    bench.write("target.yaml", &target.replace("{name: probe}", "{name: other}"), 0o600);
    let expected =
        "outrigger: spec.targetRef: ExtensionTarget \"node7\" belongs to extension \"other\", not to \"probe\"\n";
    bench.run(&["Probe", "--target", "target.yaml"]).is(2, "", expected);
}

#[test]
fn an_entrypoint_without_execute_bit_runs_by_its_line_or_language() {
    let bench = Bench::new("echo '{\"by\": \"line\"}'");
    let script = bench.0.path().join("probe/run.sh");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(bench.run(&["Probe"]).stdout.contains("\"by\": \"line\""));
    fs::write(&script, "echo '{\"by\": \"language\"}'\n").unwrap();
    bench.write("probe/manifest.yaml", &MANIFEST.replace("{path: run.sh}", "{path: run.sh, language: sh}"), 0o644);
    let done = bench.run(&["Probe"]);
    assert!(done.code == Some(0) && done.stdout.contains("\"by\": \"language\""), "{done:?}");
}

#[test]
fn an_interrupt_stops_every_process_of_the_script() {
    let bench = Bench::new("trap 'echo cleaned up; exit 3' TERM; sleep 60 & echo $! > \"$TMPDIR/../sleeper\"; wait");
    let child = bench.command(&["run", "--local", "probe", "Probe"]).spawn().unwrap();
    let sleeper = bench.0.path().join("sleeper");
    let deadline = Instant::now() + Duration::from_secs(20);
    let pid = loop {
        if let Ok(pid) = fs::read_to_string(&sleeper).unwrap_or_default().trim().parse::<u32>() {
            break pid;
        }
        assert!(Instant::now() < deadline, "the script did not start");
        thread::sleep(Duration::from_millis(20));
    };
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    let status = "cleaned up\n\nphase:     Canceled\nreason:    Canceled\n\
                  message:   did not probe VirtualMachine: stopped because the run was cancelled\nexit code: 3\n";
    done.is(1, status, "outrigger: stopping the script: TERM, and KILL after 10 s\n");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a process of the script is left");
    assert_eq!(bench.left_behind(), 0);
}
