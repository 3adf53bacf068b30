//! The tree check: that what is mounted is what the run pinned. kubelet mounts an empty directory where a tree is gone.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::digest::Digest;
use crate::protocol::{TREE_MARKER, TreePin};

/// Why a tree is not the pinned one.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Absolute, empty, or with `..`.
    #[error("entrypoint {0:?} is not a path inside the tree: it must be relative, without \"..\"")]
    Path(PathBuf),
    /// A symbolic link leads elsewhere.
    #[error("entrypoint {0:?} leaves the tree {1:?} through a symbolic link")]
    Leaves(PathBuf, PathBuf),
    /// Missing, unreadable, or no regular file.
    #[error("cannot read {0:?} of the tree: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// The marker holds something else.
    #[error("tree {0:?} is not the pinned one: its marker holds {1:?}, expected {2}")]
    Marker(PathBuf, String, Digest),
    /// The entrypoint's bytes differ.
    #[error("entrypoint {0:?} is not the pinned one: its digest is {1}, expected {2}")]
    Entrypoint(PathBuf, Digest, Digest),
}

/// Checks the marker of `tree` and the bytes of its `entrypoint` against `pin`.
/// A symbolic link inside the tree is followed, one that leaves it is refused.
pub fn check(tree: &Path, entrypoint: &Path, pin: &TreePin) -> Result<(), TreeError> {
    if entrypoint.as_os_str().is_empty() || !entrypoint.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(TreeError::Path(entrypoint.to_owned()));
    }
    let marker = tree.join(TREE_MARKER);
    let mut text = String::new();
    File::open(&marker)
        .and_then(|file| file.take(200).read_to_string(&mut text))
        .map_err(|error| TreeError::Read(marker, error))?;
    if text.trim_end() != pin.tree.to_string() {
        return Err(TreeError::Marker(tree.to_owned(), text, pin.tree));
    }
    let digest = digest_of_entrypoint(tree, entrypoint)?;
    if digest != pin.entrypoint {
        return Err(TreeError::Entrypoint(entrypoint.to_owned(), digest, pin.entrypoint));
    }
    Ok(())
}

fn digest_of_entrypoint(tree: &Path, entrypoint: &Path) -> Result<Digest, TreeError> {
    let path = tree.join(entrypoint);
    let failed = |error| TreeError::Read(path.clone(), error);
    let (root, target) = (tree.canonicalize().map_err(failed)?, path.canonicalize().map_err(failed)?);
    if !target.starts_with(&root) {
        return Err(TreeError::Leaves(entrypoint.to_owned(), tree.to_owned()));
    }
    // Opening a FIFO would block.
    if !target.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let (digest, _) = File::open(&target).and_then(Digest::of_reader).map_err(failed)?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn pin() -> TreePin {
        TreePin { tree: Digest::of("tree"), entrypoint: Digest::of("#!/bin/sh\n") }
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join(TREE_MARKER), format!("{}\n", pin().tree)).unwrap();
        fs::create_dir(tree.path().join("bin")).unwrap();
        fs::write(tree.path().join("bin/run"), "#!/bin/sh\n").unwrap();
        tree
    }

    fn error(tree: &Path, entrypoint: &str) -> String {
        check(tree, Path::new(entrypoint), &pin()).unwrap_err().to_string()
    }

    #[test]
    fn the_pinned_tree_passes_also_through_a_link_inside_it() {
        let tree = tree();
        symlink("bin/run", tree.path().join("link")).unwrap();
        for entrypoint in ["bin/run", "link"] {
            check(tree.path(), Path::new(entrypoint), &pin()).unwrap();
        }
    }

    #[test]
    fn an_empty_directory_is_refused() {
        let tree = tempfile::tempdir().unwrap();
        assert!(error(tree.path(), "bin/run").contains(".outrigger-tree\" of the tree: No such file"));
    }

    #[test]
    fn another_tree_is_refused() {
        let tree = tree();
        fs::write(tree.path().join(TREE_MARKER), "sha256:00").unwrap();
        let error = error(tree.path(), "bin/run");
        assert!(error.contains(&format!("its marker holds \"sha256:00\", expected {}", pin().tree)), "{error}");
    }

    #[test]
    fn a_changed_entrypoint_is_refused() {
        let tree = tree();
        fs::write(tree.path().join("bin/run"), "#!/bin/sh\nrm -rf /\n").unwrap();
        let error = error(tree.path(), "bin/run");
        assert!(error.starts_with("entrypoint \"bin/run\" is not the pinned one: its digest is sha256:"), "{error}");
    }

    #[test]
    fn an_entrypoint_outside_of_the_tree_is_refused() {
        let (tree, outside) = (tree(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("run"), "#!/bin/sh\n").unwrap();
        symlink(outside.path(), tree.path().join("out")).unwrap();
        assert!(error(tree.path(), "out/run").contains("leaves the tree"));
        for entrypoint in ["", "/bin/sh", "../run", "bin/../../run", "."] {
            let error = error(tree.path(), entrypoint);
            assert!(error.contains("must be relative, without \"..\""), "{entrypoint}: {error}");
        }
    }

    #[test]
    fn a_directory_or_pipe_is_no_entrypoint() {
        assert!(error(tree().path(), "bin").contains("not a regular file"));
    }
}
