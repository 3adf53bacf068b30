//! `outrigger store`: look into the volume that holds the installed extensions and what runs printed.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::output;
use crate::store::Store;

/// What to do with the volume.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read every tree whole and compare it with its digest. Exit code 1 if one differs.
    Verify {
        /// Directory at which the volume is mounted.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
    Output(output::Options),
}

/// Runs a sub-command.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.command {
        Command::Verify { store } => verify(store),
        Command::Output(options) => output::run(options),
    }
}

fn verify(root: &std::path::Path) -> anyhow::Result<()> {
    let store = Store::open(root).with_context(|| format!("opening the store at {}", root.display()))?;
    let trees = store.trees()?;
    let mut bad = 0;
    for tree in &trees {
        match store.verify(tree) {
            Ok(()) => println!("{tree} ok"),
            Err(error) => {
                bad += 1;
                println!("{tree} BAD: {error}");
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {} trees are not what their digest says", trees.len());
    }
    Ok(())
}
