//! The manifest's shape, as CloudStack documents it. Pure: no client, clock, disk or network.
//!
//! Both placements of `enabled`, `customActions` and `source` are accepted: at top level, as documented, and under
//! `spec`, as manifests in use have them.

use std::collections::BTreeMap;

use crate::api::extension::{
    CloudStackCompatibility, Compatibility, CustomAction, Entrypoint, OrchestratorOptions, Parameter, Source,
};
use crate::api::{OrchestratorExtensionSpec, Reason};
use crate::validate::{self, Location, Problem, Problems, quoted};

use super::read::{Map, Reader, join};
use super::tree::{self, Node};

const TOP: &[&str] = &["apiVersion", "kind", "metadata", "source", "spec", "enabled", "customActions"];
const METADATA: &[&str] = &["name", "displayName", "description", "version", "maintainer", "homepage"];
const SPEC: &[&str] =
    &["type", "compatibility", "entrypoint", "orchestrator", "details", "source", "enabled", "customActions"];
const SOURCE: &[&str] = &["type", "url", "refs"];
const ACTION: &[&str] = &[
    "name",
    "displayName",
    "description",
    "resourcetype",
    "enabled",
    "timeout",
    "allowedroletypes",
    "successmessage",
    "errormessage",
    "details",
    "parameters",
];
const PARAMETER: &[&str] = &["name", "type", "validationformat", "required", "valueoptions"];

/// Where a field of the resource stands in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The field's path in the manifest (`metadata.version` for the resource's `spec.version`).
    pub path: String,
    /// Where its value is.
    pub location: Location,
}

/// A manifest that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// `metadata.name`, as written.
    pub name: String,
    /// The upstream fields. `spec.name` is unset: it is [`name`](Self::name).
    pub spec: OrchestratorExtensionSpec,
    /// Where the fields stand, by their path in the resource.
    pub places: BTreeMap<String, Place>,
}

impl Manifest {
    /// What the documentation requires and a run can do without, one sentence per field.
    pub fn notes(&self) -> Vec<String> {
        let compatibility =
            self.spec.compatibility.as_ref().and_then(|compatibility| compatibility.cloudstack.as_ref());
        let fields = [
            (self.spec.display_name.is_some(), "metadata.displayName"),
            (self.spec.description.is_some(), "metadata.description"),
            (self.spec.version.is_some(), "metadata.version"),
            (self.spec.maintainer.is_some(), "metadata.maintainer"),
            (self.spec.type_.is_some(), "spec.type"),
            (
                compatibility.is_some_and(|range| range.min_version.is_some()),
                "spec.compatibility.cloudstack.minVersion",
            ),
        ];
        let missing = fields.into_iter().filter(|(is_set, _)| !is_set);
        missing.map(|(_, field)| format!("{field} is not set; CloudStack's documentation requires it")).collect()
    }

    /// Adds to problems of this manifest's values where they stand: at the field, or at the nearest one around it, with the
    /// path that the field has in the manifest. Fields that only a resource has stay as they are.
    pub fn locate(&self, problems: Problems) -> Problems {
        Problems::new(problems.into_iter().map(|problem| self.located(problem)).collect())
    }

    fn located(&self, problem: Problem) -> Problem {
        let path = problem.path.clone();
        let field = path.strip_prefix("spec.").and_then(|rest| rest.split(['.', '[']).next()).unwrap_or_default();
        if !SPEC.contains(&field) && !METADATA.contains(&field) {
            return problem;
        }
        let mut end = path.len();
        loop {
            if let Some(place) = self.places.get(&path[..end]) {
                let path = format!("{}{}", place.path, &path[end..]);
                return Problem { path, ..problem }.at(place.location.clone());
            }
            match path[..end].rfind(['.', '[']) {
                Some(before) => end = before,
                None => return problem,
            }
        }
    }
}

/// Reads a manifest, YAML or JSON, from the bytes of `file` (a name for messages). Errors: everything that is wrong, each
/// with its line; nothing is told beyond the place where a file stops to be YAML.
pub fn parse(bytes: &[u8], file: &str) -> Result<Manifest, Problems> {
    let top = Location { file: file.to_owned(), line: 1, column: 1 };
    let tree::Read { node, problems } = tree::read(bytes, file);
    let Some(node) = node.filter(|node| !node.is_null()) else {
        let empty = || vec![Problem::new("", "the manifest is empty").at(top)];
        return Err(Problems::new(if problems.is_empty() { empty() } else { problems }));
    };
    let mut reader = Reader { file, problems, places: BTreeMap::new() };
    let mut manifest = Manifest::default();
    if let Some(map) = reader.map(&node, "", "", TOP, |_| None) {
        header(&mut reader, &map);
        metadata(&mut reader, &map, &mut manifest);
        body(&mut reader, &map, &mut manifest.spec);
    }
    manifest.places = reader.places;
    let mut problems = reader.problems;
    if !problems.is_empty() {
        problems.extend(broken_rules(&manifest, &problems));
    }
    Problems::new(problems).or(manifest)
}

