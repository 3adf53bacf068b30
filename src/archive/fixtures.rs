//! What the tests of unpacking share: a staging directory with something outside it, and what was made in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Limits, TreeSummary, TreeWriter, UnpackError, UnpackOptions, unpack};

/// A directory to unpack into, `tree`, and a directory beside it that no archive may touch, `outside`.
pub(super) struct Staging(tempfile::TempDir);

impl Staging {
    pub(super) fn new() -> Self {
        let staging = Self(tempfile::tempdir().unwrap());
        fs::create_dir(staging.tree()).unwrap();
        fs::create_dir(staging.outside()).unwrap();
        fs::write(staging.outside().join("victim"), "untouched").unwrap();
        staging
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    pub(super) fn writer(&self, limits: Limits) -> TreeWriter {
        TreeWriter::new(&self.tree(), limits).unwrap()
    }

    /// Unpack `archive` and finish the tree.
    pub(super) fn unpack(&self, archive: &[u8], limits: Limits, strip: bool) -> Result<TreeSummary, UnpackError> {
        let mut writer = self.writer(limits);
        let options = UnpackOptions { strip_single_top_level: strip };
        let unpacked = unpack(std::io::Cursor::new(archive), &mut writer, options).and_then(|_| writer.finish());
        self.assert_nothing_outside();
        unpacked
    }

    /// What was not given to the writer is as it was.
    pub(super) fn assert_nothing_outside(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.0.path()), ["outside", "tree"]);
        assert_eq!(names(&self.outside()), ["victim"]);
        assert_eq!(fs::read_to_string(self.outside().join("victim")).unwrap(), "untouched");
        assert_eq!(fs::metadata(self.outside()).unwrap().mode() & 0o022, 0);
    }

    /// All that is in the tree: `dir`, `0644 content`, `-> target`.
    pub(super) fn content(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        collect(&self.tree(), &self.tree(), &mut found);
        found
    }
}

fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            collect(root, &path, found);
            format!("dir {:04o}", metadata.mode() & 0o7777)
        } else if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else {
            assert!(metadata.is_file(), "{name}");
            format!("{:04o} {}", metadata.mode() & 0o7777, String::from_utf8_lossy(&fs::read(&path).unwrap()))
        };
        found.insert(name, what);
    }
}

/// The entries that a test expects, in the form of [`Staging::content`].
pub(super) fn expected(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
}
