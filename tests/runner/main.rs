//! The built runner against a leader of the tests' own, over real TLS on the loopback interface.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod claim;
mod leader;
mod output;
mod overhead;
mod samples;
mod secrets;
mod start;
mod stop;
