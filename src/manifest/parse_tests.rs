//! Manifests as documented, as found in use, and as hostile or careless authors write them.

use super::*;

const DOCUMENTED: &str = r#"apiVersion: cloudstack.apache.org/v1
kind: OrchestratorExtension
metadata:
  name: orchestrator
  displayName: Orchestrator Extension
  description: >
    Example orchestrator extension for CloudStack.
  version: 0.1.0
  maintainer: "Your Name <your.email@example.com>"
  homepage: "https://github.com/user/cloudstack-orchestrator-extension"
source:
  type: git
  url: "https://github.com/user/cloudstack-orchestrator-extension"
  refs: "main"
spec:
  type: Orchestrator
  compatibility:
    cloudstack:
      minVersion: 4.23.0
  entrypoint:
    language: python
    path: orchestrator.py
    targetDir: /usr/share/cloudstack-management/extensions/orchestrator
  orchestrator:
    requiresPrepareVm: false
  details:
    key1: value1
    key2: value2
enabled: true
customActions:
  - name: BackupInstance
    displayName: "Backup Instance"
    description: "Trigger a backup using the external orchestrator."
    resourcetype: VirtualMachine
    enabled: true
    timeout: 600
    allowedroletypes: [Admin, DomainAdmin, User]
    successmessage: "Successfully completed {{actionName}} for {{resourceName}} with {{extensionName}}"
    errormessage: "Failed to complete {{actionName}} for {{resourceName}} with {{extensionName}}"
    details:
      vendor: "external-backup-system"
      retentionPolicy: "daily"
    parameters:
      - name: backup_type
        type: STRING
        required: true
        validationformat: NONE
        valueoptions: "full,incremental"
      - name: retain_days
        type: NUMBER
        validationformat: DECIMAL
      - name: notify
        type: BOOLEAN
"#;

/// A short manifest with `more` lines at its end.
fn short(more: &str) -> String {
    format!(
        "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {{name: x}}\nspec:\n  entrypoint: {{path: x.sh}}\n{more}"
    )
}

