//! Problems: what is wrong, in which field, at which line. Pure: no client, clock, disk or network.

use std::fmt;

use crate::api::Reason;

/// Where something stands in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Name of the file, as the reader was given it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong. Prints as `manifest.yaml:12:5: spec.entrypoint.path: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands, if it was read from a file.
    pub location: Option<Location>,
    /// Path of the field (`spec.customActions[0].name`); empty for the whole document.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
    /// [`Reason::ValidationFailed`] or [`Reason::Incompatible`].
    pub reason: Reason,
}

impl Problem {
    /// A rule that the field at `path` breaks.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location: None, path: path.into(), message: message.into(), reason: Reason::ValidationFailed }
    }

    /// The same problem at a place in a file.
    pub fn at(self, location: Location) -> Self {
        Self { location: Some(location), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Bytes of problems in one line: what a condition's message (4096 bytes) has room for besides what is written around them.
const LINE_BYTES: usize = 3072;

/// Everything that is wrong, never empty as an error, sorted by position. Prints one problem per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, sorted by position; those without one keep their order and come first.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.location.cmp(&b.location));
        Self(problems)
    }

    /// `Ok(value)` if there is no problem.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// The reason that stands for all: an extension that needs a newer contract is incompatible, whatever else its
    /// manifest says.
    pub fn reason(&self) -> Reason {
        match self.0.iter().any(|problem| problem.reason == Reason::Incompatible) {
            true => Reason::Incompatible,
            false => Reason::ValidationFailed,
        }
    }

    /// The problems in one line, separated by `; `, for conditions and events. At most 3,072 bytes are filled; how many
    /// problems are left is then said.
    pub fn in_one_line(&self) -> String {
        let mut line = String::new();
        for (index, problem) in self.0.iter().enumerate() {
            let text = problem.to_string();
            if index > 0 && line.len() + text.len() > LINE_BYTES {
                let left = self.0.len() - index;
                return format!("{line}; and {left} more problem{}", if left == 1 { "" } else { "s" });
            }
            line.push_str(if index > 0 { "; " } else { "" });
            line.push_str(&text);
        }
        line
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// ` (did you mean "x"?)` for the allowed word that is most like `word`, if one is like it; else nothing.
pub fn did_you_mean<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let lower = word.to_lowercase();
    allowed
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!(" (did you mean {candidate:?}?)"))
}

/// A quoted, escaped and shortened form of text that a user wrote, fit for an error message.
pub fn quoted(text: &str) -> String {
    const CHARACTERS: usize = 80;
    match text.char_indices().nth(CHARACTERS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize) -> Location {
        Location { file: "manifest.yaml".into(), line, column: 5 }
    }

    #[test]
    fn a_problem_prints_place_field_and_message() {
        let problem = Problem::new("spec.entrypoint.path", "is empty").at(at(12));
        assert_eq!(problem.to_string(), "manifest.yaml:12:5: spec.entrypoint.path: is empty");
        assert_eq!(Problem::new("", "the document is empty").to_string(), "the document is empty");
    }

    #[test]
    fn problems_are_sorted_by_position() {
        let problems = Problems::new(vec![Problem::new("b", "2").at(at(9)), Problem::new("a", "1").at(at(2))]);
        assert_eq!(problems.to_string(), "manifest.yaml:2:5: a: 1\nmanifest.yaml:9:5: b: 2");
        assert_eq!(problems.in_one_line(), "manifest.yaml:2:5: a: 1; manifest.yaml:9:5: b: 2");
    }

    #[test]
    fn a_line_ends_with_how_many_problems_are_left() {
        let problems = |count: usize| Problems::new((0..count).map(|_| Problem::new("a", "b".repeat(997))).collect());
        assert_eq!(problems(3).in_one_line().matches("a: ").count(), 3);
        for (count, end) in [(4, "b; and 1 more problem"), (700, "b; and 697 more problems")] {
            let line = problems(count).in_one_line();
            assert!(line.ends_with(end) && line.len() < 3200, "{line}");
        }
        assert_eq!(Problems::from(Problem::new("", "c".repeat(5000))).in_one_line().len(), 5000);
    }

    #[test]
    fn incompatibility_stands_for_all() {
        let incompatible = Problem { reason: Reason::Incompatible, ..Problem::new("x", "y") };
        assert_eq!(Problems::from(Problem::new("a", "b")).reason(), Reason::ValidationFailed);
        assert_eq!(Problems::new(vec![Problem::new("a", "b"), incompatible]).reason(), Reason::Incompatible);
    }

    #[test]
    fn a_word_like_an_allowed_one_is_suggested() {
        assert_eq!(did_you_mean("displayname", ["name", "displayName"]), " (did you mean \"displayName\"?)");
        assert_eq!(did_you_mean("zzz", ["name", "displayName"]), "");
    }

    #[test]
    fn quoted_text_is_escaped_and_short() {
        assert_eq!(quoted("a\u{1b}[1m"), "\"a\\u{1b}[1m\"");
        assert!(quoted(&"é".repeat(1000)).chars().count() < 90);
    }
}
