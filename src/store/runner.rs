//! The runner's binary on the volume, from where every Job mounts it.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::StoreError;
use super::layout::{RUNNER, RUNNER_BINARY, STAGING, runner_subpath};
use super::publish::seal_root;
use super::step::Step;
use super::tree;
use super::volume::{Directory, Store, is_no_directory, random_name};
use crate::archive::beneath;
use crate::digest::Digest;

/// A runner's binary on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRunner {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Path of its directory relative to the volume's root: the `subPath` of a Job's volume mount.
    pub subpath: String,
    /// The file that was read whole.
    identity: Identity,
}

/// What tells a file that was read whole from one that was changed or replaced since: each write gives it another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: u64,
    mode: u32,
    bytes: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { inode: file.ino(), mode: file.mode(), bytes: file.len(), changed }
    }
}

impl Store {
    /// Put a copy of the binary `source` on the volume under its digest, with mode 0555, unless it is there.
    ///
    /// # Errors
    /// If `source` cannot be read, or the volume not be written.
    pub fn install_runner(&self, source: &Path) -> Result<InstalledRunner, StoreError> {
        let unread = |error| StoreError::io("read", source, error);
        let mut binary = File::open(source).map_err(unread)?;
        let (digest, _) = Digest::of_reader(&binary).map_err(unread)?;
        binary.seek(SeekFrom::Start(0)).map_err(unread)?;
        let installed = |identity| InstalledRunner { digest, subpath: runner_subpath(&digest), identity };

        let _writing = self.lock();
        let (runners, name) = (self.directory(RUNNER)?, digest.hex());
        if let Some(identity) = whole_runner(&runners, &name, &digest)? {
            return Ok(installed(identity));
        }
        self.move_to_trash(&runners, &name, std::time::SystemTime::now())?;
        let (staging, work) = (self.directory(STAGING)?, random_name()?);
        let copied = self.copy_runner(&mut binary, &staging, &work, &runners, &digest);
        if copied.is_err() {
            self.discard(&work);
        }
        copied.map(installed)
    }

    /// Whether `runner` still is the file that was read when it was installed. Nothing of it is read for that.
    ///
    /// # Errors
    /// If the volume cannot be read.
    pub fn has_runner(&self, runner: &InstalledRunner) -> Result<bool, StoreError> {
        let runners = self.directory(RUNNER)?;
        let path = format!("{}/{RUNNER_BINARY}", runner.digest.hex());
        match open_binary(&runners, &path).and_then(|file| file.metadata()) {
            Ok(found) => Ok(Identity::of(&found) == runner.identity),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(StoreError::io("read", runners.path.join(path), error)),
        }
    }

    fn copy_runner(
        &self,
        binary: &mut File,
        staging: &Directory,
        work: &str,
        runners: &Directory,
        digest: &Digest,
    ) -> Result<Identity, StoreError> {
        self.step(Step::CopyRunner)?;
        let path = staging.path.join(work);
        let failed = |error: io::Error| StoreError::io("write", path.join(RUNNER_BINARY), error);
        let directory = Directory { fd: beneath::create_directory(&staging.fd, work).map_err(failed)?, path };
        let mut write = || -> io::Result<()> {
            let mut copy = File::from(beneath::create_file(&directory.fd, RUNNER_BINARY)?);
            io::copy(binary, &mut copy)?;
            tree::set_mode(&copy, 0o555)?;
            copy.sync_all()
        };
        write().map_err(|error| StoreError::io("write", directory.path.join(RUNNER_BINARY), error))?;
        directory.sync()?;
        let identity = whole_binary(&directory, digest)?.ok_or_else(|| {
            let source = io::Error::other("the binary changed while it was copied");
            StoreError::io("install", RUNNER_BINARY, source)
        })?;
        self.step(Step::RenameRunner)?;
        staging.rename_new(work, runners, &digest.hex())?;
        self.step(Step::SealRoot)?;
        seal_root(&directory)?;
        self.step(Step::SyncRunner)?;
        runners.sync()?;
        Ok(identity)
    }
}

/// The binary of the runner `digest` in the directory `name`, if it is whole. What lies there instead is none: also what
/// this user may not read, like a directory that kubelet made.
fn whole_runner(runners: &Directory, name: &str, digest: &Digest) -> Result<Option<Identity>, StoreError> {
    if !runners.is_directory(name)? {
        return Ok(None);
    }
    match runners.open(name) {
        Ok(Some(directory)) => whole_binary(&directory, digest),
        Ok(None) | Err(StoreError::Denied { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The binary in `directory`, if it is executable and has this digest.
fn whole_binary(directory: &Directory, digest: &Digest) -> Result<Option<Identity>, StoreError> {
    let read = || -> io::Result<Option<Identity>> {
        let file = open_binary(directory, RUNNER_BINARY)?;
        let found = file.metadata()?;
        let is_whole = found.is_file() && found.mode() & 0o111 == 0o111 && Digest::of_reader(file)?.0 == *digest;
        Ok(is_whole.then(|| Identity::of(&found)))
    };
    match read() {
        Err(error) if is_absent(&error) => Ok(None),
        read => read.map_err(|error| StoreError::io("read", directory.path.join(RUNNER_BINARY), error)),
    }
}

fn open_binary(directory: &Directory, path: &str) -> io::Result<File> {
    beneath::open(&directory.fd, Some(path), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).map(File::from)
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is_no_directory(error)
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
