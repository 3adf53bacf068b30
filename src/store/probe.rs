//! Try out on the volume what the store is built on.

use std::io::{self, Write};

use rustix::fs::{AtFlags, StatVfsMountFlags};

use super::error::StoreError;
use super::tree;
use super::volume::{Directory, random_name};
use crate::archive::beneath;

/// Do in `staging` what the store does later, and clean up.
pub(super) fn probe(staging: &Directory) -> Result<(), StoreError> {
    check_mount(staging)?;
    let doing = || format!("probe volume {}", staging.path.display());
    let name = format!("probe-{}", random_name()?);
    let failed = |error| StoreError::io("probe volume", &staging.path, error);
    let fd = beneath::create_directory(&staging.fd, &name).map_err(failed)?;
    let directory = Directory { fd, path: staging.path.join(&name) };
    let probed = try_out(&directory);
    tree::remove(&staging.fd, &name, &staging.path)?;
    match probed {
        Ok(()) => Ok(()),
        Err(Fault::Lacks(cause)) => Err(StoreError::Unsupported { doing: doing(), cause: cause.to_owned() }),
        Err(Fault::Failed(error)) => Err(failed(error)),
    }
}

/// Refuse the mount that holds `directory` if nothing can be written or run on it.
pub(super) fn check_mount(directory: &Directory) -> Result<(), StoreError> {
    let vfs = rustix::fs::fstatvfs(&directory.fd);
    let vfs = vfs.map_err(|error| StoreError::io("probe volume", &directory.path, error.into()))?;
    refuse_mount(vfs.f_flag, || format!("probe volume {}", directory.path.display()))
}

fn refuse_mount(flags: StatVfsMountFlags, doing: impl Fn() -> String) -> Result<(), StoreError> {
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(StoreError::ReadOnly { doing: doing() });
    }
    if flags.contains(StatVfsMountFlags::NOEXEC) {
        return Err(StoreError::NoExec { doing: doing() });
    }
    Ok(())
}

enum Fault {
    Lacks(&'static str),
    Failed(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn try_out(directory: &Directory) -> Result<(), Fault> {
    let here = &directory.fd;
    let mut file = std::fs::File::from(beneath::create_file(here, "file")?);
    file.write_all(b"#!\n")?;
    file.sync_all()?;
    for mode in [0o444, 0o555] {
        tree::set_mode(&file, mode)?;
        let kept = rustix::fs::fstat(&file).map_err(io::Error::from)?.st_mode & 0o777;
        if kept != mode {
            return Err(Fault::Lacks("modes, the execute bit among them, are not kept"));
        }
    }
    for (link, target) in [("link", "file"), ("other", "elsewhere")] {
        beneath::create_link(here, link, target).map_err(|_| Fault::Lacks("symbolic links cannot be made"))?;
    }
    rustix::fs::renameat(here, "other", here, "link").map_err(|_| Fault::Lacks("rename does not replace a link"))?;
    let target = rustix::fs::readlinkat(here, "link", Vec::new()).map_err(io::Error::from)?;
    if target.as_bytes() != b"elsewhere" || beneath::stat(here, b"other")?.is_some() {
        return Err(Fault::Lacks("rename does not replace a link"));
    }
    rustix::fs::unlinkat(here, "link", AtFlags::empty()).map_err(io::Error::from)?;
    tree::sync_directory(here).map_err(|_| Fault::Lacks("a directory cannot be synced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_on_which_nothing_runs_is_refused() {
        let refused = |flags| refuse_mount(flags, || "probe volume /v".into()).map_err(|error| error.to_string());
        assert_eq!(refused(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV), Ok(()));
        assert_eq!(
            refused(StatVfsMountFlags::NOEXEC),
            Err("probe volume /v: the volume is mounted noexec, so no extension could run; mount it without".into())
        );
        assert_eq!(
            refused(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC),
            Err("probe volume /v: the volume is read-only; mount it read-write, with access mode ReadWriteMany".into())
        );
    }
}