fn read(text: &str) -> Manifest {
    parse(text.as_bytes(), "manifest.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(bytes: impl AsRef<[u8]>) -> String {
    parse(bytes.as_ref(), "manifest.yaml").unwrap_err().to_string()
}

#[test]
fn the_documented_manifest_is_read_whole() {
    let manifest = read(DOCUMENTED);
    assert_eq!(manifest.name, "orchestrator");
    let spec = serde_json::to_value(&manifest.spec).unwrap();
    assert_eq!(
        spec,
        serde_json::json!({
            "displayName": "Orchestrator Extension",
            "description": "Example orchestrator extension for CloudStack.\n",
            "version": "0.1.0",
            "maintainer": "Your Name <your.email@example.com>",
            "homepage": "https://github.com/user/cloudstack-orchestrator-extension",
            "type": "Orchestrator",
            "source": {"type": "git", "url": "https://github.com/user/cloudstack-orchestrator-extension", "refs": "main"},
            "compatibility": {"cloudstack": {"minVersion": "4.23.0"}},
            "entrypoint": {
                "language": "python",
                "path": "orchestrator.py",
                "targetDir": "/usr/share/cloudstack-management/extensions/orchestrator",
            },
            "orchestrator": {"requiresPrepareVm": false},
            "details": {"key1": "value1", "key2": "value2"},
            "enabled": true,
            "customActions": [{
                "name": "BackupInstance",
                "displayName": "Backup Instance",
                "description": "Trigger a backup using the external orchestrator.",
                "resourcetype": "VirtualMachine",
                "enabled": true,
                "timeout": 600,
                "allowedroletypes": ["Admin", "DomainAdmin", "User"],
                "successmessage": "Successfully completed {{actionName}} for {{resourceName}} with {{extensionName}}",
                "errormessage": "Failed to complete {{actionName}} for {{resourceName}} with {{extensionName}}",
                "details": {"vendor": "external-backup-system", "retentionPolicy": "daily"},
                "parameters": [
                    {"name": "backup_type", "type": "STRING", "required": true, "validationformat": "NONE", "valueoptions": "full,incremental"},
                    {"name": "retain_days", "type": "NUMBER", "validationformat": "DECIMAL"},
                    {"name": "notify", "type": "BOOLEAN"},
                ],
            }],
        })
    );
    let served = crate::validate::ContractLevels::default();
    crate::validate::extension("orchestrator", &manifest.spec, &served).unwrap();
}

#[test]
fn both_placements_mean_the_same() {
    let source = "source: {type: git, url: 'https://example.com/x.git'}\n";
    let rest = "enabled: false\ncustomActions: [{name: A}]\n";
    let top = read(&short(&format!("{source}{rest}")));
    let under: String = format!("{source}{rest}").lines().map(|line| format!("  {line}\n")).collect();
    let under = read(&short(&under));
    assert_eq!(top.spec, under.spec);
    assert_eq!(top.spec.enabled, Some(false));
    let both = read(&short("  enabled: true\nenabled: true\n"));
    assert_eq!(both.spec.enabled, Some(true));
}

#[test]
fn both_placements_may_say_the_same() {
    let source = "source: {type: git, url: 'https://example.com/x.git'}";
    let actions = "customActions: [{name: A, parameters: [{name: p, type: STRING}]}]";
    for block in [source, actions] {
        let both = read(&short(&format!("  {block}\n{block}\n")));
        assert_eq!(both.spec, read(&short(&format!("{block}\n"))).spec, "{block}");
    }
}

#[test]
fn placements_that_disagree_are_refused_with_both_lines() {
    assert_eq!(
        problems(short("  enabled: true\nenabled: false\n")),
        "manifest.yaml:7:1: enabled: is set at top level in line 7 and under spec in line 6, with different values: keep one of them"
    );
    for (field, one, other) in [
        ("source", "{url: 'https://example.com/x.git'}", "{url: 'https://example.com/x.git', refs: main}"),
        ("customActions", "[{name: A}]", "[{name: A, enabled: true}]"),
    ] {
        assert_eq!(
            problems(short(&format!("  {field}: {one}\n{field}: {other}\n"))),
            format!(
                "manifest.yaml:7:1: {field}: is set at top level in line 7 and under spec in line 6, with different values: keep one of them"
            )
        );
    }
}

#[test]
fn what_is_written_differently_and_means_the_same_is_the_same() {
    let odd = "  type: ' Orchestrator '\n  compatibility: {cloudstack: {minVersion: ''}}\n  source: {type: '', url: ' https://example.com/x.git', refs: ''}\n  customActions: [{name: A, resourcetype: '', parameters: [{name: p, type: ' string ', validationformat: '', valueoptions: ' , '}]}]\n";
    let plain = "  type: Orchestrator\n  compatibility: {cloudstack: {}}\n  source: {url: 'https://example.com/x.git'}\n  customActions: [{name: A, parameters: [{name: p, type: string}]}]\n";
    assert_eq!(read(&short(odd)).spec, read(&short(plain)).spec);
    let spec = read(&short("").replace("{path: x.sh}", "{path: '', language: ' ', targetDir: ''}")).spec;
    assert_eq!(spec.entrypoint, Some(Entrypoint::default()));
    assert_eq!(read(&short("").replace("{name: x}", "{name: x, version: ''}")).spec.version, None);
}

#[test]
fn a_version_keeps_the_digits_it_was_written_with() {
    let spec = read(&short("  compatibility: {cloudstack: {minVersion: 4.20}}\n")).spec;
    assert_eq!(spec.compatibility.unwrap().cloudstack.unwrap().min_version.as_deref(), Some("4.20"));
    let spec = read(&short("  details: {a: 1e3, b: true, c: 0x1F, d: ''}\n")).spec;
    let details: Vec<_> = spec.details.unwrap().into_values().collect();
    assert_eq!(details, ["1e3", "true", "0x1F", ""]);
}

#[test]
fn booleans_and_numbers_may_be_quoted() {
    let spec = read(&short("enabled: \"True\"\ncustomActions: [{name: A, timeout: \"60\"}]\n")).spec;
    assert_eq!((spec.enabled, spec.custom_actions.unwrap()[0].timeout), (Some(true), Some(60)));
}

#[test]
fn null_means_unset_and_an_empty_list_is_kept() {
    let spec = read(&short("enabled:\ncustomActions: ~\n")).spec;
    assert_eq!((spec.enabled, spec.custom_actions), (None, None));
    assert_eq!(read(&short("customActions: []\n")).spec.custom_actions, Some(vec![]));
}

#[test]
fn json_is_read_like_yaml() {
    let json = r#"{"apiVersion": "cloudstack.apache.org/v1", "kind": "OrchestratorExtension",
        "metadata": {"name": "x"}, "spec": {"entrypoint": {"path": "x.sh"}}, "enabled": false}"#;
    assert_eq!(read(json).spec, read(&short("enabled: false\n")).spec);
}

