//! What can be wrong with the volume.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::listing::Drift;
use crate::archive::LinkFault;
use crate::digest::Digest;

/// Why the store could not do something. `doing` says what and to which path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space, inode or quota left.
    #[error("{doing}: no space or no inode is left on the volume; enlarge it or remove unused extensions")]
    NoSpace {
        /// What was tried.
        doing: String,
    },
    /// Mounted read-only.
    #[error("{doing}: the volume is read-only; mount it read-write, with access mode ReadWriteMany")]
    ReadOnly {
        /// What was tried.
        doing: String,
    },
    /// The operator's user may not.
    #[error("{doing}: permission denied; the volume must belong to the operator's user or fsGroup")]
    Denied {
        /// What was tried.
        doing: String,
    },
    /// The operator's user may not read one entry of a tree.
    #[error("{doing}: permission denied; the volume must belong to the operator's user or fsGroup")]
    Unreadable {
        /// What was tried.
        doing: String,
        /// The path in the tree.
        path: String,
    },
    /// The volume went away under the operator.
    #[error("{doing}: the volume is gone or does not answer ({source}); check its server and the mount")]
    Vanished {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Staging and store are not on the same file system. Never worked around by copying: a copy is not atomic.
    #[error("{doing}: the directories are on different file systems; the volume's root must be one file system")]
    CrossDevice {
        /// What was tried.
        doing: String,
    },
    /// Mounted `noexec`.
    #[error("{doing}: the volume is mounted noexec, so no extension could run; mount it without")]
    NoExec {
        /// What was tried.
        doing: String,
    },
    /// The file system lacks something that the store is built on.
    #[error("{doing}: the file system cannot do this ({cause}); use one with symbolic links and Unix modes")]
    Unsupported {
        /// What was tried.
        doing: String,
        /// What the system said or did.
        cause: String,
    },
    /// Something that is not the operator's lies where a link or a directory of the store must be. It is never deleted.
    #[error("{doing}: {path} is in the way ({what}) and was not made by outrigger; move it away")]
    ForeignFile {
        /// What was tried.
        doing: &'static str,
        /// Its path, relative to the volume's root.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// No such tree in the store.
    #[error("find tree {digest}: it is not in the store")]
    NoSuchTree {
        /// The tree.
        digest: Digest,
    },
    /// The tree is not what was published.
    #[error("verify tree {digest}: {drift}")]
    Drifted {
        /// The tree.
        digest: Digest,
        /// The first difference.
        drift: Drift,
    },
    /// The sub-directory that should become the tree is not there.
    #[error("publish: {path:?} is no directory of the source; check source.path")]
    NoSuchDirectory {
        /// The path within the source.
        path: String,
    },
    /// A link of the tree leads out of it: out of the sub-directory that was chosen, for example.
    #[error("publish: symbolic link {path:?} to {target:?}: {fault}")]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// What is wrong with it.
        fault: LinkFault,
    },
    /// The tree holds what no tree may hold.
    #[error("publish: {path:?}: {what}")]
    Unpublishable {
        /// The path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file is larger than its reader accepts.
    #[error("read {path:?} of tree {digest}: it has {bytes} bytes; at most {limit} are allowed")]
    FileTooLarge {
        /// The tree.
        digest: Digest,
        /// The path in the tree.
        path: String,
        /// Bytes it has.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// This process is no longer the one that may write.
    #[error("change the volume ({step}): this replica no longer leads; the one that does will")]
    Fenced {
        /// The step that was not made.
        step: String,
    },
    /// The volume is another operator's, which would take this one's work for leftovers.
    #[error(
        "open volume: it belongs to the operator of {owner}, and this is that of {own}; give each operator a volume of its own \
         or, if the other is gone for good, remove {path}"
    )]
    Owned {
        /// Whose the volume is.
        owner: String,
        /// Who this is.
        own: String,
        /// The file that says so, relative to the volume's root.
        path: String,
    },
    /// Anything else.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// The error for `source`, which came while `doing` (a verb in the infinitive) to `path`.
    pub(crate) fn io(doing: &str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let doing = format!("{doing} {}", path.as_ref().display());
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace { doing },
            Some(Errno::ROFS) => Self::ReadOnly { doing },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { doing },
            Some(Errno::XDEV) => Self::CrossDevice { doing },
            Some(
                Errno::STALE
                | Errno::IO
                | Errno::REMOTEIO
                | Errno::NODEV
                | Errno::NXIO
                | Errno::NOTCONN
                | Errno::SHUTDOWN
                | Errno::TIMEDOUT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::CONNREFUSED,
            ) => Self::Vanished { doing, source },
            _ => Self::Io { doing, source },
        }
    }

    /// Whether a tree is at fault and not the volume, so that publishing it again repairs it.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NoSuchTree { .. } | Self::Drifted { .. })
    }

    /// Whether the volume as a whole is to blame and not one thing on it: what comes next would fail, too.
    fn is_of_the_volume(&self) -> bool {
        matches!(self, Self::ReadOnly { .. } | Self::Vanished { .. } | Self::Fenced { .. } | Self::Owned { .. })
    }

    /// Whether trying again may help without a change of the extension: the volume is to blame, not the source.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSpace { .. }
            | Self::ReadOnly { .. }
            | Self::Denied { .. }
            | Self::Unreadable { .. }
            | Self::Vanished { .. }
            | Self::CrossDevice { .. }
            | Self::NoExec { .. }
            | Self::Unsupported { .. }
            | Self::NoSuchTree { .. }
            | Self::Drifted { .. }
            | Self::ForeignFile { .. }
            | Self::Fenced { .. }
            | Self::Owned { .. }
            | Self::Io { .. } => true,
            Self::NoSuchDirectory { .. }
            | Self::Link { .. }
            | Self::Unpublishable { .. }
            | Self::FileTooLarge { .. } => false,
        }
    }
}

