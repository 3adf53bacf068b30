//! YAML (and so JSON) as a tree of located nodes, under limits. Pure: no client, clock, disk or network.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::validate::{Location, Problem, quoted};

use super::MANIFEST_BYTES;
use super::surrogates::{self, Hidden};

/// Deepest nesting.
const DEPTH: usize = 64;
/// Most nodes, those that aliases repeat included.
const NODES: usize = 20_000;
/// Most bytes of text, that which aliases repeat included.
const TEXT: usize = 2 * MANIFEST_BYTES;
/// Most problems that reading goes on after.
const PROBLEMS: usize = 100;

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Line and column, from 1.
    pub at: (usize, usize),
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A scalar as written; `plain` if without quotes, so that it can be a number, a boolean or null.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map, without duplicate keys.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: (usize, usize),
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Whether it is null: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for error messages.
    pub fn found(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".into(),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Scalar { text, .. } => quoted(text),
        }
    }

    /// Nodes and bytes of text that it is made of.
    fn weight(&self) -> (usize, usize) {
        let add = |(nodes, bytes): (usize, usize), (more, text): (usize, usize)| (nodes + more, bytes + text);
        match &self.kind {
            Kind::Scalar { text, .. } => (1, text.len()),
            Kind::List(items) => items.iter().map(Self::weight).fold((1, 0), add),
            Kind::Map(entries) => {
                entries.iter().fold((1, 0), |sum, entry| add(add(sum, entry.value.weight()), (1, entry.key.len())))
            }
        }
    }
}

/// What was read of a file.
#[derive(Debug)]
pub(super) struct Read {
    /// The document; none if the file is empty, or cannot be read beyond the last problem.
    pub node: Option<Node>,
    /// What is wrong. Keys and tags that are not taken are left out, and reading goes on.
    pub problems: Vec<Problem>,
}

/// Reads the one document in `bytes`.
pub(super) fn read(bytes: &[u8], file: &str) -> Read {
    let text = match text(bytes, file) {
        Ok(text) => text,
        Err(problem) => return Read { node: None, problems: vec![problem] },
    };
    let hidden = surrogates::hide(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(&hidden.text),
        hidden: &hidden,
        text,
        file,
        path: Vec::new(),
        problems: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
    };
    let node = document(&mut reader);
    let mut problems = reader.problems;
    let node = node.map_err(|problem| problems.push(problem)).ok().flatten();
    Read { node, problems }
}

/// The one document; `None`: there is none. The error is one after which nothing can be trusted.
fn document(reader: &mut Reader<'_>) -> Result<Option<Node>, Problem> {
    let mut document = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(document),
            (Event::DocumentStart(_), at) => {
                if document.is_some() {
                    let message = "a second document begins here; a manifest is one document, without further \"---\"";
                    return Err(reader.problem(at, message));
                }
                let (event, at) = reader.next()?;
                document = Some(reader.node(event, at, 0)?);
            }
            _ => {}
        }
    }
}

/// What is wrong with a manifest of more than [`MANIFEST_BYTES`].
pub fn too_large(file: &str) -> Problem {
    let message = format!("the manifest is larger than {MANIFEST_BYTES} bytes (1 MiB), the most that is allowed");
    Problem::new("", message).at(Location { file: file.to_owned(), line: 1, column: 1 })
}

