//! The one writer of untrusted trees: every name, kind and size is checked before anything is created.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;

use super::beneath;
use super::error::{EntryName, UnpackError};
use super::limits::Limits;
use super::links::{LinkFault, Node, Nodes, check_link};
use super::path::{NameFault, RelativePath, fold};
use crate::protocol::TREE_MARKER;

/// What a finished tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeSummary {
    /// Regular files.
    pub files: u64,
    /// Files, links and directories, the root excluded.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes an untrusted tree into an empty directory; archives and git trees alike go through it.
///
/// - Everything is created beneath a handle of that directory, exclusively and through no symbolic link. Links are
///   only created by [`finish`](Self::finish), when each is known to lead to something within the tree.
/// - Parent directories are created as needed; a directory may be given more than once, any other name only once.
///   Names that differ only by case or Unicode form are refused, as are `.git` and the marker's name anywhere.
/// - Files get 0644 or 0755, directories 0755, whatever the umask. Setuid, setgid, sticky and write bits of the source
///   are ignored.
/// - After an error the tree is incomplete: drop the writer and remove the directory.
#[derive(Debug)]
pub struct TreeWriter {
    root: OwnedFd,
    limits: Limits,
    top: Top,
    nodes: Nodes,
    folded: HashMap<String, String>,
    files: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

/// What becomes of the one top-level directory in which all may lie.
#[derive(Debug)]
enum Top {
    /// It stays, or there is none.
    Kept,
    /// It becomes the root, once something comes that is one.
    Awaited,
    /// This one is the root as long as nothing comes that lies beside it.
    Root(String),
}

impl TreeWriter {
    /// A writer for the existing, empty directory `dir`.
    ///
    /// # Errors
    /// [`UnpackError::NotEmpty`], or [`UnpackError::Write`] if it cannot be opened.
    pub fn new(dir: &Path, limits: Limits) -> Result<Self, UnpackError> {
        let written = |source| UnpackError::Write { entry: EntryName::new("."), source };
        let root = beneath::open_root(dir).map_err(written)?;
        if !beneath::names(&root).map_err(written)?.is_empty() {
            return Err(UnpackError::NotEmpty);
        }
        Ok(Self {
            root,
            limits,
            top: Top::Kept,
            nodes: Nodes::new(),
            folded: HashMap::new(),
            files: 0,
            bytes: 0,
            buffer: vec![0; 64 << 10],
        })
    }

    /// The limits that hold.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Create the directory `path`, or keep the one that is there.
    ///
    /// # Errors
    /// The [`UnpackError`] that names `path` and the rule that it breaks.
    pub fn directory(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let parsed = self.parse(path)?;
        self.create_parents(&parsed)?;
        self.claim_directory(&parsed, parsed.as_str())
    }

    /// Create the file `path` from all that `reader` gives, and return the number of bytes.
    ///
    /// # Errors
    /// The [`UnpackError`] that names `path` and the rule that it breaks; [`UnpackError::Read`] if `reader` fails.
    pub fn file(&mut self, path: &[u8], executable: bool, reader: &mut dyn Read) -> Result<u64, UnpackError> {
        let parsed = self.parse(path)?;
        self.create_parents(&parsed)?;
        self.claim(&parsed, parsed.as_str(), Node::File)?;
        self.files += 1;
        let write = |source| UnpackError::Write { entry: EntryName::new(path), source };
        let created = beneath::create_file(&self.root, self.place(parsed.as_str())).map_err(write)?;
        let mut file = std::fs::File::from(created);
        let written = self.copy(path, reader, &mut file)?;
        let mode = if executable { 0o755 } else { 0o644 };
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| write(error.into()))?;
        Ok(written)
    }

