//! Extensions: from `kubectl apply` to a tree on the volume, and what users see when it does not get there.

use std::collections::BTreeSet;
use std::process::Command;

use outrigger::serve::webhook_config::{Endpoint, webhooks};

use crate::Test;
use crate::harness::{NAMESPACE, TIMEOUT, World, condition, root, run};
use crate::registry;
use crate::repositories::Repository;
use crate::upkeep;

/// The tests.
pub const TESTS: &[Test] = &[
    ("a_git_branch_is_installed_and_a_push_upgrades_it", a_git_branch_is_installed_and_a_push_upgrades_it),
    ("a_commit_and_archives_are_installed", a_commit_and_archives_are_installed),
    ("a_converted_manifest_is_taken_by_kubectl", a_converted_manifest_is_taken_by_kubectl),
    ("a_wrong_url_is_named", a_wrong_url_is_named),
    ("a_private_address_is_refused_unless_opened", a_private_address_is_refused_unless_opened),
    ("a_wrong_entrypoint_is_named_and_a_fix_recovers", a_wrong_entrypoint_is_named_and_a_fix_recovers),
    ("an_archive_that_leaves_its_directory_is_refused", an_archive_that_leaves_its_directory_is_refused),
    ("a_misspelt_field_is_refused_by_kubectl", a_misspelt_field_is_refused_by_kubectl),
    ("a_bad_manifest_in_the_tree_is_named_with_its_line", a_bad_manifest_in_the_tree_is_named_with_its_line),
    ("a_rollback_restores_the_pair_of_tree_and_manifest", upkeep::a_rollback_restores_the_pair_of_tree_and_manifest),
    ("a_config_map_is_installed_and_its_change_at_once", a_config_map_is_installed_and_its_change_at_once),
    ("a_failed_upgrade_keeps_what_is_installed", upkeep::a_failed_upgrade_keeps_what_is_installed),
    ("a_changed_tree_is_repaired_within_the_interval", upkeep::a_changed_tree_is_repaired_within_the_interval),
    ("an_upgrade_leaves_running_actions_their_tree", upkeep::an_upgrade_leaves_running_actions_their_tree),
    ("a_linked_manifest_is_followed", a_linked_manifest_is_followed),
    ("an_incompatible_extension_is_stalled_and_not_installed", an_incompatible_extension_is_stalled_and_not_installed),
    (
        "a_signed_archive_is_installed_and_what_nobody_signed_does_not_replace_it",
        a_signed_archive_is_installed_and_what_nobody_signed_does_not_replace_it,
    ),
    ("the_webhooks_of_the_chart_are_those_of_the_operator", the_webhooks_of_the_chart_are_those_of_the_operator),
    ("a_deleted_extension_leaves_the_volume", a_deleted_extension_leaves_the_volume),
    (
        "a_tag_of_a_registry_is_installed_and_upgraded_when_it_moves",
        registry::a_tag_of_a_registry_is_installed_and_upgraded_when_it_moves,
    ),
    (
        "credentials_reach_only_the_origin_that_their_secret_allows",
        credentials_reach_only_the_origin_that_their_secret_allows,
    ),
];

