//! What is in a tree, in a canonical form, whose digest is the tree's digest. Pure.
//!
//! A listing is UTF-8 text, one line for each entry of the tree but the root and the marker `.outrigger-tree` at the root,
//! sorted by the bytes of the paths, each line ended by a newline, its fields separated by one tab:
//!
//! ```text
//! d <path>                            a directory
//! f <path> <sha256, 64 hex> <bytes>   a file that nobody may execute
//! x <path> <sha256, 64 hex> <bytes>   a file with any execute bit
//! l <path> <target>                   a symbolic link and its target, as written
//! ```
//!
//! Paths are relative to the root, components separated by `/`. Neither paths nor targets hold control characters, so
//! tabs and newlines only separate. Owners, times, and other mode bits are not part of it. The tree's digest is the
//! SHA-256 of the listing, so a stored listing proves itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::archive::RelativePath;
use crate::archive::links::{LinkFault, Node, Nodes, check_link, resolve};
use crate::digest::Digest;

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Whether anybody may execute it.
        executable: bool,
        /// SHA-256 of its bytes.
        digest: Digest,
        /// How many they are.
        bytes: u64,
    },
    /// A symbolic link.
    Link {
        /// Its target, as written.
        target: String,
    },
}

/// The entries of a tree by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, Entry>);

/// The first difference between a tree and its listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// The entry is there, and other than it was published.
    Changed(String),
    /// The entry is not there.
    Missing(String),
    /// The entry was not published.
    Added(String),
    /// Something else lies where the tree's directory was.
    Replaced,
    /// The listing is lost or damaged too, so that the tree's digest is all there is to compare: it differs.
    Unknown,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(path) => write!(f, "{path:?} was changed on the volume"),
            Self::Missing(path) => write!(f, "{path:?} was removed from the volume"),
            Self::Added(path) => write!(f, "{path:?} was added on the volume"),
            Self::Replaced => f.write_str("its directory was replaced by something else on the volume"),
            Self::Unknown => f.write_str("the tree was changed on the volume, and so was its listing"),
        }
    }
}

impl Listing {
    /// Add `entry` at `path`.
    pub(super) fn insert(&mut self, path: &RelativePath, entry: Entry) {
        self.0.insert(path.as_str().to_owned(), entry);
    }

    /// The entry at `path`, a link itself where it is one.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// All entries in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Number of regular files.
    pub fn files(&self) -> u64 {
        self.0.values().filter(|entry| matches!(entry, Entry::File { .. })).count() as u64
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let bytes = |entry: &Entry| if let Entry::File { bytes, .. } = entry { *bytes } else { 0 };
        self.0.values().map(bytes).sum()
    }

    /// The tree's digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_string())
    }

    /// The path and entry that `path` leads to, links followed within the tree; `None` if it leads to nothing but the
    /// root or out of the tree.
    pub fn resolve(&self, path: &RelativePath) -> Option<(&str, &Entry)> {
        let end = resolve(&self.nodes(), path.as_str()).ok()?;
        self.0.get_key_value(&end).map(|(path, entry)| (path.as_str(), entry))
    }

    /// The first link that does not lead to something in the tree: path, target, why.
    pub(super) fn bad_link(&self) -> Option<(&str, &str, LinkFault)> {
        let nodes = self.nodes();
        self.iter().find_map(|(path, entry)| match entry {
            Entry::Link { target } => {
                check_link(&nodes, path, target).err().map(|fault| (path, target.as_str(), fault))
            }
            Entry::Directory | Entry::File { .. } => None,
        })
    }

    /// The first difference of `found` to this listing.
    pub fn drift(&self, found: &Self) -> Option<Drift> {
        let lost = self.0.iter().find_map(|(path, entry)| match found.0.get(path) {
            None => Some(Drift::Missing(path.clone())),
            Some(other) if other != entry => Some(Drift::Changed(path.clone())),
            Some(_) => None,
        });
        lost.or_else(|| found.0.keys().find(|path| !self.0.contains_key(*path)).map(|path| Drift::Added(path.clone())))
    }

    /// Read what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut listing = Self::default();
        for line in text.split_terminator('\n') {
            let fields: Vec<&str> = line.split('\t').collect();
            let (path, entry) = match fields.as_slice() {
                ["d", path] => (path, Entry::Directory),
                ["l", path, target] => (path, Entry::Link { target: (*target).to_owned() }),
                [kind @ ("f" | "x"), path, digest, bytes] => {
                    let digest = format!("sha256:{digest}").parse().ok()?;
                    (path, Entry::File { executable: *kind == "x", digest, bytes: bytes.parse().ok()? })
                }
                _ => return None,
            };
            listing.insert(&RelativePath::parse(path).ok()?, entry);
        }
        (listing.to_string() == text).then_some(listing)
    }

    fn nodes(&self) -> Nodes {
        let node = |entry: &Entry| match entry {
            Entry::Directory => Node::Directory,
            Entry::File { .. } => Node::File,
            Entry::Link { target } => Node::Link(target.clone()),
        };
        self.0.iter().map(|(path, entry)| (path.clone(), node(entry))).collect()
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, entry) in &self.0 {
            match entry {
                Entry::Directory => writeln!(f, "d\t{path}")?,
                Entry::File { executable, digest, bytes } => {
                    let kind = if *executable { 'x' } else { 'f' };
                    writeln!(f, "{kind}\t{path}\t{}\t{bytes}", digest.hex())?;
                }
                Entry::Link { target } => writeln!(f, "l\t{path}\t{target}")?,
            }
        }
        Ok(())
    }
}
