//! Typed fields from located nodes: every problem is kept, and reading goes on. Pure: no client, clock, disk or network.

use std::collections::BTreeMap;

use crate::validate::{Location, Problem, did_you_mean, quoted};

use super::Place;
use super::tree::{Entry, Kind, Node};

/// Collects problems and the places of fields while a manifest is read.
pub(super) struct Reader<'a> {
    pub file: &'a str,
    pub problems: Vec<Problem>,
    /// Path of the field in the resource → where it stands in the manifest.
    pub places: BTreeMap<String, Place>,
}

/// A map that is being read: its entries, its path in the manifest and its path in the resource.
#[derive(Clone)]
pub(super) struct Map<'n> {
    pub entries: &'n [Entry],
    pub at: (usize, usize),
    pub path: String,
    pub place: String,
}

/// `a.b`, or `b` at the top.
pub(super) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

impl<'n> Map<'n> {
    /// The entry of `field`, unless it is null.
    pub fn entry(&self, field: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == field && !entry.value.is_null())
    }
}

impl Reader<'_> {
    pub fn location(&self, (line, column): (usize, usize)) -> Location {
        Location { file: self.file.to_owned(), line, column }
    }

    pub fn problem(&mut self, at: (usize, usize), path: &str, message: impl Into<String>) {
        let location = self.location(at);
        self.problems.push(Problem::new(path, message).at(location));
    }

    /// Notes that the resource's field `place` is the manifest's field `path`.
    fn stands(&mut self, place: String, path: &str, at: (usize, usize)) {
        let place_in_file = Place { path: path.to_owned(), location: self.location(at) };
        self.places.insert(place, place_in_file);
    }

    fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        self.problem(node.at, path, format!("found {}; expected is {expected}", node.found()));
    }

    /// The node as a map whose fields are all of `allowed`; `elsewhere` answers for fields that deserve their own words.
    pub fn map<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        place: &str,
        allowed: &[&str],
        elsewhere: fn(&str) -> Option<&'static str>,
    ) -> Option<Map<'n>> {
        let Kind::Map(entries) = &node.kind else {
            self.wrong_type(node, path, &format!("a map with {}", allowed.join(", ")));
            return None;
        };
        for entry in entries.iter().filter(|entry| !allowed.contains(&entry.key.as_str())) {
            let message = match elsewhere(&entry.key) {
                Some(message) => message.to_owned(),
                None => {
                    let suggestion = did_you_mean(&entry.key, allowed.iter().copied());
                    format!("is an unknown field{suggestion}; allowed are {}", allowed.join(", "))
                }
            };
            let shown: String = entry.key.chars().filter(|c| !c.is_control()).take(80).collect();
            self.problem(entry.at, &join(path, &shown), message);
        }
        self.stands(place.to_owned(), path, node.at);
        Some(Map { entries, at: node.at, path: path.to_owned(), place: place.to_owned() })
    }

    /// The map in `field` of `map`.
    pub fn child<'n>(&mut self, map: &Map<'n>, field: &str, allowed: &[&str]) -> Option<Map<'n>> {
        let entry = map.entry(field)?;
        self.map(&entry.value, &join(&map.path, field), &join(&map.place, field), allowed, |_| None)
    }

    /// Any scalar of `field` as it is written: `4.23` stays `4.23`.
    pub fn text(&mut self, map: &Map<'_>, field: &str) -> Option<String> {
        self.text_as(map, field, &join(&map.place, field))
    }

    /// The same for a field that has another place in the resource.
    pub fn text_as(&mut self, map: &Map<'_>, field: &str, place: &str) -> Option<String> {
        let entry = map.entry(field)?;
        let path = join(&map.path, field);
        self.stands(place.to_owned(), &path, entry.value.at);
        self.scalar(&entry.value, &path).map(str::to_owned)
    }

    /// A word of `field`, without white space around it. An empty one means unset.
    pub fn word(&mut self, map: &Map<'_>, field: &str) -> Option<String> {
        self.text(map, field).map(|text| text.trim().to_owned()).filter(|word| !word.is_empty())
    }

    fn scalar<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Scalar { text, .. } if !node.is_null() => Some(text),
            _ => {
                self.wrong_type(node, path, "text");
                None
            }
        }
    }

    /// `true` or `false` in any case, also in quotes.
    pub fn boolean(&mut self, map: &Map<'_>, field: &str) -> Option<bool> {
        let entry = map.entry(field)?;
        let path = join(&map.path, field);
        self.stands(join(&map.place, field), &path, entry.value.at);
        let word = match &entry.value.kind {
            Kind::Scalar { text, .. } => text.trim().to_ascii_lowercase(),
            Kind::List(_) | Kind::Map(_) => String::new(),
        };
        match word.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.wrong_type(&entry.value, &path, "true or false");
                None
            }
        }
    }

    /// A whole number of seconds, also in quotes.
    pub fn seconds(&mut self, map: &Map<'_>, field: &str) -> Option<u32> {
        let entry = map.entry(field)?;
        let path = join(&map.path, field);
        self.stands(join(&map.place, field), &path, entry.value.at);
        let number = match &entry.value.kind {
            Kind::Scalar { text, .. } => text.trim().parse().ok(),
            Kind::List(_) | Kind::Map(_) => None,
        };
        if number.is_none() {
            self.wrong_type(&entry.value, &path, "a whole number of seconds, such as 600");
        }
        number
    }

    /// A map of scalars, each as it is written.
    pub fn texts(&mut self, map: &Map<'_>, field: &str) -> Option<BTreeMap<String, String>> {
        let entry = map.entry(field)?;
        let path = join(&map.path, field);
        self.stands(join(&map.place, field), &path, entry.value.at);
        let Kind::Map(entries) = &entry.value.kind else {
            self.wrong_type(&entry.value, &path, "a map of names and texts");
            return None;
        };
        let mut texts = BTreeMap::new();
        for entry in entries {
            let key = quoted(&entry.key);
            let path = format!("{path}[{key}]");
            self.stands(format!("{}[{key}]", join(&map.place, field)), &path, entry.value.at);
            if entry.value.is_null() {
                self.problem(entry.value.at, &path, "found nothing; expected is text: write \"\" for an empty one");
            } else if let Some(text) = self.scalar(&entry.value, &path) {
                texts.insert(entry.key.clone(), text.to_owned());
            }
        }
        Some(texts)
    }

    /// The items of a list with their paths in manifest and resource.
    pub fn list<'n>(&mut self, map: &Map<'n>, field: &str, of: &str) -> Option<Vec<(&'n Node, String, String)>> {
        let entry = map.entry(field)?;
        let (path, place) = (join(&map.path, field), join(&map.place, field));
        self.stands(place.clone(), &path, entry.value.at);
        let Kind::List(items) = &entry.value.kind else {
            self.wrong_type(&entry.value, &path, &format!("a list of {of}"));
            return None;
        };
        let item = |(index, node)| (node, format!("{path}[{index}]"), format!("{place}[{index}]"));
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A list of scalars.
    pub fn words(&mut self, map: &Map<'_>, field: &str) -> Option<Vec<String>> {
        let items = self.list(map, field, "words")?;
        let mut words = Vec::new();
        for (node, path, place) in items {
            self.stands(place, &path, node.at);
            words.extend(self.scalar(node, &path).map(str::to_owned));
        }
        Some(words)
    }
}
