//! Every rule of an extension, and the words in which it is told.

use serde_json::{Value, json};

use super::super::types::RoleType;
use super::*;
use crate::validate::ParameterKind;

pub(super) fn check(spec: Value) -> Result<Extension, Problems> {
    extension("orch", &serde_json::from_value(spec).unwrap(), &ContractLevels::default())
}

/// A good spec with `field` replaced.
pub(super) fn with(field: &str, value: Value) -> Value {
    let mut spec = json!({"source": {"url": "https://example.com/x.zip"}, "entrypoint": {"path": "x.sh"}});
    spec[field] = value;
    spec
}

pub(super) fn problems(field: &str, value: Value) -> String {
    check(with(field, value)).unwrap_err().to_string()
}

#[test]
fn little_is_enough() {
    let extension = check(with("type", json!("Orchestrator"))).unwrap();
    assert_eq!((extension.name.as_str(), extension.object_name.as_str()), ("orch", "orch"));
    assert_eq!(extension.entrypoint.path.as_str(), "x.sh");
    assert_eq!(extension.entrypoint.target_dir.as_str(), "/usr/share/cloudstack-management/extensions/orch");
    assert!(extension.enabled && !extension.strict_result && !extension.allow_unknown_parameters);
    assert_eq!((extension.interval.as_secs(), extension.revision_history_limit), (600, 3));
    assert_eq!(extension.runtime.grace_seconds, 10);
}

#[test]
fn an_action_is_disabled_and_for_admins_unless_it_says_otherwise() {
    let actions = json!([{"name": "A"}, {"name": "B 2", "enabled": true, "timeout": 60, "allowedroletypes": ["User", "Admin"],
        "resourcetype": "virtualmachine", "parameters": [{"name": "p", "type": "number", "valueoptions": " 1, 2 ,,3"}]}]);
    let extension = check(with("customActions", actions)).unwrap();
    let [a, b] = extension.actions.as_slice() else { panic!() };
    assert_eq!((a.enabled, a.timeout_seconds, a.roles.as_slice()), (false, None, [RoleType::Admin].as_slice()));
    assert_eq!((b.enabled, b.timeout_seconds), (true, Some(60)));
    assert_eq!(b.roles, [RoleType::Admin, RoleType::User]);
    assert_eq!(b.parameters[0].kind, ParameterKind::Integer);
    assert_eq!(b.parameters[0].options.len(), 3);
}

