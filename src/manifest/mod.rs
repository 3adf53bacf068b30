//! The upstream manifest: parse, locate errors, merge, convert. Pure: no client, clock, disk or network.
//!
//! [`parse()`] reads a `manifest.yaml` into the fields of [`OrchestratorExtensionSpec`](crate::api::OrchestratorExtensionSpec)
//! that upstream knows; [`merge()`] fills a resource from manifests; [`convert`] turns one into the other.

pub mod convert;
pub mod merge;
mod parse;
mod read;
mod surrogates;
mod tree;

pub use merge::{Merged, canonical, digest, effective, merge};
pub use parse::{Manifest, Place, parse};
pub use tree::too_large;

/// Names under which a manifest may stand at the root of a source, in the order in which they are looked for.
pub const FILE_NAMES: &[&str] = &["manifest.yaml", "manifest.yml"];
/// Most bytes of a manifest.
pub const MANIFEST_BYTES: usize = 1024 * 1024;
