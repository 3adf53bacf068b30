//! Opening files beneath a directory handle, through no symbolic link.
//!
//! `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` does it in the kernel (CVE-2025-53547, CVE-2026-33056);
//! where it is missing (Linux before 5.6, or a seccomp profile that denies it) each component is opened in turn with
//! `O_NOFOLLOW`, which gives the same for paths without `..`, the only ones that are given.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

/// Bytes of names that are read from a directory at once.
const NAMES_BYTES: usize = 8 << 10;
/// Flags with which a directory is opened.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Open the directory at `path`, which this process chose: its own symbolic links are followed.
pub(crate) fn open_root(path: &std::path::Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Open `path` (`None`: `dir` itself) beneath `dir`, through no symbolic link.
pub(crate) fn open(dir: impl AsFd, path: Option<&str>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let dir = dir.as_fd();
    let path = path.unwrap_or(".");
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(dir, path, flags, mode, resolve) {
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(dir, path, flags, mode),
        opened => Ok(opened?),
    }
}

/// What [`open`] does, without `openat2`.
fn open_stepwise(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parent, name) = super::path::split(path);
    if path.split('/').any(|component| component == "..") {
        return Err(Errno::XDEV.into());
    }
    let mut at: Option<OwnedFd> = None;
    for component in parent.into_iter().flat_map(|parent| parent.split('/')) {
        let here = at.as_ref().map_or(dir, AsFd::as_fd);
        let step = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(rustix::fs::openat(here, component, step, Mode::empty())?);
    }
    Ok(rustix::fs::openat(at.as_ref().map_or(dir, AsFd::as_fd), name, flags, mode)?)
}

/// Open the directory at `path` (`None`: `dir` itself) beneath `dir`.
pub(crate) fn open_directory(dir: impl AsFd, path: Option<&str>) -> io::Result<OwnedFd> {
    open(dir, path, DIRECTORY, Mode::empty())
}

/// Create the directory `path` beneath `dir` with exactly the mode 0755, whatever the umask (CVE-2023-38497), and open it.
pub(crate) fn create_directory(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let (parent, name) = super::path::split(path);
    let opened = open_parent(&dir, parent)?;
    let parent = opened.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    let made = open_directory(parent, Some(name))?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
    Ok(made)
}

/// Create the file `path` beneath `dir`, which must not exist, for writing by its owner alone.
pub(crate) fn create_file(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    open(dir, Some(path), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)
}

/// Create the symbolic link `path` beneath `dir`.
pub(crate) fn create_link(dir: impl AsFd, path: &str, target: &str) -> io::Result<()> {
    let (parent, name) = super::path::split(path);
    let opened = open_parent(&dir, parent)?;
    Ok(rustix::fs::symlinkat(target, opened.as_ref().map_or(dir.as_fd(), AsFd::as_fd), name)?)
}

/// The directory at `path` beneath `dir`; `None` if that is `dir` itself.
fn open_parent(dir: impl AsFd, path: Option<&str>) -> io::Result<Option<OwnedFd>> {
    path.map(|path| open_directory(dir, Some(path))).transpose()
}

/// The names in a directory, `.` and `..` excluded, in no order.
pub(crate) fn names(dir: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    // A handle is read from where its last reader left it.
    rustix::fs::seek(&dir, SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(NAMES_BYTES);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// What lies at `name` directly in `dir`, a link itself where it is one; `None` if nothing.
pub(crate) fn stat(dir: impl AsFd, name: &[u8]) -> io::Result<Option<rustix::fs::Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn no_symbolic_link_is_followed_with_or_without_openat2() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "f").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("sub/link")).unwrap();
        std::os::unix::fs::symlink("sub", dir.path().join("near")).unwrap();
        let root = open_root(dir.path()).unwrap();

        for open_it in [
            (|dir, path| open(dir, Some(path), OFlags::RDONLY, Mode::empty())) as fn(BorrowedFd<'_>, &str) -> _,
            |dir, path| open_stepwise(dir, path, OFlags::RDONLY, Mode::empty()),
        ] {
            assert!(open_it(root.as_fd(), "sub/file").is_ok());
            for refused in ["out/secret", "out", "near/file", "sub/link", "../x", "sub/../../x"] {
                assert!(open_it(root.as_fd(), refused).is_err(), "{refused}");
            }
        }
    }

    #[test]
    fn a_file_is_not_created_over_another_or_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "old").unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert!(create_file(&root, "file").is_err());
        assert!(create_file(&root, "link").is_err());
        assert!(!dir.path().join("elsewhere").exists());
        assert!(create_file(&root, "new").is_ok());
    }
}