#[test]
fn an_unknown_field_has_a_line_a_suggestion_and_the_allowed_ones() {
    assert_eq!(
        problems(short("customActions:\n  - name: A\n    successMessage: x\n")),
        "manifest.yaml:8:5: customActions[0].successMessage: is an unknown field (did you mean \"successmessage\"?); allowed are name, \
         displayName, description, resourcetype, enabled, timeout, allowedroletypes, successmessage, errormessage, details, parameters"
    );
    let text = problems(short("  runtime: {image: evil}\n  source: {url: 'https://x', secretRef: {name: stolen}}\n"));
    assert_eq!(
        text,
        "manifest.yaml:6:3: spec.runtime: can be set in the OrchestratorExtension resource only, not by a manifest\n\
         manifest.yaml:7:30: spec.source.secretRef: can be set in the OrchestratorExtension resource only, not by a manifest"
    );
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    let text = "apiVersion: outrigger.dev/v1alpha1\nkind: Extension\nmetadata: {version: [1]}\nspec:\n  entrypoint: x.sh\n  details: {a: {b: c}, d: }\nenabled: yes\ncustomActions:\n  - timeout: soon\n    parameters: [{name: p}]\n";
    assert_eq!(
        problems(text),
        "manifest.yaml:1:13: apiVersion: \"outrigger.dev/v1alpha1\" is a resource for kubectl apply, not a manifest; allowed in a manifest is cloudstack.apache.org/v1\n\
         manifest.yaml:2:7: kind: \"Extension\" is unknown; allowed is OrchestratorExtension\n\
         manifest.yaml:3:11: metadata.name: is missing; expected is the extension's name\n\
         manifest.yaml:3:21: metadata.version: found a list; expected is text\n\
         manifest.yaml:5:15: spec.entrypoint: found \"x.sh\"; expected is a map with language, path, targetDir\n\
         manifest.yaml:6:16: spec.details[\"a\"]: found a map; expected is text\n\
         manifest.yaml:6:25: spec.details[\"d\"]: found nothing; expected is text: write \"\" for an empty one\n\
         manifest.yaml:7:10: enabled: found \"yes\"; expected is true or false\n\
         manifest.yaml:9:5: customActions[0].name: is missing\n\
         manifest.yaml:9:14: customActions[0].timeout: found \"soon\"; expected is a whole number of seconds, such as 600\n\
         manifest.yaml:10:18: customActions[0].parameters[0].type: is missing"
    );
}

#[test]
fn rules_are_checked_beside_what_cannot_be_read() {
    let text = short(
        "colour: red\ncustomActions:\n  - 7\n  - enabled: true\n  - name: a/b\n    parameters: [{type: STRING}, {name: p, type: NUMBER, valueoptions: '1,x'}]\n",
    );
    let told = problems(&text);
    let lines: Vec<&str> = told.lines().map(|line| line.split_inclusive(": ").take(2).last().unwrap_or(line)).collect();
    let expected = [
        "colour: ",
        "customActions[0]: ",
        "customActions[1].name: ",
        "customActions[2].name: ",
        "customActions[2].parameters[0].name: ",
        "customActions[2].parameters[1].valueoptions: ",
    ];
    assert_eq!(lines, expected, "{told}");
}

#[test]
fn missing_parts_are_named() {
    assert_eq!(
        problems("foo: 1\n"),
        "manifest.yaml:1:1: foo: is an unknown field; allowed are apiVersion, kind, metadata, source, spec, enabled, customActions\n\
         manifest.yaml:1:1: apiVersion: is missing; expected is cloudstack.apache.org/v1\n\
         manifest.yaml:1:1: kind: is missing; expected is OrchestratorExtension\n\
         manifest.yaml:1:1: metadata: is missing; it needs at least a name\n\
         manifest.yaml:1:1: spec: is missing; it needs at least an entrypoint with a path"
    );
    for empty in ["", "---\n", "# nothing\n", "~", "\u{feff}"] {
        assert_eq!(problems(empty), "manifest.yaml:1:1: the manifest is empty", "{empty:?}");
    }
    assert!(problems("- a\n").starts_with("manifest.yaml:1:1: found a list; expected is a map with apiVersion"));
}

