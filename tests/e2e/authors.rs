//! What authors begin with and bring: the scaffold as it is made, and an image of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::Test;
use crate::harness::{World, cluster, run};
use crate::repositories::Repository;
use crate::runs::{finished, install};

/// The tests.
pub const TESTS: &[Test] = &[
    ("every_scaffold_runs_as_it_is_made", every_scaffold_runs_as_it_is_made),
    ("an_authors_own_image_needs_nothing_of_the_operators", an_authors_own_image_needs_nothing_of_the_operators),
];

/// An image with bash, and without what the operator's own has beside it.
const IMAGE: &str = "docker.io/library/debian:bookworm-slim";

const MANIFEST: &str = "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {name: plain, displayName: \
     Plain, description: Plain., version: 0.1.0, maintainer: m}\nspec: {type: Orchestrator, compatibility: {cloudstack: \
     {minVersion: 4.23.0}}, entrypoint: {path: run.sh}}\nenabled: true\ncustomActions: [{name: Look, enabled: true, \
     allowedroletypes: [Admin, User]}]\n";

const SCRIPT: &str = "#!/bin/bash\nfor program in jq curl python3 outrigger; do\n    if command -v \"$program\"; then exit 3; \
     fi\ndone\necho '{\"status\": \"success\", \"found\": \"nothing\"}'\n";

fn every_scaffold_runs_as_it_is_made(world: &World) {
    let directory = world.dir.path().join("made");
    std::fs::create_dir(&directory).unwrap();
    for language in ["bash", "python"] {
        let name = format!("made-{language}");
        let mut new = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        run(new.current_dir(&directory).args(["new", &name, "--language", language])).unwrap();
        install(world, &name, &Repository::of(world, &name, &directory.join(&name)), "");
        let greeted = finished(world, &name, "greet", "action: Greet, parameters: {whom: world}");
        assert_eq!(greeted["status"]["phase"], "Succeeded", "{greeted:#}");
        assert_eq!(greeted["status"]["message"], format!("{name} greeted"), "{greeted:#}");
    }
}

fn an_authors_own_image_needs_nothing_of_the_operators(world: &World) {
    let loaded = run(&mut cluster(&["load", IMAGE])).unwrap();
    let image = loaded.lines().next().unwrap();
    let directory = world.dir.path().join("plain");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("manifest.yaml"), MANIFEST).unwrap();
    let script = directory.join("run.sh");
    std::fs::write(&script, SCRIPT).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let repository = Repository::of(world, "plain", &directory);
    install(world, "plain", &repository, &format!(", runtime: {{image: '{image}'}}"));
    let looked = finished(world, "plain", "look", "action: Look");
    assert_eq!(looked["status"]["result"]["found"], "nothing", "{looked:#}");
}
