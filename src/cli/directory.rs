//! An extension's directory on this machine: its manifest and its entrypoint.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::Access;

use crate::manifest::{self, FILE_NAMES, MANIFEST_BYTES};
use crate::runner::entrypoint::{self, Entrypoint, HEAD_BYTES, StartError};

/// The manifest in `dir`: its path and its bytes. More than [`MANIFEST_BYTES`] are cut, which the reader refuses.
pub(super) fn manifest(dir: &Path) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    if !dir.is_dir() {
        bail!("{} is no directory; expected is the extension's directory", dir.display());
    }
    let found = FILE_NAMES.iter().map(|name| dir.join(name)).find(|path| path.exists());
    let Some(path) = found else { bail!("{} holds no {}", dir.display(), FILE_NAMES.join(" or ")) };
    let bytes = read(&path)?;
    Ok((path, bytes))
}

/// The bytes of a manifest.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![];
    File::open(path)
        .and_then(|file| file.take(MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes)
}

/// Reads the manifest in `dir`. Errors: all of its problems, one per line.
pub(super) fn parsed(dir: &Path) -> anyhow::Result<manifest::Manifest> {
    let (path, bytes) = manifest(dir)?;
    manifest::parse(&bytes, &path.display().to_string()).map_err(anyhow::Error::new)
}

/// What keeps the entrypoint at `path` beneath `dir` from being started, whatever interpreters a machine has.
pub(super) fn entrypoint_problem(dir: &Path, path: &str, language: Option<&str>) -> Option<String> {
    let file = dir.join(path);
    let metadata = match std::fs::metadata(&file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some(format!("{path:?} does not exist in {}: create it, or correct the path", dir.display()));
        }
        Err(error) => return Some(format!("{path:?} cannot be read: {error}")),
    };
    if !metadata.is_file() {
        return Some(format!("{path:?} is no file; expected is the script or program to start"));
    }
    let leaves = match (dir.canonicalize(), file.canonicalize()) {
        (Ok(dir), Ok(file)) => !file.starts_with(dir),
        _ => false,
    };
    if leaves {
        return Some(format!("{path:?} is a link out of {}, which no installed tree may hold", dir.display()));
    }
    let mut head = Vec::new();
    if let Err(error) = File::open(&file).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head)) {
        return Some(format!("{path:?} cannot be read: {error}"));
    }
    let executable = rustix::fs::access(&file, Access::EXEC_OK).is_ok();
    let entrypoint = Entrypoint { path: Path::new(path), executable, head: &head, language };
    match entrypoint::decide(&entrypoint, |name| Some(name.into())) {
        // A program for another machine than this one may be right for the cluster's.
        Err(StartError::NotAProgram { .. }) if head.starts_with(b"\x7fELF") => None,
        decided => decided.err().map(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_for_another_machine_and_an_executable_text_are_no_problem_and_another_binary_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run");
        let problem = |head: &str| {
            fs::write(&file, head).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            entrypoint_problem(dir.path(), "run", None)
        };
        assert_eq!(problem(&format!("\u{7f}ELF{}", "\u{1}".repeat(60))), None);
        assert_eq!(problem("#!/bin/sh\n"), None);
        assert_eq!(problem("echo"), None);
        let said = problem("MZ\0").unwrap();
        assert!(said.starts_with("\"run\" is no program that this machine can execute"), "{said}");
    }
}
