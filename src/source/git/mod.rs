//! Git over smart HTTP: list refs, fetch one commit, write its tree. No checkout, no configuration, no other transport.

mod fetch;
mod reference;
mod transport;
mod tree;

pub use reference::{GitRef, RefFault};

pub(super) use fetch::{Exchange, list_refs, receive_commit};
pub(super) use reference::{Selected, select};
