//! Walking a tree on the volume: listing, sealing, syncing and removing it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::error::StoreError;
use super::listing::{Entry, Listing};
use crate::archive::{RelativePath, beneath};
use crate::digest::Digest;
use crate::protocol::TREE_MARKER;

/// Entries of a tree beyond which a walk gives up: ten times what an archive may hold by default.
const MAX_ENTRIES: usize = 100_000;
/// Depth of a tree beyond which a walk gives up: each level holds a handle.
const MAX_DEPTH: usize = 64;

/// Something that lies in a tree.
struct Found<'a> {
    /// The directory that holds it.
    directory: &'a OwnedFd,
    /// It itself, if it is a directory.
    opened: Option<&'a OwnedFd>,
    /// Its name there.
    name: &'a str,
    /// Its path in the tree.
    path: RelativePath,
    /// What it is.
    kind: FileType,
    /// Its permission bits.
    mode: u32,
}

/// Give all that lies in the tree `root` but its marker to `visit`, what a directory holds before the directory.
fn walk(
    root: &OwnedFd,
    shown: &Path,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut seen = 0;
    walk_directory(root, None, 1, shown, &mut seen, visit)
}

fn walk_directory(
    directory: &OwnedFd,
    at: Option<&RelativePath>,
    depth: usize,
    shown: &Path,
    seen: &mut usize,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for name in beneath::names(directory).map_err(|error| StoreError::io("list", shown, error))? {
        if at.is_none() && name == TREE_MARKER.as_bytes() {
            continue;
        }
        let unpublishable = |what: String| {
            let name = String::from_utf8_lossy(&name);
            let path = at.map_or_else(|| name.to_string(), |at| format!("{at}/{name}"));
            StoreError::Unpublishable { path, what }
        };
        *seen += 1;
        if *seen > MAX_ENTRIES || depth > MAX_DEPTH {
            return Err(unpublishable(format!("at most {MAX_ENTRIES} entries and {MAX_DEPTH} levels are allowed")));
        }
        let parsed = RelativePath::parse(&name).map_err(|fault| unpublishable(fault.to_string()))?;
        let path = at.map_or_else(|| parsed.clone(), |at| at.join(&parsed));
        let failed = |error: io::Error| unread(shown, &path, error);
        let Some(stat) = beneath::stat(directory, &name).map_err(failed)? else {
            continue;
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut opened = None;
        if kind == FileType::Directory {
            let below = opened.insert(beneath::open_directory(directory, Some(parsed.as_str())).map_err(failed)?);
            walk_directory(below, Some(&path), depth + 1, shown, seen, visit)?;
        }
        let (name, opened, mode) = (parsed.as_str(), opened.as_ref(), stat.st_mode & 0o7777);
        visit(&Found { directory, opened, name, path, kind, mode })?;
    }
    Ok(())
}

/// What is in the tree `root`; `shown` is its path in messages.
pub(super) fn list(root: &OwnedFd, shown: &Path) -> Result<Listing, StoreError> {
    list_and(root, shown, |_, _| Ok(()))
}

/// What is in the tree `root`, which is [sealed](seal) meanwhile.
pub(super) fn list_and_seal(root: &OwnedFd, shown: &Path) -> Result<Listing, StoreError> {
    let listing = list_and(root, shown, |found, file| seal_one(found, file, shown))?;
    seal_top(root, shown)?;
    Ok(listing)
}

/// What is in the tree `root`. Each file and directory is given to `then` besides, opened.
fn list_and(
    root: &OwnedFd,
    shown: &Path,
    then: impl Fn(&Found<'_>, BorrowedFd<'_>) -> Result<(), StoreError>,
) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    walk(root, shown, &mut |found| {
        let failed = |error: io::Error| unread(shown, &found.path, error);
        let entry = match found.kind {
            FileType::Directory => {
                found.opened.map_or(Ok(()), |directory| then(found, directory.as_fd()))?;
                Entry::Directory
            }
            FileType::RegularFile => {
                let file = open_file(found).map_err(failed)?;
                let (digest, bytes) = Digest::of_reader(&file).map_err(failed)?;
                then(found, file.as_fd())?;
                Entry::File { executable: found.mode & 0o111 != 0, digest, bytes }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(found.directory, found.name, Vec::new());
                let target = target.map_err(|error| failed(error.into()))?.into_string().ok();
                let target = target.filter(|target| !target.contains(char::is_control));
                let target = target.ok_or_else(|| unpublishable(found, "its target is no usable path"))?;
                Entry::Link { target }
            }
            _ => return Err(unpublishable(found, "it is no file, directory or symbolic link")),
        };
        listing.insert(&found.path, entry);
        Ok(())
    })?;
    Ok(listing)
}