/// A resource with a name and a spec in YAML's flow form.
pub fn extension(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// Asks for a reconcile by a token that no other request has, and waits for the answer.
pub fn reconcile_now(world: &World, name: &str, token: &str) {
    world.ask_for_look(name, token);
    world.wait(&format!("oext/{name}"), "answer to the request", |object| {
        (object["status"]["lastHandledReconcileAt"] == token).then_some(())
    });
}

fn a_git_branch_is_installed_and_a_push_upgrades_it(world: &World) {
    let repository = Repository::probe(world, "branch");
    world.applied(&extension("branch", &format!("{{source: {{url: {}, refs: main}}}}", repository.url)));
    let waited = world.kubectl(&["wait", "--for=condition=Ready", TIMEOUT, "oext/branch"]);
    assert!(waited.success, "{}", waited.text);
    let first = world.get("oext/branch");
    let tree = first["status"]["artifact"]["treeDigest"].as_str().unwrap();
    assert_eq!(world.volume("readlink branch").trim(), format!(".store/{}", tree.replace(':', "-")));
    assert!(world.volume("cat branch/probe.sh").contains("Shows how actions are run"));
    let fields = first["metadata"]["managedFields"].as_array().unwrap();
    let status = fields.iter().find(|fields| fields["subresource"] == "status").unwrap();
    assert_eq!(status["manager"], "outrigger", "whoever asks who wrote a field is told");
    // the manifest of the tree fills what the resource leaves unset
    assert_eq!(first["status"]["resolved"]["entrypoint"]["path"], "probe.sh");
    assert_eq!(first["status"]["resolved"]["compatibility"]["cloudstack"]["minVersion"], "4.20");

    let commit = repository.write("probe.sh", "#!/bin/sh\necho two\n").push("second");
    reconcile_now(world, "branch", "after-push");
    let second = world.get("oext/branch");
    assert_eq!(second["status"]["artifact"]["revision"], format!("main@sha1:{commit}"));
    assert_eq!(second["status"]["history"][0]["treeDigest"], tree);
    assert!(world.volume("cat branch/probe.sh").contains("echo two"));
    // both installs are one event, with the words of the first
    world.described("oext branch", &["Normal", "Installed", "installed revision main@sha1:"]);
    world.described("oext branch", &[&commit]);
    let listed = world.kubectl(&["get", "oext", "branch"]).text;
    assert!(listed.contains("READY") && listed.contains("True") && listed.contains(&commit), "{listed}");
}

fn a_commit_and_archives_are_installed(world: &World) {
    let repository = Repository::probe(world, "forms");
    let commit = repository.write("README", "forms").push("commit");
    let sources = [
        ("commit", format!("{{type: git, url: {}, refs: {commit}}}", repository.url)),
        ("targz", format!("{{type: archive, url: {}}}", repository.archive(world, "forms.tar.gz"))),
        ("zip", format!("{{type: archive, url: {}}}", repository.archive(world, "forms.zip"))),
    ];
    for (name, source) in &sources {
        world.applied(&extension(name, &format!("{{source: {source}}}")));
    }
    let trees = sources.map(|(name, _)| {
        world.condition(&format!("oext/{name}"), "Ready", "True");
        world.get(&format!("oext/{name}"))["status"]["artifact"]["treeDigest"].clone()
    });
    // the same files are the same tree, whatever way they came
    assert_eq!(trees[0], trees[1]);
    assert_eq!(trees[0], trees[2]);
}

fn a_converted_manifest_is_taken_by_kubectl(world: &World) {
    let repository = Repository::probe(world, "converted");
    repository.replace("manifest.yaml", "https://example.com/probe", &repository.url);
    repository
        .replace("manifest.yaml", "name: probe\n  displayName", "name: Converted\n  displayName")
        .push("real url");
    let manifest = world.dir.path().join("work/converted/manifest.yaml");
    let converted = run(Command::new(env!("CARGO_BIN_EXE_outrigger")).arg("convert").arg(manifest)).unwrap();
    world.applied(&converted);
    world.condition("oext/converted", "Ready", "True");
    assert_eq!(world.get("oext/converted")["spec"]["name"], "Converted");
    // applying it again changes nothing
    assert!(world.apply(&converted).text.contains("unchanged"));
}

fn a_wrong_url_is_named(world: &World) {
    let url = format!("{}/no-such.git", world.git.trim_end_matches('/'));
    world.applied(&extension("wrong-url", &format!("{{source: {{url: {url}}}}}")));
    let ready = world.condition_for("oext/wrong-url", "Ready", "False", "NotFound");
    assert!(ready["message"].as_str().unwrap().contains("no-such.git"), "{ready}");
    world.described("oext wrong-url", &["Warning", "NotFound"]);
}

fn a_private_address_is_refused_unless_opened(world: &World) {
    world.applied(&extension("metadata", "{source: {type: archive, url: 'http://169.254.169.254/latest/x.tar.gz'}}"));
    let stalled = world.condition("oext/metadata", "Stalled", "True");
    assert_eq!(stalled["reason"], "AddressDenied", "{stalled}");
    assert!(stalled["message"].as_str().unwrap().contains("169.254.169.254"), "{stalled}");
}

fn a_wrong_entrypoint_is_named_and_a_fix_recovers(world: &World) {
    let repository = Repository::probe(world, "entrypoint");
    let source = format!("source: {{url: {}}}", repository.url);
    world.applied(&extension("entrypoint", &format!("{{{source}, entrypoint: {{path: prob.sh}}}}")));
    let stalled = world.condition("oext/entrypoint", "Stalled", "True");
    assert_eq!(stalled["reason"], "EntrypointMissing", "{stalled}");
    let message = stalled["message"].as_str().unwrap();
    assert!(message.contains("prob.sh") && message.contains("probe.sh"), "{message}");
    assert_eq!(world.volume("ls entrypoint 2>&1 | grep -c 'No such'").trim(), "1");
    world.applied(&extension("entrypoint", &format!("{{{source}, entrypoint: {{path: probe.sh}}}}")));
    world.condition("oext/entrypoint", "Ready", "True");
    assert!(condition(&world.get("oext/entrypoint"), "Stalled").is_none());
}

fn an_incompatible_extension_is_stalled_and_not_installed(world: &World) {
    let repository = Repository::probe(world, "too-new");
    let needs = "compatibility: {cloudstack: {minVersion: '99.0'}}";
    let taken = world.apply(&extension("too-new", &format!("{{source: {{url: {}}}, {needs}}}", repository.url)));
    assert!(taken.success && taken.text.contains("Warning: spec.compatibility"), "{}", taken.text);
    let stalled = world.condition("oext/too-new", "Stalled", "True");
    assert_eq!(stalled["reason"], "Incompatible", "{stalled}");
    assert!(stalled["message"].as_str().unwrap().contains("contract level 99.0, this operator serves"), "{stalled}");
    assert!(!world.volume("ls").lines().any(|line| line == "too-new"));
}

fn a_linked_manifest_is_followed(world: &World) {
    let repository = Repository::probe(world, "linked");
    let manifest = std::fs::read_to_string(root().join("tests/e2e/probe/manifest.yaml")).unwrap();
    let manifest = manifest.replace("https://example.com/probe", &repository.url);
    let linked = manifest.replace("displayName: Probe", "displayName: Linked Probe");
    std::fs::write(world.dir.path().join("archives/linked.yaml"), linked).unwrap();
    let url = format!("{}/linked.yaml", world.archives.trim_end_matches('/'));
    world.applied(&extension("linked", &format!("{{manifestURL: {url}}}")));
    world.condition("oext/linked", "Ready", "True");
    let object = world.get("oext/linked");
    assert_eq!(object["status"]["resolved"]["displayName"], "Linked Probe");
    assert_eq!(object["status"]["resolved"]["source"]["url"], repository.url.as_str());
    let compatible = condition(&object, "Compatible").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(compatible.contains("spec.displayName: the manifest in the source says otherwise"), "{compatible}");
    assert!(world.volume("cat linked/probe.sh").contains("Shows how actions are run"));
    let version = object["metadata"]["resourceVersion"].clone();
    reconcile_now(world, "linked", "again");
    // the answer to the request, and nothing else
    let again = world.get("oext/linked");
    assert_ne!(again["metadata"]["resourceVersion"], version);
    assert_eq!(again["status"]["conditions"], object["status"]["conditions"]);
}

fn an_archive_that_leaves_its_directory_is_refused(world: &World) {
    let dir = world.dir.path().join("work/hostile");
    std::fs::create_dir_all(dir.join("x")).unwrap();
    std::fs::write(dir.join("evil.sh"), "#!/bin/sh\n").unwrap();
    let archive = world.dir.path().join("archives/hostile.tar.gz");
    run(Command::new("tar").arg("-czPf").arg(&archive).arg("-C").arg(dir.join("x")).arg("../evil.sh")).unwrap();
    let url = format!("{}/hostile.tar.gz", world.archives.trim_end_matches('/'));
    world.applied(&extension(
        "hostile",
        &format!("{{source: {{type: archive, url: {url}}}, entrypoint: {{path: evil.sh}}}}"),
    ));
    let stalled = world.condition("oext/hostile", "Stalled", "True");
    assert_eq!(stalled["reason"], "UnpackRefused", "{stalled}");
    assert!(stalled["message"].as_str().unwrap().contains("../evil.sh"), "{stalled}");
    // nothing lies beside the store but links, and what is staged now is of other tests, which go on
    let beside =
        world.volume("find .. -name 'evil*' 2>/dev/null; find . -mindepth 1 -maxdepth 1 ! -type l ! -name '.*'");
    assert_eq!(beside.trim(), "");
    world.nothing_stays_staged();
}

fn a_misspelt_field_is_refused_by_kubectl(world: &World) {
    let refused =
        world.apply(&extension("misspelt", "{source: {url: https://example.com/x.git}, entrypont: {path: x}}"));
    assert!(!refused.success && refused.text.contains("unknown field \"spec.entrypont\""), "{}", refused.text);
    let refused =
        world.apply(&extension("misspelt", "{source: {type: svn, url: 'ftp://x'}, entrypoint: {path: ../x}}"));
    for text in
        ["\"svn\" is unknown; allowed are git", "\"ftp\" is not supported; allowed are https://", "holds \"..\""]
    {
        assert!(!refused.success && refused.text.contains(text), "{text}: {}", refused.text);
    }
}

fn a_bad_manifest_in_the_tree_is_named_with_its_line(world: &World) {
    let repository = Repository::probe(world, "manifest");
    repository.replace("manifest.yaml", "  entrypoint:\n", "  entrypont:\n").push("misspelt");
    world.applied(&extension("manifest", &format!("{{source: {{url: {}}}}}", repository.url)));
    let stalled = world.condition("oext/manifest", "Stalled", "True");
    assert_eq!(stalled["reason"], "ManifestInvalid", "{stalled}");
    let message = stalled["message"].as_str().unwrap();
    assert!(message.contains("manifest.yaml:15:3") && message.contains("entrypoint"), "{message}");
}

fn a_config_map_is_installed_and_its_change_at_once(world: &World) {
    let config_map = |script: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: scripts, namespace: {NAMESPACE}}}\ndata:\n  run.sh: \"{script}\"\n  \
             note.txt: a note\n"
        )
    };
    let spec = "{source: {type: configMap, configMapRef: {name: scripts}}, entrypoint: {path: run.sh}}";
    // what an earlier run left in the operator's namespace
    world.kubectl(&["-n", NAMESPACE, "delete", "configmap", "scripts", "--ignore-not-found"]);
    world.applied(&extension("config-map", spec));
    let missing = world.condition("oext/config-map", "Ready", "False");
    assert!(missing["message"].as_str().unwrap().contains("scripts of spec.source.configMapRef does not exist"));
    world.applied(&config_map("#!/bin/sh\\necho one\\n"));
    world.condition("oext/config-map", "Ready", "True");
    let revision = world.get("oext/config-map")["status"]["artifact"]["revision"].clone();
    assert!(revision.as_str().unwrap().starts_with("configmap/scripts@sha256:"), "{revision}");
    assert_eq!(world.volume("cd config-map/ && test -x run.sh && ! test -x note.txt && ./run.sh").trim(), "one");
    world.applied(&config_map("#!/bin/sh\\necho two\\n"));
    world.wait("oext/config-map", "new revision", |object| {
        (object["status"]["artifact"]["revision"] != revision).then_some(())
    });
    assert_eq!(world.volume("config-map/run.sh").trim(), "two");

    for (source, text) in [
        ("{type: git}", "spec.source.url: is missing; allowed is an address such as"),
        ("{type: git, configMapRef: {name: x}}", "configMapRef: is for type: configMap alone"),
    ] {
        let refused = world.apply(&extension("config-map-wrong", &format!("{{source: {source}}}")));
        assert!(!refused.success && refused.text.contains(text), "{text}: {}", refused.text);
    }
}

