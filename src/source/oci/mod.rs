//! Registries: resolve a tag, range or digest to one manifest, fetch its layers, read what else a registry holds about it.

mod auth;
mod client;
mod fault;
mod layout;
mod manifest;
mod reference;
mod resolve;
mod signature;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod signature_tests;

pub use client::{RawManifest, Repository};
pub use fault::OciFault;
pub use manifest::{ArtifactManifest, Descriptor, Document, MAX_MANIFEST_BYTES, only, parse};
pub use reference::{OciRef, OciUrl, OciUrlFault, Reference, Tag, TagFault};

pub(super) use layout::Layout;
pub(super) use reference::canonical_registry;
pub(super) use resolve::{receive, resolve};
pub(super) use signature::verify;
