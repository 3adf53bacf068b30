//! Who wins: the resource, then the linked manifest, then the one in the source.

use serde_json::{from_value, json};

use super::*;
use crate::manifest::Place;
use crate::validate::Location;

fn spec(value: Value) -> Spec {
    from_value(value).unwrap()
}

fn manifest(name: &str, value: Value) -> Manifest {
    Manifest { name: name.into(), spec: spec(value), ..Manifest::default() }
}

#[test]
fn a_resource_with_only_a_source_is_filled_from_the_tree() {
    let resource = spec(json!({"source": {"url": "https://a/x.git"}, "interval": "5m"}));
    let tree = manifest(
        "Orch",
        json!({"version": "1.0.0", "source": {"url": "https://evil/"}, "enabled": false,
        "entrypoint": {"path": "x.py"}}),
    );
    let merged = merge(&resource, None, Some(&tree));
    let expected = json!({"name": "Orch", "version": "1.0.0", "source": {"url": "https://a/x.git"}, "enabled": false,
        "entrypoint": {"path": "x.py"}});
    assert_eq!((merged.spec, merged.disagreements), (spec(expected), vec![]));
}

#[test]
fn the_resource_wins_over_the_link_and_the_link_over_the_tree() {
    let resource = spec(json!({"manifestURL": "https://a/m", "version": "1", "entrypoint": {"targetDir": "/opt/x"}}));
    let linked = manifest(
        "n",
        json!({"version": "2", "description": "two", "entrypoint": {"path": "two.py"},
        "source": {"url": "https://two/"}}),
    );
    let tree = manifest(
        "n",
        json!({"version": "3", "description": "three", "maintainer": "three",
        "entrypoint": {"path": "three.py", "language": "python"}, "source": {"url": "https://three/"}}),
    );
    let merged = merge(&resource, Some(&linked), Some(&tree));
    let expected = json!({"name": "n", "version": "1", "description": "two", "maintainer": "three",
        "entrypoint": {"targetDir": "/opt/x", "path": "two.py", "language": "python"}, "source": {"url": "https://two/"}});
    assert_eq!(merged.spec, spec(expected));
    assert_eq!(
        merged.disagreements,
        [
            "spec.version: the linked manifest says otherwise and is overruled",
            "spec.description: the manifest in the source says otherwise and is overruled",
            "spec.version: the manifest in the source says otherwise and is overruled",
            "spec.entrypoint.path: the manifest in the source says otherwise and is overruled",
        ]
    );
}

#[test]
fn a_problem_is_located_in_the_document_that_gave_the_field_or_nowhere() {
    let placed = |file: &str, value: Value, fields: &[&str]| {
        let mut manifest = manifest("n", value);
        for (index, field) in fields.iter().enumerate() {
            let location = Location { file: file.into(), line: index + 1, column: 1 };
            let path = (*field).to_owned();
            manifest.places.insert(path.clone(), Place { path, location });
        }
        manifest
    };
    let resource = spec(json!({"manifestURL": "https://a/m", "entrypoint": {"targetDir": "/opt/x"}}));
    let fields = ["spec.version", "spec.entrypoint.path", "spec.entrypoint.targetDir", "spec.customActions[0].name"];
    let linked = placed("linked", json!({"version": "2"}), &fields);
    let tree = placed(
        "tree",
        json!({"version": "3", "customActions": [{"name": "a"}], "entrypoint": {"path": "a", "targetDir": "/b"}}),
        &fields,
    );
    let merged = merge(&resource, Some(&linked), Some(&tree));
    let problems = fields.iter().chain(&["spec.entrypoint", "spec.interval"]).map(|field| Problem::new(*field, "no"));
    let mut located: Vec<_> = merged
        .locate(Problems::new(problems.collect()), Some(&linked), Some(&tree))
        .iter()
        .map(ToString::to_string)
        .collect();
    located.sort();
    assert_eq!(
        located,
        [
            "linked:1:1: spec.version: no",
            "spec.entrypoint.targetDir: no",
            "spec.entrypoint: no",
            "spec.interval: no",
            "tree:2:1: spec.entrypoint.path: no",
            "tree:4:1: spec.customActions[0].name: no",
        ]
    );
}

#[test]
fn a_manifest_brings_no_secret_and_no_runtime() {
    let linked = manifest(
        "n",
        json!({"source": {"url": "https://a/", "secretRef": {"name": "s"},
        "verify": {"provider": "p", "secretRef": {"name": "s"}}}, "runtime": {"image": "evil"}, "interval": "1h",
        "detailsFrom": [{"secretRef": {"name": "s"}}], "strictResult": true, "actionAliases": {"create": "x"}}),
    );
    let merged = merge(&Spec::default(), Some(&linked), None);
    assert_eq!(merged.spec, spec(json!({"name": "n", "source": {"url": "https://a/"}})));
}

#[test]
fn the_resources_source_is_one_block() {
    let resource = spec(json!({"source": {"url": "https://a/x.git", "secretRef": {"name": "s"}}}));
    let linked = manifest("n", json!({"source": {"url": "https://b/", "refs": "main"}}));
    assert_eq!(merge(&resource, Some(&linked), None).spec.source, resource.source);
}

#[test]
fn runs_go_by_what_is_installed_and_the_live_resources_own_fields() {
    let resolved = spec(json!({"version": "1", "entrypoint": {"path": "old"}, "enabled": true, "strictResult": true}));
    let live = spec(
        json!({"version": "2", "entrypoint": {"path": "new"}, "enabled": true, "actionAliases": {"create": "deploy"}}),
    );
    let expected =
        json!({"version": "1", "entrypoint": {"path": "old"}, "enabled": true, "actionAliases": {"create": "deploy"}});
    assert_eq!(effective(&resolved, &live), spec(expected));
}

#[test]
fn a_mistake_in_how_files_are_got_stops_no_action() {
    let live = spec(
        json!({"interval": "never", "revision": "x", "manifestURL": "x", "suspend": true, "runtime": {"image": "i"}}),
    );
    assert_eq!(effective(&Spec::default(), &live), spec(json!({"runtime": {"image": "i"}})));
}

#[test]
fn disabling_counts_at_once_and_enabling_once_installed() {
    let (on, off, unset) = (spec(json!({"enabled": true})), spec(json!({"enabled": false})), Spec::default());
    assert_eq!(effective(&on, &off).enabled, Some(false));
    assert_eq!(effective(&unset, &off).enabled, Some(false));
    assert_eq!(effective(&off, &on).enabled, Some(false));
    assert_eq!(effective(&on, &unset).enabled, Some(true));
}

#[test]
fn a_digest_follows_the_content_and_not_the_order() {
    let canonical = r#"{"details":{"a":"1"},"version":"1"}"#;
    assert_eq!(digest(&spec(json!({"version": "1", "details": {"a": "1"}}))), Digest::of(canonical));
    assert_ne!(digest(&spec(json!({"version": "2", "details": {"a": "1"}}))), Digest::of(canonical));
}