fn a_signed_archive_is_installed_and_what_nobody_signed_does_not_replace_it(world: &World) {
    let fixture = |file: &str| std::fs::read(root().join("tests/fixtures/signatures").join(file)).unwrap();
    let served = world.dir.path().join("archives");
    let (archive, signature) = (served.join("signed.tar.gz"), served.join("signed.tar.gz.minisig"));
    std::fs::write(&archive, fixture("signed.tar.gz")).unwrap();
    std::fs::write(&signature, fixture("signed.tar.gz.minisig")).unwrap();
    // what an earlier run left in the operator's namespace
    world.kubectl(&["-n", NAMESPACE, "delete", "secret", "signers", "--ignore-not-found"]);
    let url = format!("{}/signed.tar.gz", world.archives.trim_end_matches('/'));
    let verify = "{provider: minisign, secretRef: {name: signers}}";
    world.applied(&extension("signed", &format!("{{source: {{type: archive, url: {url}, verify: {verify}}}}}")));
    let unusable = world.condition("oext/signed", "SourceVerified", "False");
    assert_eq!(unusable["reason"], "KeysUnusable", "{unusable}");

    let key = String::from_utf8(fixture("minisign.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    world.applied(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: signers, namespace: {NAMESPACE}}}\nstringData: {{release.pub: {key}}}\n"
    ));
    world.condition("oext/signed", "Ready", "True");
    let verified = world.condition("oext/signed", "SourceVerified", "True");
    assert!(verified["message"].as_str().unwrap().contains("minisign, by the key release.pub"), "{verified}");
    let before = world.get("oext/signed")["status"]["artifact"].clone();
    assert_eq!(before["verified"]["key"], "release.pub");

    let mut tampered = fixture("signed.tar.gz");
    tampered.push(0);
    std::fs::write(&archive, tampered).unwrap();
    let refused = |token: &str, reason: &str, stalls: bool| {
        reconcile_now(world, "signed", token);
        let object = world.get("oext/signed");
        assert_eq!(condition(&object, "Ready").unwrap()["reason"], reason, "{object}");
        assert_eq!(condition(&object, "Stalled").is_some(), stalls, "{object}");
        assert_eq!(condition(&object, "SourceVerified").unwrap()["reason"], reason, "{object}");
        assert_eq!(condition(&object, "Installed").unwrap()["status"], "True", "{object}");
        assert_eq!(object["status"]["artifact"], before);
    };
    refused("tampered", "SignatureInvalid", true);
    std::fs::remove_file(&signature).unwrap();
    refused("without-signature", "SignatureMissing", false);
    let tree = before["treeDigest"].as_str().unwrap().replace(':', "-");
    assert_eq!(world.volume("readlink signed").trim(), format!(".store/{tree}"));

    std::fs::write(&archive, fixture("signed.tar.gz")).unwrap();
    std::fs::write(&signature, fixture("signed.tar.gz.minisig")).unwrap();
    reconcile_now(world, "signed", "good-again");
    world.condition("oext/signed", "Ready", "True");

    for (source, text) in [
        ("{url: 'https://example.com/x.git', verify: {provider: cosign, secretRef: {name: x}}}", "git repositories"),
        (
            "{url: 'https://example.com/x.zip', verify: {provider: pgp, secretRef: {name: x}}}",
            "allowed are cosign and minisign",
        ),
    ] {
        let refused = world.apply(&extension("signed-wrong", &format!("{{source: {source}}}")));
        assert!(!refused.success && refused.text.contains(text), "{text}: {}", refused.text);
    }
}