/// The rules that the readable part of a manifest breaks, so that one look shows all there is to mend. What is missing
/// may be said elsewhere, and what could not be read has its problem already: only values that stand there count.
fn broken_rules(manifest: &Manifest, known: &[Problem]) -> Vec<Problem> {
    let resource = super::convert::to_resource(manifest);
    let name = resource.metadata.name.unwrap_or_default();
    let found = validate::extension(&name, &resource.spec, &validate::ContractLevels::default());
    let stands = |problem: &Problem| {
        let location = &manifest.places.get(&problem.path)?.location;
        let is_new = problem.reason == Reason::ValidationFailed
            && !known.iter().any(|known| known.location.as_ref() == Some(location));
        is_new.then(|| manifest.located(problem.clone()))
    };
    found.err().iter().flat_map(Problems::iter).filter_map(stands).collect()
}

fn header(reader: &mut Reader<'_>, top: &Map<'_>) {
    match reader.text(top, "apiVersion") {
        Some(version) if version.starts_with("outrigger.dev/") => {
            let message = format!(
                "{} is a resource for kubectl apply, not a manifest; allowed in a manifest is cloudstack.apache.org/v1",
                quoted(&version)
            );
            let at = top.entry("apiVersion").map_or(top.at, |entry| entry.value.at);
            reader.problem(at, "apiVersion", message);
        }
        Some(version) if !version.trim().is_empty() => {}
        _ => reader.problem(top.at, "apiVersion", "is missing; expected is cloudstack.apache.org/v1"),
    }
    match reader.text(top, "kind") {
        Some(kind) if kind == "OrchestratorExtension" => {}
        Some(kind) => {
            let at = top.entry("kind").map_or(top.at, |entry| entry.value.at);
            reader.problem(at, "kind", format!("{} is unknown; allowed is OrchestratorExtension", quoted(&kind)));
        }
        None => reader.problem(top.at, "kind", "is missing; expected is OrchestratorExtension"),
    }
}

fn metadata(reader: &mut Reader<'_>, top: &Map<'_>, manifest: &mut Manifest) {
    let Some(entry) = top.entry("metadata") else {
        return reader.problem(top.at, "metadata", "is missing; it needs at least a name");
    };
    let elsewhere = |field: &str| match field {
        "labels" | "annotations" | "namespace" => Some("belongs to the resource: a manifest has none"),
        _ => None,
    };
    let Some(map) = reader.map(&entry.value, "metadata", "metadata", METADATA, elsewhere) else { return };
    match reader.text_as(&map, "name", "spec.name") {
        Some(name) if !name.trim().is_empty() => manifest.name = name,
        _ if map.entry("name").is_some_and(|entry| entry.value.found().starts_with("a ")) => {}
        _ => reader.problem(map.at, "metadata.name", "is missing; expected is the extension's name"),
    }
    let mut text = |field: &str| reader.text_as(&map, field, &join("spec", field));
    manifest.spec.display_name = text("displayName");
    manifest.spec.description = text("description");
    manifest.spec.version = text("version").filter(|text| !text.is_empty());
    manifest.spec.maintainer = text("maintainer");
    manifest.spec.homepage = text("homepage");
}

/// Fields of the resource that no manifest may set.
fn outriggers_own(field: &str) -> Option<&'static str> {
    const OWN: &[&str] = &[
        "manifestURL",
        "detailsFrom",
        "interval",
        "suspend",
        "revisionHistoryLimit",
        "revision",
        "strictResult",
        "allowUnknownParameters",
        "actionAliases",
        "runtime",
        "secretRef",
        "configMapRef",
        "verify",
        "insecure",
        "digest",
        "path",
    ];
    OWN.contains(&field).then_some("can be set in the OrchestratorExtension resource only, not by a manifest")
}