/// What could not be done for single things, so that one does not hold up the others.
#[derive(Debug, Default)]
pub(super) struct Troubles(Option<StoreError>);

impl Troubles {
    /// What was `done`; `None` if it failed, which is logged and remembered.
    ///
    /// # Errors
    /// What fails for all others, too.
    pub(super) fn pass<T>(&mut self, done: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.is_of_the_volume() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "something on the volume is left as it is");
                self.0.get_or_insert(error);
                Ok(None)
            }
        }
    }

    /// `done`, unless something failed.
    ///
    /// # Errors
    /// The first that failed.
    pub(super) fn end<T>(self, done: T) -> Result<T, StoreError> {
        self.0.map_or(Ok(done), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno) -> StoreError {
        StoreError::io("write", "/v/extensions/x", errno.into())
    }

    #[test]
    fn each_fault_of_the_volume_says_what_to_do() {
        for (errno, text) in [
            (
                Errno::NOSPC,
                "write /v/extensions/x: no space or no inode is left on the volume; enlarge it or remove unused extensions",
            ),
            (
                Errno::DQUOT,
                "write /v/extensions/x: no space or no inode is left on the volume; enlarge it or remove unused extensions",
            ),
            (
                Errno::ROFS,
                "write /v/extensions/x: the volume is read-only; mount it read-write, with access mode ReadWriteMany",
            ),
            (
                Errno::ACCESS,
                "write /v/extensions/x: permission denied; the volume must belong to the operator's user or fsGroup",
            ),
            (
                Errno::XDEV,
                "write /v/extensions/x: the directories are on different file systems; the volume's root must be one file system",
            ),
            (
                Errno::STALE,
                "write /v/extensions/x: the volume is gone or does not answer (Stale file handle (os error 116)); check its server and the mount",
            ),
        ] {
            let error = of(errno);
            assert_eq!(error.to_string(), text);
            assert!(error.is_transient(), "{error}");
        }
        assert!(matches!(of(Errno::NOTDIR), StoreError::Io { .. }));
    }

    #[test]
    fn faults_of_the_source_are_not_tried_again() {
        let error = StoreError::NoSuchDirectory { path: "a/b".into() };
        assert!(!error.is_transient());
        assert_eq!(error.to_string(), "publish: \"a/b\" is no directory of the source; check source.path");
    }

    #[test]
    fn what_is_in_the_way_may_be_moved_away_without_a_change_of_the_extension() {
        let path = "extensions/x".to_owned();
        let error = StoreError::ForeignFile { doing: "link extension", path, what: "a directory" };
        assert!(error.is_transient() && !error.is_damage());
        assert_eq!(
            error.to_string(),
            "link extension: extensions/x is in the way (a directory) and was not made by outrigger; move it away"
        );
    }
}