#[test]
fn what_is_missing_or_malformed_is_told_with_its_field() {
    let texts = [
        (
            "type",
            json!("NetworkOrchestrator"),
            "spec.type: \"NetworkOrchestrator\" is unknown; allowed is Orchestrator",
        ),
        (
            "entrypoint",
            json!({}),
            "spec.entrypoint.path: is missing: set it, or put a manifest.yaml that has it at the root of the source",
        ),
        (
            "entrypoint",
            json!({"path": "../x"}),
            "spec.entrypoint.path: \"../x\" holds \"..\"; allowed is a path relative to the extension's root, such as \"bin/run.py\", without \"..\"",
        ),
        (
            "entrypoint",
            json!({"path": "x", "language": "/bin/sh"}),
            "spec.entrypoint.language: \"/bin/sh\" is no language; allowed is a name such as \"python\" or \"bash\"",
        ),
        (
            "version",
            json!("new"),
            "spec.version: \"new\" is no semantic version; allowed is one such as \"1.2.3\" or \"1.2.3-rc.1\"",
        ),
        (
            "interval",
            json!("5s"),
            "spec.interval: \"5s\" is too short; allowed is a duration such as \"10m\" or \"1h30m\", from 10s to 720h",
        ),
        (
            "manifestURL",
            json!("nonsense"),
            "spec.manifestURL: not a URL (relative URL without a base); expected one like https://example.com/path",
        ),
        (
            "manifestURL",
            json!("https://bob:hunter2@x/m.yaml"),
            "spec.manifestURL: a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef",
        ),
        ("name", json!(" "), "spec.name: is no name; allowed are 1 to 253 printable characters"),
        (
            "revision",
            json!("sha256:0"),
            "spec.revision: \"sha256:0\" is no tree digest; allowed is a treeDigest of status.history, \"sha256:\" and 64 lower-case hexadecimal digits",
        ),
        (
            "runtime",
            json!({"env": {"OUTRIGGER_TOKEN": "x"}}),
            "spec.runtime.env[\"OUTRIGGER_TOKEN\"]: names that begin with OUTRIGGER_ are the runner's; choose another",
        ),
        (
            "runtime",
            json!({"env": {"A=B": "x"}}),
            "spec.runtime.env[\"A=B\"]: is no name of a variable; allowed are letters, digits, \"_\", \"-\" and \".\", not first a digit",
        ),
        (
            "runtime",
            json!({"env": {"A": "\0"}}),
            "spec.runtime.env[\"A\"]: holds a NUL character, which no variable can",
        ),
        (
            "runtime",
            json!({"networkPolicy": {"egress": [{"cidr": "10.0.0.0"}]}}),
            "spec.runtime.networkPolicy.egress[0].cidr: \"10.0.0.0\" is no network; allowed is one such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
        ),
        (
            "runtime",
            json!({"image": "a b"}),
            "spec.runtime.image: \"a b\" is no image reference; allowed is one such as \"docker.io/library/python:3.13\"",
        ),
        (
            "actionAliases",
            json!({"deploy": "create"}),
            "spec.actionAliases[\"deploy\"]: names no action of this extension; allowed are lifecycle and custom actions",
        ),
        (
            "actionAliases",
            json!({"create": "a/b"}),
            "spec.actionAliases[\"create\"]: \"a/b\" is no action name; allowed are letters, digits, spaces, \"_\" and \"-\"",
        ),
    ];
    for (field, value, text) in texts {
        assert_eq!(problems(field, value), text);
    }
}

#[test]
fn an_object_name_is_safe_as_a_directory() {
    let spec = serde_json::from_value(with("enabled", json!(true))).unwrap();
    let check = |name: &str| extension(name, &spec, &ContractLevels::default());
    for good in ["x", "a-b.c1", &"a".repeat(63)] {
        assert!(check(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", "a/b", "../x", "A", "-a", "a-", "a..b", "a b", &"a".repeat(64)] {
        let text = check(bad).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("metadata.name: {bad:?} is no name for an extension; allowed are 1 to 63")),
            "{text}"
        );
    }
}

#[test]
fn a_newer_contract_is_incompatible_and_not_a_broken_rule() {
    let needs = |version: &str| with("compatibility", json!({"cloudstack": {"minVersion": version}}));
    for version in ["4.22.1", "4.23", "4.23.0", "4.23.0.0", ""] {
        assert!(check(needs(version)).is_ok(), "{version}");
    }
    for version in ["4.24", "4.23.0.1", "4.23.1", "5"] {
        let problems = check(needs(version)).unwrap_err();
        assert_eq!(problems.reason(), Reason::Incompatible);
        let text = format!(
            "spec.compatibility.cloudstack.minVersion: the extension needs contract level {version}, this operator serves 4.23.0: upgrade the operator"
        );
        assert_eq!(problems.to_string(), text);
    }
    let problems = check(needs("soon")).unwrap_err();
    assert_eq!(problems.reason(), Reason::ValidationFailed);
    assert_eq!(
        problems.to_string(),
        "spec.compatibility.cloudstack.minVersion: \"soon\" is no version; allowed is one such as \"4.23.0\""
    );
}

#[test]
fn the_contract_level_that_counts_is_the_one_that_is_served() {
    let spec = serde_json::from_value(with("compatibility", json!({"cloudstack": {"minVersion": "4.23"}}))).unwrap();
    let judged = |level: &str| extension("orch", &spec, &ContractLevels { orchestrator: level.to_owned() });
    assert!(judged("4.24").is_ok());
    assert_eq!(
        judged("4.22").unwrap_err().to_string(),
        "spec.compatibility.cloudstack.minVersion: the extension needs contract level 4.23, this operator serves 4.22: upgrade the operator"
    );
}

