//! What tree the layers of a manifest make. Pure: no client, clock, disk or network.
//!
//! Three ways to push an extension are understood: one tar (`flux push artifact`, an image with one layer, an archive file
//! pushed with oras), single files by their titles, and directories that oras packed, by their titles.

use std::collections::HashMap;

use super::fault::OciFault;
use super::manifest::{ArtifactManifest, Descriptor};
use crate::archive::RelativePath;

/// Layers that are fetched: each costs a request.
const MAX_LAYERS: usize = 512;
/// The path of a file (OCI image specification, "Pre-Defined Annotation Keys").
const TITLE: &str = "org.opencontainers.image.title";
/// Says `true` for a directory that oras packed and unpacks.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// Ends of the names of archives.
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"];

/// How a tree is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One archive is the whole tree; its format is told by its content.
    Archive(Descriptor),
    /// Files and directories side by side.
    Parts(Vec<Part>),
}

/// A layer with a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is in the tree.
    pub path: RelativePath,
    /// Its bytes.
    pub blob: Descriptor,
    /// Whether the bytes are a tar of the directory, whose entries begin with its path.
    pub is_directory: bool,
}

/// The layout of `manifest`.
///
/// # Errors
/// [`OciFault`] names the layer, counted from 1, and the rule that it breaks.
pub fn layout(manifest: &ArtifactManifest) -> Result<Layout, OciFault> {
    let layers = &manifest.layers;
    match layers.as_slice() {
        [] => return Err(OciFault::NoLayers),
        [only] if is_archive(only) => return Ok(Layout::Archive(only.clone())),
        _ if layers.len() > MAX_LAYERS => {
            return Err(OciFault::TooManyLayers { count: layers.len(), limit: MAX_LAYERS });
        }
        _ => {}
    }
    let untitled = layers.iter().filter(|layer| title(layer).is_none() && is_tar(&layer.media_type)).count();
    if untitled > 1 {
        return Err(OciFault::SeveralTars(untitled));
    }
    let mut titles = HashMap::new();
    let mut parts = Vec::with_capacity(layers.len());
    for (layer, blob) in (1..).zip(layers) {
        let unknown = || OciFault::UnknownLayer { layer, media_type: shortened(&blob.media_type) };
        let title = title(blob).ok_or_else(unknown)?;
        let shown = shortened(title);
        let path =
            RelativePath::parse(title).map_err(|fault| OciFault::Title { layer, title: shown.clone(), fault })?;
        if let Some(first) = titles.insert(path.as_str().to_owned(), layer) {
            return Err(OciFault::DuplicateTitle { first, second: layer, title: shown });
        }
        parts.push(Part { path, blob: blob.clone(), is_directory: is_packed_directory(blob) });
    }
    Ok(Layout::Parts(parts))
}

fn title(layer: &Descriptor) -> Option<&str> {
    layer.annotations.get(TITLE).map(String::as_str)
}

fn is_packed_directory(layer: &Descriptor) -> bool {
    layer.annotations.get(UNPACK).is_some_and(|word| word == "true")
}

/// Whether a layer that is alone is the whole tree. oras calls every file a tar, so that a plain one with a title is told by it.
fn is_archive(layer: &Descriptor) -> bool {
    match title(layer) {
        None => is_tar(&layer.media_type),
        Some(title) => {
            let title = title.to_ascii_lowercase();
            is_packed_directory(layer)
                || (is_tar(&layer.media_type) && !is_plain_tar(&layer.media_type))
                || ARCHIVES.iter().any(|end| title.ends_with(end))
        }
    }
}

/// `application/vnd.oci.image.layer.v1.tar+gzip`, `application/vnd.docker.image.rootfs.diff.tar.gzip`,
/// `application/vnd.cncf.flux.content.v1.tar+gzip` and others like them.
fn is_tar(media_type: &str) -> bool {
    ["tar+gzip", "tar.gzip", "tar+zstd", "tar.zstd"].iter().any(|end| ends_in(media_type, end))
        || is_plain_tar(media_type)
}

fn is_plain_tar(media_type: &str) -> bool {
    ends_in(media_type, "tar")
}