fn a_deleted_extension_leaves_the_volume(world: &World) {
    let repository = Repository::probe(world, "gone");
    world.applied(&extension("gone", &format!("{{source: {{url: {}}}}}", repository.url)));
    world.condition("oext/gone", "Ready", "True");
    assert!(world.kubectl(&["delete", "oext", "gone", TIMEOUT]).success);
    assert!(!world.volume("ls").lines().any(|line| line == "gone"));
}

fn credentials_reach_only_the_origin_that_their_secret_allows(world: &World) {
    let secret = |origin: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: private\n  namespace: outrigger-system\n  annotations: \
             {{outrigger.dev/allowed-origins: '{origin}'}}\nstringData: {{username: reader, password: swordfish-7}}\n"
        )
    };
    world.applied(&secret("https://elsewhere.example.com"));
    let url = format!("{}/private-archive", world.archives.trim_end_matches('/'));
    let source = format!("{{type: archive, url: {url}, secretRef: {{name: private}}}}");
    world.applied(&extension("private", &format!("{{source: {source}}}")));
    let refused = world.condition_for("oext/private", "Ready", "False", "SecretNotUsable");
    assert!(!refused.to_string().contains("swordfish-7"));
    // the Secret is mended, the extension is not touched; there is no such archive
    world.applied(&secret(url.trim_end_matches("/private-archive")));
    world.wait("oext/private", "answer of the server", |object| {
        (condition(object, "Ready")?["reason"] == "NotFound").then_some(())
    });
}

