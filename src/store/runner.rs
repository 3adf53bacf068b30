//! The runner's binary on the volume, from where every Job mounts it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::StoreError;
use super::layout::{RUNNER, RUNNER_BINARY, STAGING, runner_subpath};
use super::publish::seal_root;
use super::tree;
use super::volume::{Directory, Step, Store, random_name};
use crate::archive::beneath;
use crate::digest::Digest;

/// A runner's binary on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRunner {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Path of its directory relative to the volume's root: the `subPath` of a Job's volume mount.
    pub subpath: String,
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
        let installed = InstalledRunner { digest, subpath: runner_subpath(&digest) };

        let _writing = self.lock();
        let (runners, name) = (self.directory(RUNNER)?, digest.hex());
        if let Some(there) = runners.open(&name)? {
            if is_binary(&there, &digest)? {
                return Ok(installed);
            }
            self.move_to_trash(&runners, &name, std::time::SystemTime::now())?;
        }
        let (staging, work) = (self.directory(STAGING)?, random_name()?);
        let copied = self.copy_runner(&mut binary, &staging, &work, &runners, &digest);
        if copied.is_err() {
            self.discard(&work);
        }
        copied.map(|()| installed)
    }

    fn copy_runner(
        &self,
        binary: &mut File,
        staging: &Directory,
        work: &str,
        runners: &Directory,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let path = staging.path.join(work);
        let failed = |error: io::Error| StoreError::io("write", path.join(RUNNER_BINARY), error);
        beneath::create_directory(&staging.fd, work).map_err(failed)?;
        let directory = Directory { fd: beneath::open_directory(&staging.fd, Some(work)).map_err(failed)?, path };
        let mut write = || -> io::Result<()> {
            let mut copy = File::from(beneath::create_file(&directory.fd, RUNNER_BINARY)?);
            io::copy(binary, &mut copy)?;
            tree::set_mode(&copy, 0o555)?;
            copy.sync_all()
        };
        write().map_err(|error| StoreError::io("write", directory.path.join(RUNNER_BINARY), error))?;
        directory.sync()?;
        if !is_binary(&directory, digest)? {
            let source = io::Error::other("the binary changed while it was copied");
            return Err(StoreError::io("install", RUNNER_BINARY, source));
        }
        self.step(Step::RenameRunner)?;
        staging.rename_new(work, runners, &digest.hex())?;
        seal_root(&directory)?;
        runners.sync()
    }
}

/// Whether the binary in `directory` is executable and has this digest.
fn is_binary(directory: &Directory, digest: &Digest) -> Result<bool, StoreError> {
    let read = || -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(beneath::open(&directory.fd, Some(RUNNER_BINARY), flags, Mode::empty())?);
        let mode = rustix::fs::fstat(&file)?.st_mode;
        Ok(mode & 0o111 == 0o111 && Digest::of_reader(file)?.0 == *digest)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        read => read.map_err(|error| StoreError::io("read", directory.path.join(RUNNER_BINARY), error)),
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
