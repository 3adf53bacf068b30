//! Git repositories and archives of the probe extension, as a test wants them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{World, root, run};

/// A repository that the git server serves: a work tree, and the bare repository that it is pushed to.
pub struct Repository {
    /// URL for `spec.source.url`.
    pub url: String,
    work: PathBuf,
}

impl Repository {
    /// A repository with the probe extension on branch `main`.
    pub fn probe(world: &World, name: &str) -> Self {
        Self::of(world, name, &root().join("tests/e2e/probe"))
    }

    /// A repository with the files of a directory on branch `main`.
    pub fn of(world: &World, name: &str, files: &Path) -> Self {
        let work = world.dir.path().join("work").join(name);
        let bare = world.dir.path().join("git").join(format!("{name}.git"));
        std::fs::create_dir_all(&work).unwrap();
        git(&work, &["init", "-q", "-b", "main"]);
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&bare)).unwrap();
        git(&work, &["remote", "add", "origin", &bare.display().to_string()]);
        run(Command::new("cp").arg("-rT").arg(files).arg(&work)).unwrap();
        let repository = Self { url: format!("{}/{name}.git", world.git.trim_end_matches('/')), work };
        repository.push("first");
        repository
    }

    /// Writes a file of the work tree.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        std::fs::write(self.work.join(path), text).unwrap();
        self
    }

    /// Replaces text in a file of the work tree.
    pub fn replace(&self, path: &str, from: &str, to: &str) -> &Self {
        let text = std::fs::read_to_string(self.work.join(path)).unwrap();
        assert!(text.contains(from), "{path} has no {from:?}");
        self.write(path, &text.replace(from, to))
    }

    /// Commits everything and pushes; the commit.
    pub fn push(&self, message: &str) -> String {
        git(&self.work, &["add", "-A"]);
        git(&self.work, &["-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-qm", message]);
        git(&self.work, &["push", "-q", "origin", "HEAD"]);
        git(&self.work, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Packs the work tree below one top-level directory, as forges do; the archive's URL.
    pub fn archive(&self, world: &World, file: &str) -> String {
        let format = if file.ends_with(".zip") { "zip" } else { "tar.gz" };
        let out = world.dir.path().join("archives").join(file);
        let output = format!("--output={}", out.display());
        git(&self.work, &["archive", &format!("--format={format}"), "--prefix=probe-main/", &output, "HEAD"]);
        format!("{}/{file}", world.archives.trim_end_matches('/'))
    }
}

fn git(work: &Path, arguments: &[&str]) -> String {
    run(Command::new("git").arg("-C").arg(work).args(arguments)).unwrap()
}