fn the_webhooks_of_the_chart_are_those_of_the_operator(world: &World) {
    let operator = format!("system:serviceaccount:{NAMESPACE}:outrigger");
    let endpoint = Endpoint::Service { namespace: NAMESPACE.into(), name: "outrigger".into(), port: 443 };
    let (mutating, validating) = webhooks("outrigger", &endpoint, None, &operator);
    let expected =
        [serde_json::to_value(mutating.webhooks).unwrap(), serde_json::to_value(validating.webhooks).unwrap()];
    let kinds = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"];
    for (kind, expected) in kinds.iter().zip(expected) {
        let what = format!("{kind}/outrigger");
        let webhooks = world.wait(&what, "CA of the operator", |object| {
            let mut webhooks = object["webhooks"].clone();
            let mut bundles = BTreeSet::new();
            for webhook in webhooks.as_array_mut()? {
                bundles.insert(webhook["clientConfig"].as_object_mut()?.remove("caBundle")?.to_string());
                // what the API server adds
                for default in ["namespaceSelector", "objectSelector"] {
                    assert_eq!(webhook.as_object_mut()?.remove(default), Some(serde_json::json!({})));
                }
            }
            (bundles.len() == 1).then_some(webhooks)
        });
        assert_eq!(webhooks, expected, "{kind}");
        let object = world.get(&what);
        let fields = object["metadata"]["managedFields"].as_array();
        let managers: BTreeSet<_> = fields.into_iter().flatten().map(|fields| fields["manager"].to_string()).collect();
        assert!(managers.len() > 1, "whoever installed the chart still manages the rest, not only {managers:?}");
    }
}
