//! Scripts as the documentation of CloudStack teaches to write them: they know `deploy`, which is never sent. `actionAliases`
//! maps `create` to it.

use outrigger::api::{ActionRun, OrchestratorExtension, Phase};
use outrigger::run::request::{Answers, Policy, References, Request, request};
use outrigger::run::verdict::verdict;
use serde_json::{Value, json};

use super::bench::{Bench, outcome_with};

const BASH: &str = r#"#!/bin/bash
action=$1
payload=$2
seconds=$3
[ -r "$payload" ] && [ "$seconds" -gt 0 ] || exit 9
if [ "$action" == "deploy" ]; then
    echo '{"success": true, "result": {"message": "created by bash"}}'
else
    echo '{"success": false, "result": {"message": "no such action"}}'
fi
"#;

/// Without a first line, and without execute bit: the manifest's language says how it runs.
const PYTHON: &str = r#"import json
import sys

action, path = sys.argv[1], sys.argv[2]
with open(path) as file:
    payload = json.load(file)
if action == "deploy":
    name = payload["virtualmachinename"]
    print(json.dumps({"success": True, "result": {"message": "created " + name + " by python"}}))
else:
    print(json.dumps({"success": False, "result": {"message": "no such action"}}))
"#;

fn extension(language: Option<&str>, aliases: Value) -> OrchestratorExtension {
    let digest = format!("sha256:{}", "0".repeat(64));
    let spec = json!({
        "type": "Orchestrator", "displayName": "Sample", "description": "d", "version": "1.0.0", "maintainer": "m",
        "source": {"type": "git", "url": "https://example.com/sample.git"},
        "compatibility": {"cloudstack": {"minVersion": "4.23.0"}},
        "entrypoint": {"path": "bin/run", "language": language}, "customActions": [],
        "actionAliases": aliases, "strictResult": true,
    });
    let artifact = json!({
        "revision": "main@sha1:0", "treeDigest": digest, "manifestDigest": digest, "size": 1, "files": 1,
        "lastUpdateTime": "2026-11-23T10:00:00Z",
    });
    serde_json::from_value(json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "OrchestratorExtension", "metadata": {"name": "sample"},
        "spec": spec, "status": {"resolved": spec, "artifact": artifact},
    }))
    .unwrap()
}

fn run() -> ActionRun {
    serde_json::from_value(json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
        "metadata": {"name": "create", "namespace": "team-a", "uid": "0d7e5c52-9a5e-4a0e-8f6b-0123456789ab"},
        "spec": {"extensionRef": {"name": "sample"}, "action": "create", "target": {"name": "i-2-45-VM"}},
    }))
    .unwrap()
}

fn requested(run: &ActionRun, extension: &OrchestratorExtension) -> Request {
    let references = References {
        extension: Some(extension),
        target: None,
        namespace_labels: &Default::default(),
        stamp: Ok(()),
        answers: &Answers::NONE,
    };
    request(run, &references, &Policy::default()).unwrap()
}

#[test]
fn the_documentations_samples_run_by_an_alias() {
    for (script, mode, language, message) in
        [(BASH, 0o755, None, "created by bash"), (PYTHON, 0o644, Some("python"), "created i-2-45-VM by python")]
    {
        for (aliases, phase, message) in
            [(json!({"create": "deploy"}), Phase::Succeeded, message), (json!({}), Phase::Failed, "no such action")]
        {
            let (run, extension) = (run(), extension(language, aliases));
            let bench = Bench::new(script);
            bench.set_mode(mode);
            let grant = requested(&run, &extension).grant(&run, Default::default(), Default::default());
            let (_, outcome) = outcome_with(&bench, grant);
            let verdict = verdict(&run, Some(&extension), None, &outcome);
            assert_eq!((verdict.phase, verdict.exit_code), (phase, Some(0)), "{outcome:?}");
            assert_eq!(verdict.result.unwrap()["result"]["message"], message);
        }
    }
}