    /// Note the symbolic link `path` to `target`; [`finish`](Self::finish) creates it.
    ///
    /// # Errors
    /// The [`UnpackError`] that names `path` and the rule that it breaks.
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let parsed = self.parse(path)?;
        let refuse = |fault| UnpackError::Link { entry: EntryName::new(path), target: EntryName::new(target), fault };
        if target.is_empty() || target.len() > self.limits.path_bytes {
            return Err(refuse(LinkFault::Malformed));
        }
        let text = std::str::from_utf8(target).map_err(|_| refuse(LinkFault::Malformed))?;
        if text.contains(|c: char| c == '\\' || c.is_control()) {
            return Err(refuse(LinkFault::Malformed));
        }
        self.create_parents(&parsed)?;
        self.claim(&parsed, parsed.as_str(), Node::Link(text.to_owned()))
    }

    /// Create `path` as a copy of the earlier file `target`, which is what a hard link in an archive means. The copy
    /// counts against the limits like any file.
    ///
    /// # Errors
    /// [`UnpackError::HardLink`] if `target` is no earlier file, else as for [`file`](Self::file).
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let refuse = || UnpackError::HardLink { entry: EntryName::new(path), target: EntryName::new(target) };
        let source = RelativePath::parse(target).map_err(|_| refuse())?;
        if self.nodes.get(source.as_str()) != Some(&Node::File) {
            return Err(refuse());
        }
        let read = |source| UnpackError::Read { entry: EntryName::new(target), source };
        let flags = rustix::fs::OFlags::RDONLY;
        let source = Some(self.place(source.as_str()));
        let source = beneath::open(&self.root, source, flags, Mode::empty()).map_err(read)?;
        let mode = rustix::fs::fstat(&source).map_err(|error| read(error.into()))?.st_mode;
        self.file(path, mode & 0o100 != 0, &mut std::fs::File::from(source))?;
        Ok(())
    }

    /// If all that comes from now on lies in one top-level directory, make that directory the root. Source archives of
    /// forges are packed so. It is of no use once something has come.
    pub fn strip_top_level(&mut self) {
        if self.nodes.is_empty() {
            self.top = Top::Awaited;
        }
    }

    /// Check every symbolic link against the whole tree, create them, and say what there is.
    ///
    /// # Errors
    /// [`UnpackError::Link`] for the first link that does not lead to something in the tree, [`UnpackError::Empty`] for
    /// a tree without a file, [`UnpackError::Write`] if a link cannot be created.
    pub fn finish(mut self) -> Result<TreeSummary, UnpackError> {
        if self.files == 0 {
            return Err(UnpackError::Empty);
        }
        if let Top::Root(top) = &self.top {
            let prefix = format!("{top}/");
            let within = |(path, node): (String, Node)| Some((path.strip_prefix(&prefix)?.to_owned(), node));
            self.nodes = std::mem::take(&mut self.nodes).into_iter().filter_map(within).collect();
        }
        let links = || {
            self.nodes.iter().filter_map(|(path, node)| match node {
                Node::Link(target) => Some((path, target)),
                Node::Directory | Node::File => None,
            })
        };
        for (path, target) in links() {
            check_link(&self.nodes, path, target).map_err(|fault| UnpackError::Link {
                entry: EntryName::new(path),
                target: EntryName::new(target),
                fault,
            })?;
        }
        for (path, target) in links() {
            beneath::create_link(&self.root, path, target)
                .map_err(|source| UnpackError::Write { entry: EntryName::new(path), source })?;
        }
        Ok(TreeSummary { files: self.files, entries: self.nodes.len() as u64, bytes: self.bytes })
    }

    fn parse(&self, path: &[u8]) -> Result<RelativePath, UnpackError> {
        let refuse = |fault| UnpackError::Name { entry: EntryName::new(path), fault };
        if path.len() > self.limits.path_bytes {
            return Err(refuse(NameFault::PathTooLong { bytes: path.len(), limit: self.limits.path_bytes }));
        }
        let parsed = RelativePath::parse(path).map_err(refuse)?;
        let depth = parsed.components().count();
        if depth > self.limits.depth {
            return Err(refuse(NameFault::TooDeep { depth, limit: self.limits.depth }));
        }
        for component in parsed.components() {
            let (bytes, limit) = (component.len(), self.limits.component_bytes);
            if bytes > limit {
                return Err(refuse(NameFault::ComponentTooLong { bytes, limit }));
            }
            match fold(component) {
                name if name == TREE_MARKER => return Err(refuse(NameFault::Reserved)),
                name if name == ".git" => return Err(refuse(NameFault::GitDirectory)),
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn create_parents(&mut self, path: &RelativePath) -> Result<(), UnpackError> {
        path.ancestors().try_for_each(|parent| self.claim_directory(path, parent))
    }

    /// Make `directory`, which is `entry` or holds it, a directory of the tree.
    fn claim_directory(&mut self, entry: &RelativePath, directory: &str) -> Result<(), UnpackError> {
        let kind = match self.nodes.get(directory) {
            Some(Node::Directory) => return Ok(()),
            Some(_) if entry.as_str() == directory => {
                return Err(UnpackError::Duplicate { entry: EntryName::new(directory) });
            }
            Some(Node::File) => "file",
            Some(Node::Link(_)) => "symbolic link",
            None => {
                self.claim(entry, directory, Node::Directory)?;
                if matches!(&self.top, Top::Root(top) if top == directory) {
                    return Ok(());
                }
                return beneath::create_directory(&self.root, self.place(directory))
                    .map(drop)
                    .map_err(|source| UnpackError::Write { entry: EntryName::new(directory), source });
            }
        };
        let (entry, parent) = (EntryName::new(entry.as_str()), EntryName::new(directory));
        Err(UnpackError::NotADirectory { entry, parent, kind })
    }

    /// Take the name `path` for `node`, if it is free and there is room.
    fn claim(&mut self, entry: &RelativePath, path: &str, node: Node) -> Result<(), UnpackError> {
        let entry = || EntryName::new(entry.as_str());
        if self.nodes.contains_key(path) {
            return Err(UnpackError::Duplicate { entry: entry() });
        }
        let folded = fold(path);
        if let Some(other) = self.folded.get(&folded) {
            return Err(UnpackError::Collision { entry: entry(), other: EntryName::new(other) });
        }
        if self.nodes.len() as u64 >= self.limits.entries {
            return Err(UnpackError::TooManyEntries { entry: entry(), limit: self.limits.entries });
        }
        if !path.contains('/') {
            self.settle_top(path, &node).map_err(|source| UnpackError::Write { entry: entry(), source })?;
        }
        self.folded.insert(folded, path.to_owned());
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    /// Where the entry `path` lies beneath the root.
    fn place<'a>(&self, path: &'a str) -> &'a str {
        let Top::Root(top) = &self.top else { return path };
        path.strip_prefix(top.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
    }

    /// The top-level entry `name` comes.
    fn settle_top(&mut self, name: &str, node: &Node) -> io::Result<()> {
        let before = std::mem::replace(&mut self.top, Top::Kept);
        match (before, node) {
            (Top::Awaited, Node::Directory) => self.top = Top::Root(name.to_owned()),
            (Top::Root(top), _) => self.lower(&top)?,
            (Top::Awaited | Top::Kept, _) => {}
        }
        Ok(())
    }

    fn copy(&mut self, path: &[u8], reader: &mut dyn Read, file: &mut impl Write) -> Result<u64, UnpackError> {
        let entry = || EntryName::new(path);
        let mut written = 0;
        loop {
            let read = match reader.read(&mut self.buffer) {
                Ok(0) => return Ok(written),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(UnpackError::Read { entry: entry(), source }),
            };
            written += read as u64;
            self.bytes += read as u64;
            if written > self.limits.file_bytes {
                return Err(UnpackError::FileTooLarge { entry: entry(), limit: self.limits.file_bytes });
            }
            if self.bytes > self.limits.unpacked_bytes {
                return Err(UnpackError::TooLarge { entry: entry(), limit: self.limits.unpacked_bytes });
            }
            file.write_all(&self.buffer[..read]).map_err(|source| UnpackError::Write { entry: entry(), source })?;
        }
    }

    /// Move what lies in the root to the top-level directory `name`. The directory first has the marker's name, which no
    /// entry can have, so that an entry of its own name is not in its way.
    fn lower(&self, name: &str) -> io::Result<()> {
        let children = beneath::names(&self.root)?;
        let top = beneath::create_directory(&self.root, TREE_MARKER)?;
        for child in children {
            rustix::fs::renameat(&self.root, child.as_slice(), &top, child.as_slice())?;
        }
        Ok(rustix::fs::renameat(&self.root, TREE_MARKER, &self.root, name)?)
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