fn body(reader: &mut Reader<'_>, top: &Map<'_>, spec: &mut OrchestratorExtensionSpec) {
    let under = top.entry("spec").and_then(|entry| reader.map(&entry.value, "spec", "spec", SPEC, outriggers_own));
    // Top-level fields have their place under spec in the resource.
    let top = Map { place: "spec".into(), ..top.clone() };
    if let Some(map) = &under {
        spec.type_ = reader.word(map, "type");
        if let Some(compatibility) = reader.child(map, "compatibility", &["cloudstack"]) {
            let cloudstack = reader
                .child(&compatibility, "cloudstack", &["minVersion"])
                .map(|map| CloudStackCompatibility { min_version: reader.word(&map, "minVersion") });
            spec.compatibility = Some(Compatibility { cloudstack });
        }
        spec.entrypoint = reader.child(map, "entrypoint", &["language", "path", "targetDir"]).map(|map| Entrypoint {
            language: reader.word(&map, "language"),
            path: reader.word(&map, "path"),
            target_dir: reader.word(&map, "targetDir"),
        });
        spec.orchestrator = reader
            .child(map, "orchestrator", &["requiresPrepareVm"])
            .map(|map| OrchestratorOptions { requires_prepare_vm: reader.boolean(&map, "requiresPrepareVm") });
        spec.details = reader.texts(map, "details");
    } else if top.entry("spec").is_none() {
        reader.problem(top.at, "spec", "is missing; it needs at least an entrypoint with a path");
    }
    spec.source = either(reader, &top, under.as_ref(), "source", source);
    spec.enabled = either(reader, &top, under.as_ref(), "enabled", |reader, map| reader.boolean(map, "enabled"));
    spec.custom_actions = either(reader, &top, under.as_ref(), "customActions", actions);
}

/// The field from top level or from `spec`; from both, the values must be the same.
fn either<T: PartialEq>(
    reader: &mut Reader<'_>,
    top: &Map<'_>,
    under: Option<&Map<'_>>,
    field: &str,
    read: impl Fn(&mut Reader<'_>, &Map<'_>) -> Option<T>,
) -> Option<T> {
    let outer = read(reader, top);
    let inner = under.and_then(|map| read(reader, map));
    if let (Some(a), Some(b)) = (&outer, &inner)
        && a != b
        && let (Some(first), Some(second)) = (top.entry(field), under.and_then(|map| map.entry(field)))
    {
        let message = format!(
            "is set at top level in line {} and under spec in line {}, with different values: keep one of them",
            first.at.0, second.at.0
        );
        reader.problem(first.at.max(second.at), field, message);
    }
    outer.or(inner)
}

fn source(reader: &mut Reader<'_>, map: &Map<'_>) -> Option<Source> {
    let entry = map.entry("source")?;
    let (path, place) = (join(&map.path, "source"), join(&map.place, "source"));
    let map = reader.map(&entry.value, &path, &place, SOURCE, outriggers_own)?;
    Some(Source {
        type_: reader.word(&map, "type"),
        url: reader.word(&map, "url"),
        refs: reader.word(&map, "refs"),
        ..Source::default()
    })
}

fn actions(reader: &mut Reader<'_>, map: &Map<'_>) -> Option<Vec<CustomAction>> {
    let items = reader.list(map, "customActions", "actions")?;
    Some(items.into_iter().map(|(node, path, place)| action(reader, node, &path, &place)).collect())
}

/// What cannot be read is left empty, never out: the others keep their number.
fn action(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> CustomAction {
    let Some(map) = reader.map(node, path, place, ACTION, |_| None) else { return CustomAction::default() };
    let name = required(reader, &map, "name").unwrap_or_default();
    let parameters = reader
        .list(&map, "parameters", "parameters")
        .map(|items| items.into_iter().map(|(node, path, place)| parameter(reader, node, &path, &place)).collect());
    CustomAction {
        name,
        display_name: reader.text(&map, "displayName"),
        description: reader.text(&map, "description"),
        resourcetype: reader.word(&map, "resourcetype"),
        enabled: reader.boolean(&map, "enabled"),
        timeout: reader.seconds(&map, "timeout"),
        allowedroletypes: reader.words(&map, "allowedroletypes"),
        successmessage: reader.text(&map, "successmessage"),
        errormessage: reader.text(&map, "errormessage"),
        details: reader.texts(&map, "details"),
        parameters,
    }
}

fn parameter(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Parameter {
    let Some(map) = reader.map(node, path, place, PARAMETER, |_| None) else { return Parameter::default() };
    Parameter {
        name: required(reader, &map, "name").unwrap_or_default(),
        type_: required(reader, &map, "type").map(|word| word.trim().to_owned()).unwrap_or_default(),
        validationformat: reader.word(&map, "validationformat"),
        required: reader.boolean(&map, "required"),
        valueoptions: reader
            .text(&map, "valueoptions")
            .filter(|text| text.split(',').any(|option| !option.trim().is_empty())),
    }
}

fn required(reader: &mut Reader<'_>, map: &Map<'_>, field: &str) -> Option<String> {
    if map.entry(field).is_none() {
        reader.problem(map.at, &join(&map.path, field), "is missing");
    }
    reader.text(map, field)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
