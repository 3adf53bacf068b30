//! The `outrigger` command: the controller, and the command line for people.
#![forbid(unsafe_code)]

fn main() {}
