//! Extensions from a registry: pushed, installed with a login of Docker's kind, upgraded when the tag moves.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::extensions::{extension, reconcile_now};
use crate::harness::{NAMESPACE, Server, World, cluster, root, run};

const LOGIN: (&str, &str) = ("reader", "swordfish-8");

/// A registry that asks for a login, and the probe extension to push to it.
struct Registry {
    server: Server,
    work: PathBuf,
}

impl Registry {
    fn start(world: &World) -> Self {
        let data = world.dir.path().join("registry");
        std::fs::create_dir_all(&data).unwrap();
        let auth = format!("--auth={}:{}", LOGIN.0, LOGIN.1);
        let server = Server::start("registry", &world.address, &["--root", data.to_str().unwrap(), &auth]).unwrap();
        let work = world.dir.path().join("work/registry");
        std::fs::create_dir_all(&work).unwrap();
        run(Command::new("cp").arg("-rT").arg(root().join("tests/e2e/probe")).arg(&work)).unwrap();
        Self { server, work }
    }

    fn host(&self) -> &str {
        self.server.url.trim_start_matches("http://")
    }

    fn push(&self, tag: &str) -> String {
        let program = root().join("tests/servers/push");
        let auth = format!("--auth={}:{}", LOGIN.0, LOGIN.1);
        let url = format!("{}/team/probe:{tag}", self.server.url);
        let program: &Path = &program;
        run(cluster(&["exec"]).arg(program).args([&auth, &url, "flux"]).arg(&self.work)).unwrap().trim().to_owned()
    }
}

/// The Secret that `kubectl create secret docker-registry` makes, for `host`, and where it may be sent.
fn secret(host: &str, origin: &str) -> String {
    let config = serde_json::json!({"auths": {host: {"username": LOGIN.0, "password": LOGIN.1}}});
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/dockerconfigjson\nmetadata:\n  name: registry-login\n  namespace: \
         {NAMESPACE}\n  annotations: {{outrigger.dev/allowed-origins: '{origin}'}}\nstringData:\n  .dockerconfigjson: '{config}'\n"
    )
}

/// A test of the group `extensions`.
pub fn a_tag_of_a_registry_is_installed_and_upgraded_when_it_moves(world: &World) {
    let registry = Registry::start(world);
    let first = registry.push("v1");
    let address = format!("url: 'oci://{}/team/probe', insecure: true", registry.host());
    let source = format!("{address}, refs: v1, secretRef: {{name: registry-login}}");
    world.applied(&secret(registry.host(), "http://elsewhere.example.com"));
    world.applied(&extension("registry", &format!("{{source: {{{source}}}}}")));
    // the Secret is mended, not the extension: it is tried again by itself
    let refused = world.condition_for("oext/registry", "Reconciling", "True", "SecretNotUsable");
    assert!(refused["message"].as_str().unwrap().contains(&registry.server.url), "{refused}");

    world.applied(&secret(registry.host(), &registry.server.url));
    reconcile_now(world, "registry", "with-login");
    world.condition("oext/registry", "Ready", "True");
    let installed = world.get("oext/registry");
    assert_eq!(installed["status"]["artifact"]["revision"], format!("v1@{first}"));
    assert_eq!(world.volume("cd registry/ && test -x probe.sh && ls manifest.yaml").trim(), "manifest.yaml");
    assert!(!installed.to_string().contains(LOGIN.1));

    std::fs::write(registry.work.join("probe.sh"), "#!/bin/sh\necho two\n").unwrap();
    let second = registry.push("v1");
    reconcile_now(world, "registry", "after-push");
    let upgraded = world.get("oext/registry");
    assert_eq!(upgraded["status"]["artifact"]["revision"], format!("v1@{second}"));
    assert_eq!(upgraded["status"]["history"][0]["treeDigest"], installed["status"]["artifact"]["treeDigest"]);
    assert!(world.volume("cat registry/probe.sh").contains("echo two"));

    // a pin stays where it is, whatever the tag does
    world.applied(&extension("registry", &format!("{{source: {{{source}, digest: '{first}'}}}}")));
    world.wait("oext/registry", "pinned revision", |object| {
        (object["status"]["artifact"]["revision"] == first.as_str()).then_some(())
    });
    world.condition("oext/registry", "Ready", "True");
    for (source, text) in [
        (format!("{address}, type: git"), "an oci:// address is for type: oci alone"),
        ("url: 'https://example.com/x.git', insecure: true".to_owned(), "spec.source.insecure: is for type: oci alone"),
    ] {
        let refused = world.apply(&extension("registry-wrong", &format!("{{source: {{{source}}}}}")));
        assert!(!refused.success && refused.text.contains(text), "{text}: {}", refused.text);
    }
}
