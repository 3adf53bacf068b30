//! `outrigger new`, `lint` and `run --local`, as an author of extensions uses them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const MANIFEST: &str = "apiVersion: cloudstack.apache.org/v1
kind: OrchestratorExtension
metadata: {name: probe}
spec:
  entrypoint: {path: run.sh}
customActions:
- name: Probe
  enabled: true
  timeout: 20
  successmessage: 'probed {{resourceName}}'
  errormessage: 'did not probe {{resourceName}}'
  parameters:
  - {name: whom, type: STRING}
  - {name: count, type: NUMBER}
  - {name: key, type: STRING, validationformat: PASSWORD}
- name: Quick
  enabled: true
  timeout: 1
- name: Strict
  enabled: true
  parameters:
  - {name: mode, type: STRING, required: true, valueoptions: 'full,part'}
";

/// A directory with an extension `probe`, and one for temporary files.
struct Bench(TempDir);

impl Bench {
    /// With a script of this body.
    fn new(body: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for dir in ["probe", "tmp"] {
            fs::create_dir(bench.0.path().join(dir)).unwrap();
        }
        bench.write("probe/manifest.yaml", MANIFEST, 0o644);
        bench.write("probe/run.sh", &format!("#!/bin/sh\n{body}\n"), 0o755);
        bench
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.0.path().join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(arguments).current_dir(self.0.path()).env("TMPDIR", self.0.path().join("tmp"));
        command.env("USER", "author").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn outrigger(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.outrigger(&[&["run", "--local", "probe"], arguments].concat())
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.0.path().join("tmp")).unwrap().count()
    }
}

#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn is_clean(&self, manifest: &str) {
        assert!(self.code == Some(0) && self.stdout.ends_with(&format!("{manifest}: no problems\n")), "{self:?}");
    }

    #[track_caller]
    fn is(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(code), stdout, stderr));
    }
}

#[test]
fn a_scaffold_is_clean_and_runs_in_every_language() {
    for language in ["bash", "python"] {
        let bench = Bench::new("");
        let done = bench.outrigger(&["new", "hello", "--language", language]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert!(done.stdout.ends_with("  outrigger run --local hello Greet -p whom=world\n"), "{}", done.stdout);
        bench.outrigger(&["lint", "hello"]).is(0, "hello/manifest.yaml: no problems\n", "");
        let done = bench.outrigger(&["run", "--local", "hello", "Greet", "-p", "whom=wor ld", "--json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let status: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((&status["phase"], &status["exitCode"]), (&"Succeeded".into(), &0.into()));
        assert_eq!(status["result"]["greeting"], "hello, wor ld");
        assert!(done.stderr.contains("greeting wor ld\n") && done.stderr.contains("\"success\""), "{}", done.stderr);
        let done = bench.outrigger(&["run", "--local", "hello", "reboot"]);
        assert_eq!(done.code, Some(1), "{done:?}");
        let message = "message:   Failed to complete reboot: unknown action reboot (exit code 1)\n";
        assert!(done.stdout.contains(message), "{}", done.stdout);
    }
}

#[test]
fn a_scaffold_replaces_nothing_and_needs_a_legal_name() {
    let bench = Bench::new("");
    bench.outrigger(&["new", "probe"]).is(
        1,
        "",
        "outrigger: probe exists already: choose another name, or remove it\n",
    );
    assert_eq!(fs::read_to_string(bench.0.path().join("probe/manifest.yaml")).unwrap(), MANIFEST);
    for name in ["../probe2", "My Ext", "a/b", ""] {
        let done = bench.outrigger(&["new", name]);
        assert_eq!(done.code, Some(1));
        assert!(done.stderr.contains("is no name for an extension; allowed are 1 to 63"), "{}", done.stderr);
    }
}

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
    assert!(done.stderr.contains("400\n700\n"), "{}", done.stderr);
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
fn problems_of_the_manifest_have_their_line() {
    let bench = Bench::new("");
    bench.write("probe/manifest.yaml", &MANIFEST.replace("type: NUMBER", "type: NUMBR"), 0o644);
    let problem = "probe/manifest.yaml:14:25: customActions[0].parameters[1].type: \"NUMBR\" is unknown; allowed are STRING, NUMBER, BOOLEAN, DATE\n";
    bench.run(&["Probe"]).is(2, "", &format!("outrigger: {problem}"));
    let done = bench.outrigger(&["lint", "probe"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), "outrigger: probe/manifest.yaml has 1 problem\n"));
    assert!(done.stdout.starts_with(problem), "{}", done.stdout);

    bench.write("probe/manifest.yaml", &MANIFEST.replace("enabled: true", "enabeld: yes"), 0o644);
    let done = bench.outrigger(&["lint", "probe/manifest.yaml"]);
    assert!(done.stdout.starts_with("probe/manifest.yaml:8:3: customActions[0].enabeld: is an unknown field"));
    assert_eq!(done.stdout.lines().count(), 3, "{}", done.stdout);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), "outrigger: probe/manifest.yaml has 3 problems\n"));
}

#[test]
fn a_manifest_may_end_in_yml_and_yaml_comes_first() {
    let bench = Bench::new("");
    bench.write("probe/manifest.yml", &MANIFEST.replace("name: probe", "nam: probe"), 0o644);
    bench.outrigger(&["lint", "probe"]).is_clean("probe/manifest.yaml");
    fs::remove_file(bench.0.path().join("probe/manifest.yaml")).unwrap();
    let done = bench.outrigger(&["lint", "probe"]);
    assert!(done.stdout.contains("probe/manifest.yml:3:12: metadata.nam: is an unknown field"), "{done:?}");
    bench.write("probe/manifest.yml", MANIFEST, 0o644);
    bench.outrigger(&["lint", "probe"]).is_clean("probe/manifest.yml");
}

