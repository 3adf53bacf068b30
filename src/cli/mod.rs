//! The command line.

mod api_server;
mod controller;
mod convert;
mod crds;
mod directory;
mod limits;
mod lint;
mod listeners;
mod new;
mod options;
mod output;
mod run;
mod shutdown;
mod status;
mod store;
mod volume;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use options::ControllerOptions;

/// A Kubernetes operator for extensions that orchestrate external infrastructure.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a directory with a manifest and a script to begin with.
    New(new::Options),
    /// Print every problem of a manifest with its line, and of the directory around it.
    Lint(lint::Options),
    Run(run::Options),
    /// Run the operator: in a cluster, or outside one with --kubeconfig and --store.
    Controller(Box<ControllerOptions>),
    /// Print the CustomResourceDefinitions, or write them to a directory.
    Crds(crds::Options),
    /// Turn an upstream manifest into a resource for `kubectl apply -f -`.
    Convert(convert::Options),
    /// Look into the volume that holds the installed extensions and what runs printed.
    Store(store::Options),
}

/// Runs the command line. Problems go to standard error, one per line; the exit code is 1 for them, 2 for wrong usage.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::New(options) => new::run(&options),
        Command::Lint(options) => lint::run(&options),
        // Its exit codes are its own.
        Command::Run(options) => return run::run(&options),
        Command::Controller(options) => controller::main(*options),
        Command::Crds(options) => crds::run(&options),
        Command::Convert(options) => convert::run(&options),
        Command::Store(options) => store::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}
