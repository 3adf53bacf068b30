//! The `outrigger` command: the controller, and the command line for people.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    outrigger::cli::main()
}