#[test]
fn what_kubectl_would_refuse_is_not_converted() {
    let bench = Bench::new("");
    let actions: String = (0..65).map(|number| format!("- name: A{number}\n")).collect();
    let (head, _) = MANIFEST.split_once("- name: Probe").unwrap();
    bench.write("many.yaml", &format!("{head}{actions}"), 0o644);
    let problem = "many.yaml:7:3: customActions: has 65 items; allowed are at most 64\n";
    bench.outrigger(&["convert", "many.yaml"]).is(
        1,
        "",
        &format!("outrigger: many.yaml cannot be converted\n{problem}"),
    );
    let done = bench.outrigger(&["lint", "many.yaml"]);
    assert!(done.stdout.starts_with(problem), "{done:?}");
    // the operator of the cluster may serve more than this command knows
    bench.write(
        "new.yaml",
        &MANIFEST.replace("spec:\n", "spec:\n  compatibility: {cloudstack: {minVersion: 99.10}}\n"),
        0o644,
    );
    let done = bench.outrigger(&["convert", "new.yaml"]);
    assert!(done.code == Some(0) && done.stdout.contains("minVersion: '99.10'\n"), "{done:?}");
    bench.write("large.yaml", &"#".repeat(2 << 20), 0o644);
    let done = bench.outrigger(&["convert", "large.yaml"]);
    assert!(done.stderr.contains("the manifest is larger than 1048576 bytes"), "{done:?}");
}

#[test]
fn a_resource_becomes_a_manifest_again() {
    let bench = Bench::new("");
    let resource = bench.outrigger(&["convert", "probe/manifest.yaml"]).stdout;
    bench.write(
        "resource.yaml",
        &format!("{resource}  interval: 5m\n  source: {{url: 'https://x/y.git', secretRef: {{name: s}}}}\n"),
        0o644,
    );
    let done = bench.outrigger(&["convert", "--reverse", "resource.yaml"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        done.stderr,
        "outrigger: left out, because only a resource can say it: spec.interval, spec.source.secretRef\n"
    );
    bench.write("probe/manifest.yaml", &done.stdout, 0o644);
    bench.outrigger(&["lint", "probe"]).is_clean("probe/manifest.yaml");
    let again = bench.outrigger(&["convert", "probe/manifest.yaml"]).stdout;
    assert_eq!(again, resource.replace("spec:\n", "spec:\n  source:\n    url: https://x/y.git\n"));
    let done = bench.outrigger(&["convert", "--reverse", "probe/manifest.yaml"]);
    assert!(
        done.stderr.contains("expected with --reverse is outrigger.dev/v1alpha1 OrchestratorExtension"),
        "{done:?}"
    );
}

#[test]
fn a_directory_without_manifest_is_said() {
    let bench = Bench::new("");
    bench.outrigger(&["lint", "tmp"]).is(1, "", "outrigger: tmp holds no manifest.yaml or manifest.yml\n");
    let done = bench.outrigger(&["run", "--local", "nowhere", "Probe"]);
    done.is(2, "", "outrigger: nowhere is no directory; expected is the extension's directory\n");
}

#[test]
fn what_is_legal_but_deserves_a_look_is_a_note() {
    let bench = Bench::new("");
    bench.write("probe/manifest.yaml", &MANIFEST.replacen("  enabled: true\n", "", 1), 0o644);
    let done = bench.outrigger(&["lint", "probe"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let notes = [
        "metadata.description is not set; CloudStack's documentation requires it",
        "the action \"Probe\" is disabled: runs of it are refused until it says \"enabled: true\"",
    ];
    for note in notes {
        assert!(done.stdout.contains(&format!("probe/manifest.yaml: note: {note}\n")), "{}", done.stdout);
    }
    let refused = "outrigger: spec.action: action \"Probe\" of extension \"probe\" is disabled; allowed are Quick, Strict; and the \
                   lifecycle actions prepare, create, start, stop, reboot, delete, status, statuses, getconsole\n";
    bench.run(&["Probe"]).is(2, "", refused);
}

#[test]
fn the_example_is_clean() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/redfish");
    let done = Bench::new("").outrigger(&["lint", example.to_str().unwrap()]);
    done.is(0, &format!("{}/manifest.yaml: no problems\n", example.display()), "");
}

#[test]
fn an_entrypoint_that_cannot_be_started_has_its_line() {
    let place = "probe/manifest.yaml:5:22: spec.entrypoint.path";
    let bench = Bench::new("");
    let check = |expected: &str| {
        let done = bench.outrigger(&["lint", "probe"]);
        assert_eq!(done.code, Some(1));
        assert!(done.stdout.starts_with(&format!("{place}: {expected}")), "{}", done.stdout);
        let done = bench.run(&["Probe"]);
        assert_eq!(done.code, Some(2));
        assert!(done.stderr.starts_with(&format!("outrigger: {place}: {expected}")), "{}", done.stderr);
    };
    bench.write("probe/run.sh", "echo hello\n", 0o644);
    check("\"run.sh\" cannot be executed: it has no execute bit (or is on a noexec volume) and no #! line");
    bench.write("probe/run.sh", "MZ\0", 0o755);
    check("\"run.sh\" is no program that this machine can execute: it is no text");
    fs::remove_file(bench.0.path().join("probe/run.sh")).unwrap();
    check("\"run.sh\" does not exist in probe: create it, or correct the path\n");
    std::os::unix::fs::symlink("/bin/sh", bench.0.path().join("probe/run.sh")).unwrap();
    check("\"run.sh\" is a link out of probe, which no installed tree may hold\n");
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
