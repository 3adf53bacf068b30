//! `outrigger new`, `lint` and `convert`: the manifest of an extension, and what is said of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bench::{Bench, MANIFEST};

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
        // the two streams come as they are written, which may be within a line
        assert!(done.stderr.contains("greeting wor ld") && done.stderr.contains("\"success\""), "{}", done.stderr);
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