/// The bytes as text without byte order mark; size, encoding and control characters checked.
fn text<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, Problem> {
    let here = |line, column| Location { file: file.to_owned(), line, column };
    let plain = |message: String| Problem::new("", message).at(here(1, 1));
    if bytes.len() > MANIFEST_BYTES {
        return Err(too_large(file));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(plain("the manifest is UTF-16; save it as UTF-8".into()));
    }
    let place = |before: &[u8]| {
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        here(line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let message = format!("byte {:#04x} is not UTF-8; save the manifest as UTF-8", bytes[at]);
        Problem::new("", message).at(place(&bytes[..at]))
    })?;
    let forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((at, c)) = text.char_indices().find(|(_, c)| forbidden(*c)) {
        let message = format!("the control character U+{:04X} is not allowed in a manifest", u32::from(c));
        return Err(Problem::new("", message).at(place(&bytes[..at])));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    hidden: &'a Hidden<'a>,
    text: &'a str,
    file: &'a str,
    /// The way to what is being read.
    path: Vec<String>,
    problems: Vec<Problem>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
}

type At = (usize, usize);

/// The step to the value of `key`, for the path of a field.
fn step(key: &str) -> String {
    let is_name = !key.is_empty() && key.len() <= 80 && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_name { format!(".{key}") } else { format!("[{}]", quoted(key)) }
}

/// The entries that a merge key brings: those of a map, or of a list of maps.
fn given(merged: Node) -> Vec<Entry> {
    match merged.kind {
        Kind::Map(entries) => entries,
        Kind::List(items) => items.into_iter().flat_map(given).collect(),
        Kind::Scalar { .. } => Vec::new(),
    }
}

fn too_deep() -> String {
    format!("is nested too deeply; allowed are {DEPTH} levels")
}

impl<'a> Reader<'a> {
    fn problem(&self, (line, column): At, message: impl Into<String>) -> Problem {
        let path = self.path.concat();
        let path = path.strip_prefix('.').unwrap_or(&path);
        Problem::new(path, message).at(Location { file: self.file.to_owned(), line, column })
    }

    /// A problem of the text itself: which field it would belong to is not known.
    fn unreadable(&self, at: At, message: impl Into<String>) -> Problem {
        Problem { path: String::new(), ..self.problem(at, message) }
    }

    /// Keeps a problem that reading can go on after.
    fn keep(&mut self, at: At, message: impl Into<String>) -> Result<(), Problem> {
        let problem = self.problem(at, message);
        if self.problems.len() >= PROBLEMS {
            let message = "is not read further: mend the problems before this line first";
            return Err(Problem { message: message.into(), ..problem });
        }
        self.problems.push(problem);
        Ok(())
    }

    /// Whether `line` (from 1) goes on with a flow collection, where tabs are white space like any other.
    fn is_in_flow(&self, line: usize) -> bool {
        let open = self.text.lines().take(line - 1).flat_map(str::chars).fold(0_usize, |open, c| match c {
            '{' | '[' => open + 1,
            '}' | ']' => open.saturating_sub(1),
            _ => open,
        });
        open > 0 || self.text.trim_start().starts_with('{')
    }

    fn next(&mut self) -> Result<(Event<'a>, At), Problem> {
        let place = |marker: &Marker| (marker.line().max(1), marker.col() + 1);
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(error)) => {
                let at = place(error.marker());
                // A text that goes on in the next line is told at its beginning.
                let tabbed = self.text.lines().enumerate().skip(at.0 - 1).take(2).find(|(_, line)| {
                    let indentation = line.len() - line.trim_start().len();
                    line[..indentation].contains('\t')
                });
                let message = if let Some((before, _)) = tabbed.filter(|_| !self.is_in_flow(at.0)) {
                    let message = "a tab indents this line; YAML allows spaces only";
                    return Err(self.unreadable(if before + 1 == at.0 { at } else { (before + 1, 1) }, message));
                } else if error.info().contains("recursion limit") {
                    too_deep()
                } else {
                    format!("cannot be read as YAML: {}", error.info())
                };
                Err(self.unreadable(at, message))
            }
            None => Ok((Event::StreamEnd, (1, 1))),
        }
    }

    fn charge(&mut self, at: At, (nodes, bytes): (usize, usize)) -> Result<(), Problem> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > NODES || self.bytes > TEXT {
            let message = format!(
                "the manifest is too large: allowed are {NODES} values and {TEXT} bytes, repeated aliases included"
            );
            return Err(self.problem(at, message));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, at: At, depth: usize) -> Result<Node, Problem> {
        if depth >= DEPTH {
            return Err(self.problem(at, too_deep()));
        }
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = !self.is_text(tag.as_deref(), at)? && style == ScalarStyle::Plain;
                self.charge(at, (1, text.len()))?;
                let whole = self.hidden.put_back(&text, style == ScalarStyle::DoubleQuoted);
                (anchor, Kind::Scalar { text: whole.unwrap_or_else(|| text.into_owned()), plain })
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_text(tag.as_deref(), at)?;
                self.charge(at, (1, 0))?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => {
                            self.path.push(format!("[{}]", items.len()));
                            items.push(self.node(event, at, depth + 1)?);
                            self.path.pop();
                        }
                    }
                }
                (anchor, Kind::List(items))
            }
            Event::MappingStart(anchor, tag) => {
                self.is_text(tag.as_deref(), at)?;
                self.charge(at, (1, 0))?;
                (anchor, Kind::Map(self.entries(depth)?))
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.problem(at, "this alias (\"*…\") refers to itself or to nothing"));
                };
                let weight = node.weight();
                self.charge(at, weight)?;
                let node = self.anchors.get(&anchor).cloned().map(|node| Node { at, ..node });
                return node.ok_or_else(|| self.problem(at, "this alias (\"*…\") refers to nothing"));
            }
            _ => (0, Kind::Scalar { text: String::new(), plain: true }),
        };
        let node = Node { at, kind };
        if anchor > 0 {
            let weight = node.weight();
            self.charge(at, weight)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, at, depth + 1)?;
            let Kind::Scalar { text: key, plain } = key.kind else {
                self.keep(at, "a list or map cannot be a key here; allowed is a plain name")?;
                let (event, at) = self.next()?;
                self.node(event, at, depth + 1)?;
                continue;
            };
            let is_merge = plain && key == "<<";
            if is_merge {
                let message =
                    "merge keys (\"<<\") are not supported: write the fields out, or use an alias for a whole value";
                self.keep(at, message)?;
            }
            self.path.push(step(&key));
            let first = if is_merge { None } else { lines.get(&key).copied() };
            if let Some(first) = first {
                let key = quoted(&key);
                self.keep(at, format!("the key {key} stands twice in this map: first in line {first}"))?;
            }
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            self.path.pop();
            if is_merge {
                merged.push(value);
            } else if first.is_none() {
                lines.insert(key.clone(), at.0);
                entries.push(Entry { key, at, value });
            }
        }
        // The fields that were meant count as given, so that they are not told to be missing.
        for entry in merged.into_iter().flat_map(given) {
            if !lines.contains_key(&entry.key) {
                lines.insert(entry.key.clone(), entry.at.0);
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Whether the tag makes a scalar text (`!!str`, `!`). Tags of the core schema are understood, others refused.
    fn is_text(&mut self, tag: Option<&Tag>, at: At) -> Result<bool, Problem> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
            Some(tag)
                if tag.is_yaml_core_schema()
                    && matches!(tag.suffix.as_str(), "int" | "float" | "bool" | "null" | "seq" | "map") =>
            {
                Ok(false)
            }
            Some(tag) => {
                let tag = quoted(&tag.to_string());
                self.keep(at, format!("the tag {tag} is not supported: remove it"))?;
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
