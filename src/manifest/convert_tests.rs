//! A manifest becomes a resource and comes back without a loss.

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::api::extension::{
    CloudStackCompatibility, Compatibility, CustomAction, Entrypoint, OrchestratorOptions, Parameter, Source,
};

#[test]
fn a_name_that_is_no_object_name_is_kept_beside_it() {
    for (name, object) in [
        ("orchestrator", "orchestrator"),
        ("My Extension_2", "my-extension-2"),
        ("--x--", "x"),
        ("ümläut", "ml-ut"),
        ("日本", "extension"),
        ("", "extension"),
        ("a.b", "a-b"),
    ] {
        assert_eq!(object_name(name), object);
    }
    assert_eq!(object_name(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
    let resource = to_resource(&Manifest { name: "Orchestrator".into(), ..Manifest::default() });
    assert_eq!(resource.metadata.name.as_deref(), Some("orchestrator"));
    assert_eq!(resource.spec.name.as_deref(), Some("Orchestrator"));
    let resource = to_resource(&Manifest { name: "plain".into(), ..Manifest::default() });
    assert_eq!(resource.spec.name, None);
}

#[test]
fn what_kubectl_would_read_as_something_else_is_quoted() {
    let details = ["on", "No", "y", "1_000", "0b11", "-0b1", "quoted-0-", "a_b", "only", "1.2.3"];
    let details =
        details.iter().map(|text| (format!("k{text}"), (*text).to_owned())).chain([("on".into(), "x".into())]);
    let spec = OrchestratorExtensionSpec { details: Some(details.collect()), ..OrchestratorExtensionSpec::default() };
    let yaml = to_yaml(&to_resource(&Manifest { name: "x".into(), spec, ..Manifest::default() })).unwrap();
    for line in ["kon: 'on'", "kNo: 'No'", "ky: 'y'", "k1_000: '1_000'", "k0b11: '0b11'", "k-0b1: '-0b1'", "'on': x"] {
        assert!(yaml.contains(&format!("    {line}\n")), "{line}: {yaml}");
    }
    for line in ["kquoted-0-: quoted-0-", "ka_b: a_b", "konly: only", "k1.2.3: 1.2.3"] {
        assert!(yaml.contains(&format!("    {line}\n")), "{line}: {yaml}");
    }
}

#[test]
fn a_converted_manifest_is_yaml_for_kubectl_with_every_number_as_the_text_that_was_written() {
    let text = "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {name: Orch, version: 4.20}\nspec:\n  entrypoint: {path: x.sh}\n  compatibility: {cloudstack: {minVersion: 4.20}}\n  details: {port: 5900, on: true}\nsource: {type: git, url: 'https://example.com/x.git'}\n";
    let manifest = super::super::parse(text.as_bytes(), "manifest.yaml").unwrap();
    assert_eq!(
        to_yaml(&to_resource(&manifest)).unwrap(),
        "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata:\n  name: orch\nspec:\n  name: Orch\n  version: '4.20'\n  source:\n    type: git\n    url: https://example.com/x.git\n  compatibility:\n    cloudstack:\n      minVersion: '4.20'\n  entrypoint:\n    path: x.sh\n  details:\n    'on': 'true'\n    port: '5900'\n"
    );
}

prop_compose! {
    fn parameters()(name in "[a-z_]{1,8}", type_ in "[A-Z]{1,6}", format in of("[A-Z]{1,6}"), required in of(any::<bool>()),
                    options in of("[a-z]{1,4}(,[a-z]{0,4})?")) -> Parameter {
        Parameter { name, type_, validationformat: format, required, valueoptions: options }
    }
}

prop_compose! {
    fn actions()(name in "[a-zA-Z _-]{1,12}", texts in vec(of(TEXT), 4), resourcetype in of("[A-Za-z]{1,8}"),
                 enabled in of(any::<bool>()), timeout in of(any::<u32>()), roles in of(vec("[A-Za-z]{1,8}", 0..3)),
                 details in of(btree_map("[a-z.]{1,5}", TEXT, 0..3)), parameters in of(vec(parameters(), 0..3))) -> CustomAction {
        let [display_name, description, successmessage, errormessage] = texts.try_into().unwrap();
        CustomAction {
            name, display_name, description, resourcetype, enabled, timeout, allowedroletypes: roles, successmessage,
            errormessage, details, parameters,
        }
    }
}

prop_compose! {
    fn blocks()(source in of((of("[a-zA-Z]{1,8}"), of("[a-z:/.]{1,20}"), of("[a-z0-9 .<>=]{0,4}[a-z0-9]"))),
                min_version in of(of(of("[0-9.]{1,8}"))), entrypoint in of((of("[a-z0-9]{1,8}"), of("[a-z/.]{1,12}"), of("/[a-z/]{1,12}"))),
                prepare in of(of(any::<bool>()))) -> OrchestratorExtensionSpec {
        OrchestratorExtensionSpec {
            source: source.map(|(type_, url, refs)| Source { type_, url, refs: refs.map(|refs| refs.trim().to_owned()), ..Source::default() }),
            compatibility: min_version.map(|cloudstack| Compatibility {
                cloudstack: cloudstack.map(|min_version| CloudStackCompatibility { min_version }),
            }),
            entrypoint: entrypoint.map(|(language, path, target_dir)| Entrypoint { language, path, target_dir }),
            orchestrator: prepare.map(|requires_prepare_vm| OrchestratorOptions { requires_prepare_vm }),
            ..OrchestratorExtensionSpec::default()
        }
    }
}

prop_compose! {
    fn manifests()(name in "[a-zA-Z][a-zA-Z0-9 ._-]{0,19}", texts in vec(of(TEXT), 4), version in of("[0-9.]{1,8}"),
                   type_ in of("[A-Za-z]{1,8}"), enabled in of(any::<bool>()), blocks in blocks(),
                   details in of(btree_map("[a-zA-Z.:]{1,8}", TEXT, 0..4)), actions in of(vec(actions(), 0..3))) -> Manifest {
        let [display_name, description, maintainer, homepage] = texts.try_into().unwrap();
        let spec = OrchestratorExtensionSpec {
            display_name, description, version, maintainer, homepage, type_, details, enabled, custom_actions: actions, ..blocks
        };
        Manifest { name, spec, ..Manifest::default() }
    }
}

proptest! {
    #[test]
    fn a_manifest_survives_the_way_through_its_text_and_a_resource(manifest in manifests()) {
        let document = to_document(&manifest);
        for text in [serde_yaml::to_string(&document).unwrap(), document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
            let read = super::super::parse(text.as_bytes(), "m").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
            prop_assert_eq!((&read.name, &read.spec), (&manifest.name, &manifest.spec), "{}", text);
            let yaml = to_yaml(&to_resource(&read)).unwrap();
            let resource: OrchestratorExtension = serde_yaml::from_str(&yaml).unwrap();
            prop_assert_eq!(from_resource(&resource), manifest.clone());
            prop_assert_eq!(left_out(&resource), Vec::<String>::new());
        }
    }

    #[test]
    fn what_lint_passes_the_definition_takes(
        manifest in manifests(), type_ in of(odd(&["Orchestrator"])), source in of(odd(&["git", "archive", "OCI", "Git"])),
        resource in of(odd(&["VirtualMachine", "virtualmachine"])), parameter in odd(&["string", "NUMBER", "Boolean", "date"]),
        format in of(odd(&["none", "EMAIL", "Decimal", "uuid"])), options in of(" ?,? ?"), path in of("|/opt/x|/a/[.][.]/b|x"),
        url in "(https|HTTPS|http|oci|ftp)://[a-z@]{0,3}/x", version in of("|v1|1[.]2|1-rc[.]1|x"), level in of("|4[.]23|4-SNAPSHOT|x"),
    ) {
        let parameter = Parameter { name: "p".into(), type_: parameter, validationformat: format, valueoptions: options, ..Parameter::default() };
        let action = CustomAction { name: "A".into(), resourcetype: resource, parameters: Some(vec![parameter]), ..CustomAction::default() };
        let entrypoint = Entrypoint { path: Some("x".into()), target_dir: path, language: None };
        let spec = OrchestratorExtensionSpec {
            type_, version, custom_actions: Some(vec![action]), entrypoint: Some(entrypoint),
            source: Some(Source { type_: source, url: Some(url), ..Source::default() }),
            compatibility: Some(Compatibility { cloudstack: Some(CloudStackCompatibility { min_version: level }) }),
            ..manifest.spec
        };
        let text = to_document(&Manifest { spec, ..manifest }).to_string();
        let resource = to_resource(&super::super::parse(text.as_bytes(), "m").unwrap());
        let name = resource.metadata.name.clone().unwrap();
        if crate::validate::extension(&name, &resource.spec, &crate::validate::ContractLevels::default()).is_ok() {
            let definition = &crate::api::crds::all()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            let mut broken = Vec::new();
            rules(&serde_json::to_value(&resource.spec).unwrap(), definition, &mut broken);
            prop_assert_eq!(broken, Vec::<String>::new(), "{}", text);
        }
    }
}

/// Texts of any characters that YAML can carry.
const TEXT: &str = "\\PC{0,12}|[ -~\n]{0,12}|[a-z: #'\"~0-9-]{0,6}|[😀\u{e000}\u{f000}\\\\u]{0,4}";

/// One of `words` with white space around it, or only that.
fn odd(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    (proptest::sample::select(words), " ?", " ?", 0..8_u8)
        .prop_map(|(word, before, after, blank)| format!("{before}{}{after}", if blank == 0 { "" } else { word }))
}

/// The rules of words in the definition that `value` breaks: those of one value, by the forms in which they are written.
fn rules(value: &Value, schema: &Value, broken: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let (rule, Some(text)) = (rule["rule"].as_str().unwrap(), value.as_str()) else { continue };
        let words: Vec<&str> = rule.split('\'').skip(1).step_by(2).collect();
        let holds = if rule.starts_with("self.upperAscii() in") {
            words.contains(&text.to_ascii_uppercase().as_str())
        } else if rule.starts_with("self.lowerAscii() in") || rule.starts_with("self == ''") {
            words.contains(&text.to_ascii_lowercase().as_str())
        } else if rule.starts_with("self == '") {
            words.contains(&text)
        } else if rule.starts_with("!(self in") {
            !words.contains(&text)
        } else if rule.contains("startsWith('/')") {
            text.starts_with('/') != rule.starts_with('!') && !text.split('/').any(|part| part == "..")
        } else {
            continue;
        };
        if !holds {
            broken.push(format!("{text:?} breaks {rule}"));
        }
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| rules(value, &schema["properties"][name], broken)),
        Value::Array(items) => items.iter().for_each(|item| rules(item, &schema["items"], broken)),
        Value::String(text) if schema["minLength"].as_u64() > Some(text.chars().count() as u64) => {
            broken.push(format!("{text:?} is too short"));
        }
        _ => {}
    }
}