fn unpublishable(found: &Found<'_>, what: &str) -> StoreError {
    StoreError::Unpublishable { path: found.path.to_string(), what: what.to_owned() }
}

/// The error for the entry `path` that could not be read. That one may not read it says nothing about the volume.
fn unread(shown: &Path, path: &RelativePath, error: io::Error) -> StoreError {
    match StoreError::io("read", shown.join(path), error) {
        StoreError::Denied { doing } => StoreError::Unreadable { doing, path: path.to_string() },
        error => error,
    }
}

fn open_file(found: &Found<'_>) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    beneath::open(found.directory, Some(found.name), flags, Mode::empty()).map(std::fs::File::from)
}

/// Take the write bits from the tree `root`: files 0444 or 0555, directories 0555. The root itself gets 0755 whatever the
/// umask, because without root's rights a directory that is not writable cannot be moved to another parent.
pub(super) fn seal(root: &OwnedFd, shown: &Path) -> Result<(), StoreError> {
    walk(root, shown, &mut |found| match (found.kind, found.opened) {
        (_, Some(directory)) => seal_one(found, directory.as_fd(), shown),
        (FileType::RegularFile, None) => {
            let file = open_file(found).map_err(|error| StoreError::io("open", shown.join(&found.path), error))?;
            seal_one(found, file.as_fd(), shown)
        }
        _ => Ok(()),
    })?;
    seal_top(root, shown)
}

fn seal_one(found: &Found<'_>, opened: BorrowedFd<'_>, shown: &Path) -> Result<(), StoreError> {
    let mode = match found.kind {
        FileType::RegularFile if found.mode & 0o111 == 0 => 0o444,
        _ => 0o555,
    };
    set_mode(opened, mode).map_err(|error| StoreError::io("chmod", shown.join(&found.path), error))
}

fn seal_top(root: &OwnedFd, shown: &Path) -> Result<(), StoreError> {
    set_mode(root, 0o755).map_err(|error| StoreError::io("chmod", shown, error))
}

/// Write the tree `root` to disk, each file and directory for itself: everything, or an error.
pub(super) fn sync(root: &OwnedFd, shown: &Path) -> Result<(), StoreError> {
    walk(root, shown, &mut |found| match found.kind {
        FileType::RegularFile | FileType::Directory => open_file(found)
            .and_then(|file| file.sync_all())
            .map_err(|error| StoreError::io("sync", shown.join(&found.path), error)),
        _ => Ok(()),
    })?;
    sync_directory(root).map_err(|error| StoreError::io("sync", shown, error))
}

/// Write a directory's names to disk.
pub(super) fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory)?)
}

/// Set permission bits, whatever the umask.
pub(super) fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Remove `name` from `directory`, at `shown`, with all that it holds. Directories are made writable first, without
/// which only root could empty them. Nothing is followed out of it.
pub(super) fn remove(directory: &OwnedFd, name: &str, shown: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::io("remove", shown.join(name), error);
    let Some(stat) = beneath::stat(directory, name.as_bytes()).map_err(failed)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(|error| failed(error.into()));
    }
    if rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    make_writable(directory, name).map_err(failed)?;
    std::fs::remove_dir_all(shown.join(name)).map_err(failed)
}

fn make_writable(parent: &OwnedFd, name: &str) -> io::Result<()> {
    let directory = match open_writable(parent, name) {
        // Another's, like the empty directories that kubelet makes. Whether it can be removed, removing it will tell.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?,
    };
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let is_directory = || -> io::Result<bool> {
            let stat = beneath::stat(&directory, name.as_bytes())?;
            Ok(stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
        };
        if name != "." && name != ".." && is_directory()? {
            make_writable(&directory, name)?;
        }
    }
    Ok(())
}

fn open_writable(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let directory = match beneath::open_directory(parent, Some(name)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // It may be closed to its own owner, who can still give himself the rights: by a handle that needs none.
            let closed = beneath::open(parent, Some(name), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            let path = format!("/proc/self/fd/{}", closed.as_raw_fd());
            rustix::fs::chmod(path, Mode::RWXU)?;
            beneath::open_directory(parent, Some(name))
        }
        opened => opened,
    }?;
    set_mode(&directory, 0o700)?;
    Ok(directory)
}