#[test]
fn broken_rules_are_found_again_in_the_file() {
    let manifest = read(&short("customActions:\n  - name: start\n"));
    let served = crate::validate::ContractLevels::default();
    let problems = crate::validate::extension("x", &manifest.spec, &served).unwrap_err();
    let text = manifest.locate(problems).to_string();
    assert!(text.starts_with("manifest.yaml:7:11: customActions[0].name: \"start\" is a lifecycle action"), "{text}");
}

#[test]
fn broken_rules_have_the_manifests_own_path_and_the_line_of_their_value() {
    let text = short(
        "source:\n  refs: main\ncustomActions:\n  - name: A\n    details: {a.b: LONG}\n    parameters:\n    - name: p\n      type: NUMBR\n    - {name: q, type: NUMBER, validationformat: UUID}\n",
    );
    let text = text.replace("{name: x}", "{name: x, version: new}").replace("LONG", &"x".repeat(5000));
    let manifest = read(&text);
    let served = crate::validate::ContractLevels::default();
    let spec = OrchestratorExtensionSpec {
        action_aliases: Some(BTreeMap::from([("A".to_owned(), "/".to_owned())])),
        interval: Some("1s".into()),
        ..manifest.spec.clone()
    };
    let problems = crate::validate::extension("x", &spec, &served).unwrap_err();
    let told = manifest.locate(problems).to_string();
    let lines: Vec<&str> = told.lines().collect();
    let starts = [
        "spec.interval: ",
        "spec.actionAliases[\"A\"]: ",
        "manifest.yaml:3:30: metadata.version: ",
        "manifest.yaml:7:3: source.url: is missing",
        "manifest.yaml:7:9: source.refs: an archive has no refs",
        "manifest.yaml:10:20: customActions[0].details[\"a.b\"]: has 5000 characters",
        "manifest.yaml:13:13: customActions[0].parameters[0].type: \"NUMBR\" is unknown",
        "manifest.yaml:14:49: customActions[0].parameters[1].validationformat: \"UUID\" does not fit type NUMBER",
    ];
    assert_eq!(lines.len(), starts.len(), "{told}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn faults_of_the_yaml_and_of_the_manifest_are_told_together() {
    let text = short(
        "  type: Orchestrator\n  type: Other\n  colour: red\ncustomActions:\n  - &a {name: A}\n  - <<: *a\n    timeout: soon\n    timeout: 1\n",
    );
    let told = problems(text);
    let lines: Vec<&str> = told.lines().collect();
    let starts = [
        "manifest.yaml:7:3: spec.type: the key \"type\" stands twice in this map: first in line 6",
        "manifest.yaml:8:3: spec.colour: is an unknown field",
        "manifest.yaml:10:15: customActions[1].name: \"A\" is already the name",
        "manifest.yaml:11:5: customActions[1]: merge keys",
        "manifest.yaml:12:14: customActions[1].timeout: found \"soon\"",
        "manifest.yaml:13:5: customActions[1].timeout: the key \"timeout\" stands twice",
    ];
    assert_eq!(lines.len(), starts.len(), "{told}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn json_as_programs_write_it_is_read_and_its_faults_have_their_place() {
    let json = r#"{
	"apiVersion": "cloudstack.apache.org/v1",
	"kind": "OrchestratorExtension",
	"metadata": {"name": "x", "description": "\ud83d\ude00", "displayName": 1},
	"spec": {
		"entrypoint": {"path": "x.sh"}
	},
	"enabled": "\ud83d\ude00", "colour": 1
}"#;
    assert_eq!(
        problems(json),
        "manifest.yaml:8:13: enabled: found \"😀\"; expected is true or false\n\
         manifest.yaml:8:29: colour: is an unknown field; allowed are apiVersion, kind, metadata, source, spec, enabled, customActions"
    );
    let good = json.replace(r#""enabled": "\ud83d\ude00", "colour": 1"#, r#""enabled": true"#);
    let spec = read(&good).spec;
    assert_eq!((spec.description.as_deref(), spec.display_name.as_deref()), (Some("😀"), Some("1")));
}

#[test]
fn what_the_documentation_requires_beyond_need_is_noted() {
    assert_eq!(read(DOCUMENTED).notes(), Vec::<String>::new());
    let notes = read(&short("")).notes();
    assert_eq!(notes.len(), 6);
    assert_eq!(notes[2], "metadata.version is not set; CloudStack's documentation requires it");
}
