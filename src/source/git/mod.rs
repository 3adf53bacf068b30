//! Git over smart HTTP: list refs, fetch one commit, write its tree. No checkout, no configuration, no other transport.

mod fetch;
mod pack;
mod reference;
mod said;
mod transport;
mod tree;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod hostile_tests;

pub use reference::{GitRef, RefFault};

pub(super) use fetch::{Exchange, Turns, list_refs, receive_commit};
pub(super) use reference::{Selected, select};
