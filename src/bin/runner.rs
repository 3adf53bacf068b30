//! The `outrigger-runner` command: PID 1 of an action's Job.
#![forbid(unsafe_code)]

fn main() {
    std::process::exit(outrigger::runner::life::live());
}
