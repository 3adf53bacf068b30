//! `outrigger new`, `lint`, `convert` and `run --local`, as an author of extensions uses them.
#![allow(clippy::unwrap_used)]

mod bench;
mod manifest;
mod run;
