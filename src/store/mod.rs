//! The content-addressed store: stage, publish, link, verify, collect.
//!
//! A tree is made in a [`Staging`] directory on the volume, then [published](Store::publish) under the digest of its
//! content, after which nothing in it changes; a [link](Store::link) gives it an extension's name. [`layout`] says where
//! everything lies and [`Listing`] what a tree's digest is made of. [`Outputs`] keeps what runs printed beside it.

mod error;
#[cfg(test)]
mod fixtures;
pub mod layout;
mod lazy;
mod link;
mod listing;
mod manifests;
mod outputs;
mod owner;
mod probe;
mod publish;
mod runner;
mod step;
#[cfg(test)]
mod steps_tests;
mod sweep;
mod syncer;
mod trash;
mod tree;
mod verify;
mod volume;

pub use error::StoreError;
pub use layout::{ExtensionName, ExtensionNameError};
pub use lazy::LazyStore;
pub use link::NamedLink;
pub use listing::{Drift, Entry, Listing};
pub use outputs::{KeptOutput, OutputKey, OutputKeyError, Outputs, Retention};
pub use publish::{Staging, Tree};
pub use runner::InstalledRunner;
pub use sweep::{Collected, Recovered};
pub use trash::Used;
pub use volume::Store;

pub use crate::archive::RelativePath;
