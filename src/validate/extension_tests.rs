//! Every rule of an extension, and the words in which it is told.

use serde_json::{Value, json};

use super::super::types::RoleType;
use super::*;
use crate::validate::{ParameterKind, SourceKind};

fn check(spec: Value) -> Result<Extension, Problems> {
    extension("orch", &serde_json::from_value(spec).unwrap(), &ContractLevels::default())
}

/// A good spec with `field` replaced.
fn with(field: &str, value: Value) -> Value {
    let mut spec = json!({"source": {"url": "https://example.com/x.zip"}, "entrypoint": {"path": "x.sh"}});
    spec[field] = value;
    spec
}

fn problems(field: &str, value: Value) -> String {
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
fn actions_and_parameters_keep_their_rules() {
    let parameter = |parameter: Value| json!([{"name": "A", "parameters": [parameter]}]);
    let texts = [
        (
            json!([{"name": "start"}]),
            "spec.customActions[0].name: \"start\" is a lifecycle action, which every extension has; a custom action needs another name",
        ),
        (
            json!([{"name": "a/b"}]),
            "spec.customActions[0].name: \"a/b\" is no action name; allowed are 1 to 128 letters, digits, spaces, \"_\" and \"-\"",
        ),
        (
            json!([{"name": "A"}, {"name": "A"}]),
            "spec.customActions[1].name: \"A\" is already the name of customActions[0]; names must be unique",
        ),
        (
            json!([{"name": "A", "resourcetype": "Network"}]),
            "spec.customActions[0].resourcetype: \"Network\" is not supported; allowed is VirtualMachine",
        ),
        (
            json!([{"name": "A", "timeout": 700000}]),
            "spec.customActions[0].timeout: 700000 is too long; allowed are 0 (the operator's default) to 604800 seconds",
        ),
        (
            json!([{"name": "A", "allowedroletypes": ["admin"]}]),
            "spec.customActions[0].allowedroletypes[0]: \"admin\" is no role type (did you mean \"Admin\"?); allowed are Admin, ResourceAdmin, DomainAdmin, User",
        ),
        (
            parameter(json!({"name": " ", "type": "STRING"})),
            "spec.customActions[0].parameters[0].name: \" \" is no parameter name; allowed are 1 to 128 printable characters",
        ),
        (
            parameter(json!({"name": "p", "type": "TEXT"})),
            "spec.customActions[0].parameters[0].type: \"TEXT\" is unknown; allowed are STRING, NUMBER, BOOLEAN, DATE",
        ),
        (
            parameter(json!({"name": "p", "type": "NUMBER", "valueoptions": "1,two"})),
            "spec.customActions[0].parameters[0].valueoptions: option \"two\" does not fit: expected is a whole number from -2147483648 to 2147483647",
        ),
        (
            parameter(json!({"name": "p", "type": "BOOLEAN", "valueoptions": "true"})),
            "spec.customActions[0].parameters[0].valueoptions: options are not supported for BOOLEAN and DATE: remove them",
        ),
        (
            json!([{"name": "A", "parameters": [{"name": "p", "type": "DATE"}, {"name": "p", "type": "DATE"}]}]),
            "spec.customActions[0].parameters[1].name: \"p\" is already the name of parameters[0]; names must be unique",
        ),
    ];
    for (actions, text) in texts {
        assert_eq!(problems("customActions", actions), text);
    }
}

#[test]
fn names_that_differ_in_case_only_are_allowed_and_noted() {
    let extension = check(with("customActions", json!([{"name": "List"}, {"name": "list"}]))).unwrap();
    assert_eq!(
        extension.notes,
        [
            "the custom actions \"List\" and \"list\" differ in case only: scripts that compare in lower case cannot tell them apart"
        ]
    );
}

#[test]
fn a_name_that_differs_from_a_lifecycle_action_in_case_only_is_noted() {
    let extension = check(with("customActions", json!([{"name": "Start"}]))).unwrap();
    assert_eq!(
        extension.notes,
        [
            "the custom action \"Start\" and the lifecycle action \"start\" differ in case only: scripts that compare in lower case cannot tell them apart"
        ]
    );
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

fn source(value: Value) -> Result<super::super::Source, Problems> {
    super::super::source(&serde_json::from_value(value).unwrap())
}

#[test]
fn the_type_of_a_source_follows_from_its_address() {
    let kinds = [
        ("https://example.com/x.git", SourceKind::Git),
        ("https://github.com/a/b", SourceKind::Git),
        ("https://github.com/a/b/", SourceKind::Git),
        ("https://codeberg.org/a/b", SourceKind::Git),
        ("https://github.com/a/b/archive/refs/heads/main.zip", SourceKind::Archive),
        ("https://gitlab.com/a/b/-/archive/v1/b.tar.gz", SourceKind::Archive),
        ("https://gitlab.com/a/archive/raw/b", SourceKind::Git),
        ("https://gitlab.com/a/b/-/releases/v1/downloads/package", SourceKind::Archive),
        ("https://gitlab.com/api/v4/projects/1/repository/archive", SourceKind::Archive),
        ("https://github.com/o/r/tarball/main", SourceKind::Archive),
        ("https://www.github.com/o/r/zipball/main", SourceKind::Archive),
        ("https://github.com/o/r/releases/download/v1/extension", SourceKind::Archive),
        ("https://github.com/o/r/releases/latest/download/extension", SourceKind::Archive),
        ("https://bitbucket.org/o/r/get/main", SourceKind::Archive),
        ("https://codeberg.org/attachments/1-2-3", SourceKind::Archive),
        ("https://gitea.com/a/b", SourceKind::Git),
        ("https://git.sr.ht/~a/b", SourceKind::Git),
        ("https://dev.azure.com/o/p/_git/r", SourceKind::Git),
        ("https://tfs.example.com/c/p/_git/r", SourceKind::Git),
        ("https://example.com/x.tar.gz?token=1", SourceKind::Archive),
        ("https://example.com/download", SourceKind::Archive),
        ("oci://ghcr.io/team/extension", SourceKind::Oci),
        ("oci://127.0.0.1:5000/extension.git", SourceKind::Oci),
    ];
    for (url, kind) in kinds {
        assert_eq!(source(json!({"url": url})).unwrap().kind, kind, "{url}");
    }
    assert_eq!(
        source(json!({"url": "https://example.com/x", "type": "GIT", "refs": "v1"})).unwrap().kind,
        SourceKind::Git
    );
}

#[test]
fn a_source_keeps_its_rules() {
    let git = "https://example.com/x.git";
    let texts = [
        (json!({}), "spec.source.url: is missing; allowed is an address such as https://example.com/extension.git"),
        (
            json!({"url": "ssh://git@x/y.git"}),
            "spec.source.url: the scheme \"ssh\" is not supported; allowed are https://, http:// and oci://",
        ),
        (
            json!({"url": "ext::sh"}),
            "spec.source.url: the scheme \"ext\" is not supported; allowed are https://, http:// and oci://",
        ),
        (
            json!({"url": "file:///etc"}),
            "spec.source.url: the scheme \"file\" is not supported; allowed are https://, http:// and oci://",
        ),
        (
            json!({"url": "https://user:secret@example.com/x.git"}),
            "spec.source.url: a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef",
        ),
        (
            json!({"url": "https://bob:hunter2/x@git.example.com/r.git"}),
            "spec.source.url: not a URL (invalid port number); expected one like https://example.com/path",
        ),
        (
            json!({"url": "https://bob:hunter2#x@git.example.com/r.git"}),
            "spec.source.url: not a URL (invalid port number); expected one like https://example.com/path",
        ),
        (
            json!({"url": "https://bob:12#hunter2@git.example.com/r.git"}),
            "spec.source.url: a fragment (#…) is not allowed; leave it out",
        ),
        (
            json!({"url": "oci://bob:hunter2/x@ghcr.io/a"}),
            "spec.source.url: not a URL (invalid port number); expected one like https://example.com/path",
        ),
        (
            json!({"url": "oci://bob:12/hunter2@ghcr.io/a"}),
            "spec.source.url: a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef",
        ),
        (json!({"url": "https://x/a.zip#b"}), "spec.source.url: a fragment (#…) is not allowed; leave it out"),
        (
            json!({"url": "https://x/a b.zip"}),
            "spec.source.url: white space, control characters and backslashes are not allowed; write them percent-encoded",
        ),
        (
            json!({"url": format!("https://x/{}", "a".repeat(2040))}),
            "spec.source.url: 2050 bytes are too long; at most 2048 are allowed",
        ),
        (
            json!({"url": "https://x/a.git?token=1"}),
            "spec.source.url: a query (?…) is not allowed for git; leave it out",
        ),
        (
            json!({"url": "https:///a.git"}),
            "spec.source.url: not a URL (no host follows the scheme); expected one like https://example.com/path",
        ),
        (
            json!({"url": git, "type": "svn"}),
            "spec.source.type: \"svn\" is unknown; allowed are git, archive, oci and configMap",
        ),
        (
            json!({"url": git, "type": "oci"}),
            "spec.source.url: a registry's address begins with oci://, like oci://ghcr.io/team/extension",
        ),
        (
            json!({"url": git, "refs": "--upload-pack=x"}),
            "spec.source.refs: \"--upload-pack=x\" is no branch, tag, full ref (refs/…), commit (40 hexadecimal digits) or semantic version range",
        ),
        (
            json!({"url": git, "refs": "a..b"}),
            "spec.source.refs: \"a..b\" is no branch, tag, full ref (refs/…), commit (40 hexadecimal digits) or semantic version range",
        ),
        (
            json!({"url": git, "insecure": true}),
            "spec.source.insecure: is for type: oci alone; git and archive use the scheme http:// instead: remove it",
        ),
        (
            json!({"url": "oci://ghcr.io/a/b", "type": "archive"}),
            "spec.source.url: an oci:// address is for type: oci alone: remove the type, or set that",
        ),
        (
            json!({"url": "oci://ghcr.io/a/b:v1"}),
            "spec.source.url: \"a/b:v1\" names a tag or digest: write the tag into refs, the digest into digest",
        ),
        (
            json!({"url": "oci://ghcr.io/a/b", "refs": "a/b"}),
            "spec.source.refs: \"a/b\" is no tag or semantic version range of a registry; a digest goes into digest",
        ),
        (
            json!({"url": "https://x/a.zip", "refs": "v1"}),
            "spec.source.refs: an archive has no refs: remove it, or set type: git",
        ),
        (
            json!({"url": "https://x/a.zip", "digest": "sha256:0"}),
            "spec.source.digest: \"sha256:0\" is not a digest: expected \"sha256:\" and 64 lower-case hexadecimal digits",
        ),
        (
            json!({"url": git, "digest": format!("sha256:{}", "0".repeat(64))}),
            "spec.source.digest: a digest pins an archive's bytes or a registry's manifest; a git repository is pinned by a commit in refs",
        ),
        (
            json!({"url": git, "path": "../x"}),
            "spec.source.path: \"../x\" holds \"..\"; allowed is a path relative to the extension's root, such as \"bin/run.py\", without \"..\"",
        ),
        (
            json!({"url": git, "verify": {"provider": "cosign", "secretRef": {"name": "k"}}}),
            "spec.source.verify: signatures of git repositories are not checked, those of archives (cosign, minisign) and OCI artifacts (cosign) are: remove it, or publish one of those",
        ),
        (
            json!({"url": "https://x/a.zip", "verify": {"provider": "pgp", "secretRef": {"name": "k"}}}),
            "spec.source.verify.provider: \"pgp\" is unknown; allowed are cosign and minisign",
        ),
        (
            json!({"url": "https://x/a.zip", "verify": {"provider": "cosign", "secretRef": {"name": ""}}}),
            "spec.source.verify.secretRef.name: is missing: name a Secret of the operator's namespace with public keys",
        ),
        (
            json!({"url": "https://x/a.zip", "verify": {"provider": "minisign", "secretRef": {"name": "k"}, "signatureURL": "ftp://x/a"}}),
            "spec.source.verify.signatureURL: the scheme \"ftp\" is not allowed; use https (or http)",
        ),
        (
            json!({"url": "oci://x/a", "verify": {"provider": "minisign", "secretRef": {"name": "k"}}}),
            "spec.source.verify.provider: minisign signs files; an OCI artifact is signed with cosign: set that",
        ),
        (
            json!({"url": "oci://x/a", "verify": {"provider": "cosign", "secretRef": {"name": "k"}, "signatureURL": "https://x/a"}}),
            "spec.source.verify.signatureURL: is for archives; an OCI artifact has its signatures in its repository: remove it",
        ),
    ];
    for (value, text) in texts {
        assert_eq!(source(value).unwrap_err().to_string(), text);
    }
    let config_map = json!({"name": "c"});
    let texts = [
        (
            json!({"type": "configMap"}),
            "spec.source.configMapRef: is missing: name a ConfigMap of the operator's namespace",
        ),
        (
            json!({"type": "git", "configMapRef": config_map}),
            "spec.source.configMapRef: is for type: configMap alone: remove it, or set that type",
        ),
        (json!({"url": git, "configMapRef": config_map}), "spec.source.url: a ConfigMap has no address: remove it"),
        (
            json!({"configMapRef": config_map, "verify": {"provider": "cosign", "secretRef": {"name": "k"}}}),
            "spec.source.verify: a ConfigMap has no signature; archives (cosign, minisign) and OCI artifacts (cosign) can have one: remove it",
        ),
        (
            json!({"path": "x", "configMapRef": config_map}),
            "spec.source.path: a ConfigMap has no directories: remove it",
        ),
    ];
    for (value, text) in texts {
        assert_eq!(source(value).unwrap_err().to_string(), text);
    }
    for value in [json!({"configMapRef": config_map}), json!({"type": "ConfigMap", "configMapRef": config_map})] {
        assert_eq!(source(value).unwrap().kind, SourceKind::ConfigMap);
    }
    let good = source(json!({"url": git, "refs": "refs/tags/v1", "path": "./", "secretRef": {"name": "s"}})).unwrap();
    assert_eq!((good.refs.as_deref(), good.path, good.secret.as_deref()), (Some("refs/tags/v1"), None, Some("s")));
    let range = source(json!({"url": git, "refs": "^1.2"})).unwrap();
    assert_eq!(range.refs.as_deref(), Some("^1.2"));
    let plain =
        source(json!({"url": "oci://ghcr.io/a", "type": "OCI", "refs": ">=1.0, <2", "insecure": true})).unwrap();
    assert!(plain.insecure && plain.kind == SourceKind::Oci);
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

#[test]
fn options_are_checked_against_the_format() {
    let options = |format: &str, options: &str| {
        let parameter = json!({"name": "p", "type": "STRING", "validationformat": format, "valueoptions": options});
        check(with("customActions", json!([{"name": "A", "parameters": [parameter]}])))
            .map(|_| ())
            .map_err(|problems| problems.to_string())
    };
    for (format, good, bad, expected) in [
        ("EMAIL", "a@b.example, c@d.example", "a@b.example,nobody", "an e-mail address such as name@example.com"),
        (
            "UUID",
            "123e4567-e89b-12d3-a456-426614174000",
            "1-1-1-1",
            "a UUID such as 123e4567-e89b-12d3-a456-426614174000",
        ),
        (
            "URL",
            "https://a.example/,ftp://b.example",
            "https://a.example,b.example",
            "a URL such as https://example.com/path (http, https, ftp, file, jar or mailto)",
        ),
    ] {
        assert_eq!(options(format, good), Ok(()), "{format}");
        let wrong = bad.split(',').next_back().unwrap();
        assert_eq!(
            options(format, bad),
            Err(format!(
                "spec.customActions[0].parameters[0].valueoptions: option {wrong:?} does not fit: expected is {expected}"
            ))
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_message_shows_what_may_be_a_user_name_or_password(
        scheme in "(https?|oci|ssh|HTTPS)://|https?:|", user in "[a-z]{0,2}Sue", password in "[0-9/#?:@ ]{0,4}Hunter2[0-9/#?:@\\\\ ]{0,4}|12[/#?]Hunter2",
        rest in "[a-z.:/?#@]{0,12}", type_ in proptest::option::of("git|archive|oci"),
    ) {
        let url = format!("{scheme}{user}:{password}@{rest}");
        if let Err(problems) = source(json!({"url": url, "type": type_, "refs": "v1", "insecure": true})) {
            let text = problems.to_string().to_lowercase();
            proptest::prop_assert!(!text.contains("hunter2") && !text.contains("sue"), "{}: {}", url, problems);
        }
        let text = extension("x", &serde_json::from_value(with("manifestURL", json!(url))).unwrap(), &ContractLevels::default());
        if let Err(problems) = text {
            let text = problems.to_string().to_lowercase();
            proptest::prop_assert!(!text.contains("hunter2") && !text.contains("sue"), "{}: {}", url, problems);
        }
    }
}
