//! The generated definitions in the repository are those that the code describes.

use std::path::Path;

#[test]
fn the_definitions_in_the_repository_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = outrigger::api::crds::files().unwrap();
    for dir in ["crds", "charts/outrigger/files/crds"] {
        let present: Vec<_> =
            std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(present.len(), files.len(), "{dir} holds other files: {present:?}; run `make generate`");
        for file in &files {
            let text = std::fs::read_to_string(root.join(dir).join(&file.name)).unwrap_or_default();
            assert_eq!(text, file.yaml, "{dir}/{} is stale; run `make generate`", file.name);
        }
    }
}
