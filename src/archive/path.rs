//! A path within a tree, proven to stay in it. Pure.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

/// A path relative to a tree's root: UTF-8, `/` between components, at least one component, and none that is empty, `.`
/// or `..`; no backslash and no control character. A leading `./` and a trailing `/` are dropped when it is parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

/// What is wrong with a name. The text follows the name in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing is left of the name.
    #[error("the name is empty; an entry needs a name within the tree")]
    Empty,
    /// It begins with `/`.
    #[error("the name is absolute; names must be relative to the root of the tree")]
    Absolute,
    /// A `..` component (CVE-2025-62156).
    #[error("the name has a \"..\" component; names must stay within the tree")]
    Parent,
    /// An empty or `.` component.
    #[error("the name has an empty or \".\" component; write it without")]
    DotOrEmptyComponent,
    /// A NUL byte, at which other tools cut the name.
    #[error("the name has a NUL byte; remove it")]
    Nul,
    /// A backslash, which other systems read as a separator.
    #[error("the name has a backslash; separate components with \"/\"")]
    Backslash,
    /// A newline, an escape or another control character.
    #[error("the name has a control character; rename the file")]
    Control,
    /// Not UTF-8.
    #[error("the name is not UTF-8; rename the file")]
    NotUtf8,
    /// One component is longer than the limit.
    #[error("a component of the name has {bytes} bytes; at most {limit} are allowed")]
    ComponentTooLong {
        /// Bytes of the component.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The whole path is longer than the limit.
    #[error("the path has {bytes} bytes; at most {limit} are allowed")]
    PathTooLong {
        /// Bytes of the path.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More components than the limit.
    #[error("the path has {depth} components; at most {limit} are allowed")]
    TooDeep {
        /// Components of the path.
        depth: usize,
        /// Components allowed.
        limit: usize,
    },
    /// `.outrigger-tree`, the marker of a published tree.
    #[error("the name \".outrigger-tree\" is reserved for the marker of an installed tree; rename the file")]
    Reserved,
    /// `.git`, in any case or Unicode form.
    #[error("a \".git\" directory does not belong into an extension; pack the sources without it")]
    GitDirectory,
}

impl RelativePath {
    /// Parse a name from an archive, a manifest or a directory listing.
    ///
    /// # Errors
    /// The first [`NameFault`] that applies; those about limits and reserved names are for callers to raise.
    pub fn parse(name: impl AsRef<[u8]>) -> Result<Self, NameFault> {
        let name = name.as_ref();
        if name.contains(&0) {
            return Err(NameFault::Nul);
        }
        let name = std::str::from_utf8(name).map_err(|_| NameFault::NotUtf8)?;
        if name.starts_with('/') {
            return Err(NameFault::Absolute);
        }
        if name.contains('\\') {
            return Err(NameFault::Backslash);
        }
        if name.chars().any(char::is_control) {
            return Err(NameFault::Control);
        }
        let name = name.strip_prefix("./").unwrap_or(name);
        let name = name.strip_suffix('/').unwrap_or(name);
        if name.is_empty() || name == "." {
            return Err(NameFault::Empty);
        }
        for component in name.split('/') {
            match component {
                ".." => return Err(NameFault::Parent),
                "" | "." => return Err(NameFault::DotOrEmptyComponent),
                _ => {}
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// The path, components separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The paths of the directories that hold this one, outermost first, the root excluded.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }

    /// The directory that holds this path (`None`: the root), and the name in it.
    pub fn split(&self) -> (Option<&str>, &str) {
        split(&self.0)
    }

    /// `other` below this path.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self(format!("{}/{}", self.0, other.0))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for RelativePath {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

/// The directory part of `path` (`None`: the root) and the last component.
pub(crate) fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('/') {
        Some((parent, name)) => (Some(parent), name),
        None => (None, path),
    }
}

/// A key that is equal for names that a file system which ignores case or Unicode form takes for the same: NFKC around
/// full upper and lower casing, which approximates Unicode's NFKC_Casefold and merges no fewer names in practice.
pub(crate) fn fold(name: &str) -> String {
    let upper = name.nfkc().collect::<String>().to_uppercase();
    upper.to_lowercase().nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_kept_and_cleaned() {
        for (given, kept) in [("a", "a"), ("./a/b", "a/b"), ("a/b/", "a/b"), ("…/ü", "…/ü"), ("a..b/.c", "a..b/.c")]
        {
            assert_eq!(RelativePath::parse(given).map(|path| path.0), Ok(kept.to_owned()));
        }
    }

    #[test]
    fn each_bad_name_has_its_own_fault() {
        let cases: [(&[u8], NameFault); 16] = [
            (b"", NameFault::Empty),
            (b".", NameFault::Empty),
            (b"./", NameFault::Empty),
            (b"/etc/passwd", NameFault::Absolute),
            (b"//x", NameFault::Absolute),
            (b"../x", NameFault::Parent),
            (b"a/../../x", NameFault::Parent),
            (b"a/..", NameFault::Parent),
            (b"./../x", NameFault::Parent),
            (b"a//b", NameFault::DotOrEmptyComponent),
            (b"a/./b", NameFault::DotOrEmptyComponent),
            (b".//etc", NameFault::DotOrEmptyComponent),
            (b"a\0b", NameFault::Nul),
            (b"a\\..\\b", NameFault::Backslash),
            (b"a\x1b[31m", NameFault::Control),
            (b"\xff", NameFault::NotUtf8),
        ];
        for (name, fault) in cases {
            assert_eq!(RelativePath::parse(name), Err(fault), "{name:?}");
        }
    }

    #[test]
    fn ancestors_lead_from_the_root() {
        let path = RelativePath::parse("a/b/c").unwrap();
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.split(), (Some("a/b"), "c"));
        assert_eq!(path.components().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn names_that_only_differ_by_case_or_unicode_form_fold_alike() {
        for (one, other) in [
            ("README", "readme"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            ("\u{fb01}le", "FILE"),
            ("\u{212a}", "k"),
            (".\u{ff47}it", ".GIT"),
            ("\u{3c3}", "\u{3c2}"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        assert_ne!(fold("a"), fold("b"));
    }
}
