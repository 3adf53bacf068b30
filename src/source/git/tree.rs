//! Write a commit's tree as files, straight from its objects: nothing of the repository is configuration.

use std::path::Path;

use gix::ObjectId;
use gix::hash::Kind as HashKind;
use gix::objs::tree::{EntryKind, EntryMode};
use gix::objs::{CommitRefIter, Kind, TagRefIter, TreeRefIter};
use gix::odb::pack;

use super::fetch::interrupted;
use super::pack::Bounds;
use super::reference::Selected;
use super::transport::Shared;
use crate::archive::{Limits, TreeSummary, TreeWriter, UnpackError};
use crate::source::error::{ContentFault, SourceError};

/// Annotated tags that may point to each other before a commit comes.
const MAX_TAG_CHAIN: usize = 5;
/// A pointer file of Git LFS begins so and is smaller than 1 KiB (Git LFS specification).
const LFS_FIRST_LINE: &[u8] = b"version https://git-lfs.github.com/spec/";
const LFS_MAX_BYTES: usize = 1024;

/// Write the tree of the commit that `selected` names into the empty directory `dest`.
pub(super) fn write_tree(
    objects: &pack::Bundle,
    selected: &Selected,
    shared: &Shared,
    bounds: &Bounds,
    dest: &Path,
    limits: Limits,
) -> Result<TreeSummary, SourceError> {
    let url = &shared.url;
    let refused = |source| SourceError::Unpack { url: url.to_string(), source };
    let objects = Objects { objects, shared };
    let tree = objects.tree_of(selected)?;
    let writer = TreeWriter::new(dest, limits).map_err(refused)?;
    let mut walk = Walk { objects, writer, shared, tree_bytes: bounds.tree_bytes };
    walk.directory(tree, &[])?;
    walk.writer.finish().map_err(refused)
}

struct Objects<'a> {
    objects: &'a pack::Bundle,
    shared: &'a Shared,
}

impl Objects<'_> {
    fn read(&self, id: ObjectId) -> Result<(Kind, Vec<u8>), SourceError> {
        let mut bytes = Vec::new();
        let mut inflate = gix::zlib::Inflate::default();
        let found = self.objects.find(&id, &mut bytes, &mut inflate, &mut pack::cache::Never);
        match found.map(|found| found.map(|(data, _)| data.kind)) {
            Ok(Some(kind)) => Ok((kind, bytes)),
            Ok(None) => Err(self.shared.git(&format!("the server did not send object {id}"))),
            Err(error) => Err(self.shared.git(&format!("object {id}: {error:#}"))),
        }
    }

    /// The tree of the commit, which must be the very one that the revision names.
    fn tree_of(&self, selected: &Selected) -> Result<ObjectId, SourceError> {
        let mut id = selected.want;
        for _ in 0..=MAX_TAG_CHAIN {
            let (kind, bytes) = self.read(id)?;
            let damaged = |error: gix::Error| self.shared.git(&format!("object {id}: {error:#}"));
            match kind {
                Kind::Tag => id = TagRefIter::from_bytes(&bytes, HashKind::Sha1).target_id().map_err(damaged)?,
                Kind::Commit if selected.revision.ends_with(&format!("sha1:{id}")) => {
                    return CommitRefIter::from_bytes(&bytes, HashKind::Sha1).tree_id().map_err(damaged);
                }
                Kind::Commit => {
                    return Err(self.shared.git(&format!("{} leads to commit {id}", selected.revision)));
                }
                Kind::Tree | Kind::Blob => {
                    return Err(self.shared.git(&format!("object {id} is a {kind}, not a commit")));
                }
            }
        }
        Err(self.shared.git(&format!("more than {MAX_TAG_CHAIN} tags point to each other")))
    }
}

struct Walk<'a> {
    objects: Objects<'a>,
    writer: TreeWriter,
    shared: &'a Shared,
    /// Bytes of one directory: each on the way down is held in memory.
    tree_bytes: u64,
}

impl Walk<'_> {
    /// The writer bounds how deep this goes: it refuses the first directory that is too deep.
    fn directory(&mut self, id: ObjectId, path: &[u8]) -> Result<(), SourceError> {
        let (kind, bytes) = self.objects.read(id)?;
        if kind != Kind::Tree {
            return Err(self.shared.git(&format!("object {id} is a {kind}, not a tree")));
        }
        if bytes.len() as u64 > self.tree_bytes {
            return Err(SourceError::ObjectTooLarge { url: self.shared.url.to_string(), limit: self.tree_bytes });
        }
        for entry in TreeRefIter::from_bytes(&bytes, HashKind::Sha1) {
            let entry = entry.map_err(|error| self.shared.git(&format!("tree {id}: {error:#}")))?;
            if interrupted(&self.shared.interrupt) {
                return Err(self.shared.git("cancelled"));
            }
            let name: &[u8] = entry.filename;
            let child = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) || name.eq_ignore_ascii_case(b".git") {
                return Err(self.content(&child, ContentFault::Name));
            }
            self.entry(entry.mode, entry.oid.to_owned(), &child)?;
        }
        Ok(())
    }

    fn entry(&mut self, mode: EntryMode, id: ObjectId, path: &[u8]) -> Result<(), SourceError> {
        let written = match mode.kind() {
            EntryKind::Tree => {
                self.writer.directory(path).map_err(|error| self.refused(error))?;
                return self.directory(id, path);
            }
            EntryKind::Commit if mode.is_commit() => return Err(self.content(path, ContentFault::Submodule)),
            // `kind` takes whatever it does not know for a submodule
            EntryKind::Commit => return Err(self.content(path, ContentFault::Mode)),
            EntryKind::Link => {
                let target = self.blob(id)?;
                self.writer.symlink(path, &target)
            }
            kind @ (EntryKind::Blob | EntryKind::BlobExecutable) => {
                let bytes = self.blob(id)?;
                if bytes.len() < LFS_MAX_BYTES && bytes.starts_with(LFS_FIRST_LINE) {
                    return Err(self.content(path, ContentFault::LfsPointer));
                }
                self.writer.file(path, kind == EntryKind::BlobExecutable, &mut bytes.as_slice()).map(drop)
            }
        };
        written.map_err(|error| self.refused(error))
    }

    fn blob(&self, id: ObjectId) -> Result<Vec<u8>, SourceError> {
        match self.objects.read(id)? {
            (Kind::Blob, bytes) => Ok(bytes),
            (kind, _) => Err(self.shared.git(&format!("object {id} is a {kind}, not a blob"))),
        }
    }

    fn refused(&self, source: UnpackError) -> SourceError {
        SourceError::Unpack { url: self.shared.url.to_string(), source }
    }

    fn content(&self, path: &[u8], kind: ContentFault) -> SourceError {
        let path = String::from_utf8_lossy(path).chars().take(200).collect();
        SourceError::Content { url: self.shared.url.to_string(), path, kind }
    }
}