#[test]
fn a_target_directory_hides_nothing_that_a_container_needs() {
    let dir = |dir: &str| check(with("entrypoint", json!({"path": "x", "targetDir": dir})));
    for good in [
        "/opt",
        "/opt/x",
        "/usr/share/x",
        "/usr/share/cloudstack-management/extensions/x/",
        "/procfs",
        "/var/lib/x",
        "/srv//x/.",
    ] {
        assert!(dir(good).is_ok(), "{good}");
    }
    for bad in [
        "/",
        "//",
        "/proc",
        "/proc/1",
        "/dev/shm",
        "/sys",
        "/tmp",
        "/tmp/x",
        "/etc",
        "/bin",
        "/usr",
        "/usr/bin",
        "/usr/bin/x",
        "/lib64",
        "/usr/lib/python3",
        "/usr/local",
        "/usr/local/bin",
        "/run/outrigger",
        "/var/run/secrets",
        "/outrigger",
        "/outrigger/x",
        "/./proc",
        "/var",
    ] {
        let text = dir(bad).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("spec.entrypoint.targetDir: {bad:?} would hide what a container needs")),
            "{text}"
        );
    }
    for bad in ["opt/x", "/opt/../proc", "/opt/a:b", "/opt/a\nb"] {
        assert!(dir(bad).unwrap_err().to_string().starts_with("spec.entrypoint.targetDir: "), "{bad}");
    }
}

#[test]
fn paths_are_normalised() {
    let path = |path: &str| relative_path(path).map(|path| path.as_str().to_owned());
    assert_eq!(path("./bin//x.py"), Ok("bin/x.py".into()));
    for bad in ["", ".", "/x", "a/../b", "..", "a\\b", "a\0b", &"x".repeat(256)] {
        assert!(path(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let spec = json!({"type": "X", "source": {"type": "svn", "url": "ftp://x"}, "interval": "never", "customActions": [{"name": "!"}]});
    let problems = check(spec).unwrap_err();
    assert_eq!(problems.iter().count(), 6, "{problems}");
    assert_eq!(problems.reason(), Reason::ValidationFailed);
}

#[test]
fn sizes_are_bounded_as_in_the_definition() {
    let actions: Vec<Value> = (0..65).map(|number| json!({"name": format!("A{number}")})).collect();
    assert_eq!(problems("customActions", json!(actions)), "spec.customActions: has 65 items; allowed are at most 64");
    assert_eq!(
        problems("runtime", json!({"maxConcurrentRuns": 0})),
        "spec.runtime.maxConcurrentRuns: 0 is out of range; allowed are 1 to 1000"
    );
}

#[test]
fn a_value_of_any_length_is_told_in_short() {
    let long = "x".repeat(1 << 20);
    let spec = json!({
        "name": long, "type": long, "version": long, "interval": long, "revision": long, "manifestURL": long,
        "source": {"type": long, "url": format!("{long}://"), "refs": long, "digest": long, "path": format!("/{long}")},
        "compatibility": {"cloudstack": {"minVersion": format!("9-{long}")}},
        "entrypoint": {"path": format!("/{long}"), "targetDir": long, "language": long},
        "actionAliases": {&long: long}, "runtime": {"image": format!("{long} "), "env": {format!("={long}"): long}},
        "customActions": [{
            "name": long, "resourcetype": long, "allowedroletypes": [long],
            "parameters": [{"name": long, "type": long}, {"name": long, "type": "NUMBER", "validationformat": long},
                {"name": "p", "type": "NUMBER", "valueoptions": long}],
        }],
    });
    let problems = check(spec).unwrap_err();
    for problem in problems.iter() {
        assert!(problem.to_string().len() < 500, "{}: {}", problem.path.len(), problem.message.len());
    }
    assert!(problems.iter().count() > 20, "{}", problems.iter().count());
}
