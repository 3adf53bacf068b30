//! A manifest becomes a resource and comes back without a loss.

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::api::extension::{CustomAction, Entrypoint, Parameter, Source};

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
fn a_converted_manifest_is_yaml_for_kubectl() {
    let text = "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {name: Orch, version: 4.20}\nspec:\n  entrypoint: {path: x.sh}\nsource: {type: git, url: 'https://example.com/x.git'}\n";
    let manifest = super::super::parse(text.as_bytes(), "manifest.yaml").unwrap();
    assert_eq!(
        to_yaml(&to_resource(&manifest)).unwrap(),
        "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata:\n  name: orch\nspec:\n  name: Orch\n  version: '4.20'\n  source:\n    type: git\n    url: https://example.com/x.git\n  entrypoint:\n    path: x.sh\n"
    );
}

prop_compose! {
    fn parameters()(name in "[a-z_]{1,8}", type_ in "[A-Z]{1,6}", format in of("[A-Z]{1,6}"), required in of(any::<bool>()),
                    options in of("[a-z,]{0,8}")) -> Parameter {
        Parameter { name, type_, validationformat: format, required, valueoptions: options }
    }
}

prop_compose! {
    fn actions()(name in "[a-zA-Z _-]{1,12}", text in of(".{0,12}"), enabled in of(any::<bool>()), timeout in of(any::<u32>()),
                 roles in of(vec("[A-Za-z]{1,8}", 0..3)), details in of(btree_map("[a-z.]{1,5}", ".{0,8}", 0..3)),
                 parameters in of(vec(parameters(), 0..3))) -> CustomAction {
        CustomAction {
            name, display_name: text.clone(), successmessage: text, enabled, timeout, allowedroletypes: roles, details, parameters,
            ..CustomAction::default()
        }
    }
}

prop_compose! {
    fn manifests()(name in "[a-zA-Z0-9 ._-]{1,20}", text in of(".{0,20}"), version in of("[0-9.]{1,8}"), url in of("[a-z:/.]{1,20}"),
                   path in of("[a-z/.]{1,12}"), enabled in of(any::<bool>()),
                   details in of(btree_map("[a-zA-Z.:]{1,8}", ".{0,12}", 0..4)),
                   actions in of(vec(actions(), 0..3))) -> Manifest {
        Manifest {
            name,
            spec: OrchestratorExtensionSpec {
                description: text.clone(), maintainer: text, version, enabled, details, custom_actions: actions,
                source: url.map(|url| Source { url: Some(url), ..Source::default() }),
                entrypoint: path.map(|path| Entrypoint { path: Some(path), ..Entrypoint::default() }),
                ..OrchestratorExtensionSpec::default()
            },
            ..Manifest::default()
        }
    }
}

proptest! {
    #[test]
    fn a_manifest_survives_the_way_through_a_resource_and_its_yaml(manifest in manifests()) {
        let yaml = to_yaml(&to_resource(&manifest)).unwrap();
        let resource: OrchestratorExtension = serde_yaml::from_str(&yaml).unwrap();
        prop_assert_eq!(from_resource(&resource), manifest);
    }
}
