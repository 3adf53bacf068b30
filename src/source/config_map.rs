//! The files of a ConfigMap: its keys, at the root of the tree. Pure but for writing them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::SourceError;
use crate::archive::{Limits, TreeSummary, TreeWriter, UnpackError};
use crate::digest::Digest;

/// The content of a ConfigMap, as it was read.
#[derive(Debug, Clone)]
pub struct ConfigMapFiles {
    name: String,
    files: Arc<BTreeMap<String, Vec<u8>>>,
    digest: Digest,
}

impl ConfigMapFiles {
    /// The content of the ConfigMap `name`: the entries of `data` and of `binaryData`, whose keys the API keeps apart.
    pub fn new(name: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let mut content = Vec::new();
        for (key, value) in &files {
            // lengths, so that no two contents are the same bytes
            content.extend(format!("{} {key} {} ", key.len(), value.len()).into_bytes());
            content.extend(value);
        }
        Self { name: name.to_owned(), files: Arc::new(files), digest: Digest::of(content) }
    }

    /// What is equal to these files, and keeps no byte of them in memory.
    pub fn without_content(&self) -> Self {
        Self { files: Arc::default(), ..self.clone() }
    }

    /// The ConfigMap's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `configmap/<name>@sha256:<64 hex digits>`: follows from the content alone, not from when it was written.
    pub fn revision(&self) -> String {
        format!("configmap/{}@{}", self.name, self.digest)
    }

    /// Write the files into the existing, empty directory `dest`. Those that begin with `#!` are executable.
    ///
    /// # Errors
    /// [`SourceError::Unpack`] names the key and the rule that it breaks.
    pub fn write(&self, dest: &Path, limits: Limits) -> Result<TreeSummary, SourceError> {
        let write = || -> Result<TreeSummary, UnpackError> {
            let mut writer = TreeWriter::new(dest, limits)?;
            for (key, value) in self.files.iter() {
                writer.file(key.as_bytes(), value.starts_with(b"#!"), &mut value.as_slice())?;
            }
            writer.finish()
        };
        write().map_err(|source| SourceError::Unpack { url: format!("ConfigMap {}", self.name), source })
    }
}

impl PartialEq for ConfigMapFiles {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.digest) == (&other.name, &other.digest)
    }
}

impl Eq for ConfigMapFiles {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(of: &[(&str, &str)]) -> ConfigMapFiles {
        ConfigMapFiles::new("probe", of.iter().map(|(key, value)| (key.to_string(), value.as_bytes().into())).collect())
    }

    #[test]
    fn keys_become_files_and_scripts_are_executable() {
        let dir = tempfile::tempdir().unwrap();
        let summary = files(&[("run.sh", "#!/bin/sh\n"), ("manifest.yaml", "x")]).write(dir.path(), Limits::default());
        assert_eq!(summary.unwrap().files, 2);
        let mode = |file: &str| std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("run.sh"), mode("manifest.yaml")), (0o755, 0o644));
        assert_eq!(std::fs::read_to_string(dir.path().join("run.sh")).unwrap(), "#!/bin/sh\n");
    }

    #[test]
    fn the_revision_follows_from_the_content_alone() {
        let one = files(&[("a", "1"), ("b", "2")]);
        assert_eq!(one.revision(), files(&[("b", "2"), ("a", "1")]).revision());
        assert!(one.revision().starts_with("configmap/probe@sha256:"));
        assert_eq!(one.without_content(), one);
        for other in [&[("a", "1"), ("b", "3")][..], &[("a", "1 1 b 1 2")], &[("a", "1")]] {
            assert_ne!(one.revision(), files(other).revision());
        }
    }

    #[test]
    fn an_empty_config_map_and_a_reserved_key_are_named() {
        let refused = |of| files(of).write(tempfile::tempdir().unwrap().path(), Limits::default()).unwrap_err();
        let text = refused(&[]).to_string();
        assert!(text.contains("ConfigMap probe"), "{text}");
        let text = refused(&[(".outrigger-tree", "x")]).to_string();
        assert!(text.contains("ConfigMap probe") && text.contains(".outrigger-tree"), "{text}");
    }
}