fn ends_in(media_type: &str, end: &str) -> bool {
    media_type.strip_suffix(end).is_some_and(|rest| rest.ends_with(['.', '/', '-']))
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::digest::Digest;

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn layer(media_type: &str, annotations: &[(&str, &str)]) -> Descriptor {
        let text = format!("{media_type}{annotations:?}");
        let annotations = annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let media_type = media_type.to_owned();
        Descriptor { media_type, digest: Digest::of(text), size: 1, annotations, artifact_type: None }
    }

    fn of(layers: Vec<Descriptor>) -> Result<Layout, String> {
        let manifest =
            ArtifactManifest { artifact_type: None, config: None, layers, subject: None, annotations: BTreeMap::new() };
        layout(&manifest).map_err(|fault| fault.to_string())
    }

    #[test]
    fn one_tar_is_the_whole_tree() {
        let directory = [(TITLE, "extension"), (UNPACK, "true")];
        for only in [
            layer("application/vnd.cncf.flux.content.v1.tar+gzip", &[]),
            layer(TAR, &[]),
            layer("application/x-tar", &[]),
            layer(GZIP, &[]),
            layer("application/vnd.oci.image.layer.v1.tar+zstd", &[]),
            layer("application/vnd.docker.image.rootfs.diff.tar.gzip", &[]),
            layer("application/x-tar", &[(TITLE, "extension.tar")]),
            layer(TAR, &[(TITLE, "extension.TAR")]),
            layer("application/octet-stream", &[(TITLE, "extension.zip")]),
            layer(GZIP, &[(TITLE, "extension")]),
            layer(GZIP, &directory),
        ] {
            assert_eq!(of(vec![only.clone()]), Ok(Layout::Archive(only)));
        }
    }

    #[test]
    fn titled_layers_are_files_and_directories() {
        let layers = vec![
            layer(TAR, &[(TITLE, "run.sh")]),
            layer("text/yaml", &[(TITLE, "./manifest.yaml")]),
            layer(GZIP, &[(TITLE, "lib/"), (UNPACK, "true")]),
        ];
        let Ok(Layout::Parts(parts)) = of(layers) else { panic!() };
        let told: Vec<_> = parts.iter().map(|part| (part.path.as_str(), part.is_directory)).collect();
        assert_eq!(told, [("run.sh", false), ("manifest.yaml", false), ("lib", true)]);
        // oras gives every file the type of a plain tar
        let alone = of(vec![layer(TAR, &[(TITLE, "run.sh")])]);
        assert!(matches!(alone, Ok(Layout::Parts(parts)) if parts.len() == 1 && !parts[0].is_directory));
    }

    #[test]
    fn other_layers_are_refused_each_with_its_own_words() {
        let titled = |title: &str| layer("text/plain", &[(TITLE, title)]);
        for (layers, expected) in [
            (vec![], "the manifest has no layers: push the extension's files, or a tar of them"),
            (
                vec![layer(GZIP, &[]), layer(GZIP, &[("a", "b")])],
                "the manifest has 2 tar layers without a title: an image of several layers is not put together; push a single layer",
            ),
            (
                vec![layer("application/wasm", &[])],
                "layer 1 (application/wasm) is neither a tar (…tar, …tar+gzip, …tar+zstd) nor a file with the annotation \
                 org.opencontainers.image.title",
            ),
            (vec![layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", &[])], "layer 1 (application/vnd.oci"),
            (vec![layer("application/avatar", &[])], "layer 1 (application/avatar) is neither"),
            (vec![titled("a"), layer(GZIP, &[])], "layer 2 (application/vnd.oci.image.layer.v1.tar+gzip) is neither"),
            (vec![titled("../a")], "layer 1: title \"../a\": "),
            (vec![titled("a"), titled("/etc/passwd")], "layer 2: title \"/etc/passwd\": "),
            (vec![titled("")], "layer 1: title \"\": "),
            (vec![titled("."), titled("b")], "layer 1: title \".\": "),
            (vec![titled("a"), titled("b"), titled("./a")], "layers 1 and 3 have the same title \"./a\""),
            (
                (0..600).map(|index| titled(&index.to_string())).collect(),
                "the manifest has 600 layers; at most 512 are allowed: push a directory, which is packed as one",
            ),
        ] {
            let fault = of(layers).unwrap_err();
            assert!(fault.starts_with(expected), "{fault}\n{expected}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_annotations_say_no_path_leaves_the_tree(titles in proptest::collection::vec("[./a-c\\\\]{0,8}|\\PC{0,8}", 1..4)) {
            let layers = titles.iter().map(|title| layer("text/plain", &[(TITLE, title)])).collect();
            if let Ok(Layout::Parts(parts)) = of(layers) {
                for part in parts {
                    proptest::prop_assert!(part.path.components().all(|name| !matches!(name, "" | "." | "..")));
                }
            }
        }
    }
}
