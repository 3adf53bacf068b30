//! `outrigger store`: look into the volume that holds the installed extensions and what runs printed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::output;
use crate::action::printable;
use crate::store::layout::EXTENSIONS;
use crate::store::{ExtensionName, NamedLink, Store, StoreError};

/// What to do with the volume.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read every tree and every kept manifest whole and compare it with its digest, and look where every extension's link
    /// leads. Nothing is written, so the volume may be mounted read-only. Exit code 1 if something is not as it must be.
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

fn verify(root: &Path) -> anyhow::Result<()> {
    let store = Store::reading(root);
    // An operator may be at work meanwhile: a tree is there before a link leads to it, and what nothing leads to is taken away.
    let links = store.links().with_context(|| format!("reading the store at {}", root.display()))?;
    let mut trees = store.trees()?;
    let (mut found, mut bad) = (0, 0);
    let mut say = |what: &str, problem: Option<String>| {
        found += 1;
        match problem {
            None => println!("{what} ok"),
            Some(problem) => {
                bad += 1;
                println!("{what} BAD: {problem}");
            }
        }
    };
    trees.retain(|tree| match store.check(tree) {
        Err(StoreError::NoSuchTree { .. }) => false,
        checked => {
            say(&tree.to_string(), checked.err().map(|error| error.to_string()));
            true
        }
    });
    for manifest in store.manifests()? {
        let lost = store.manifest(&manifest)?.is_none();
        if !lost || store.manifests()?.contains(&manifest) {
            say(&format!("manifest {manifest}"), lost.then(|| "it was changed on the volume".to_owned()));
        }
    }
    for NamedLink { name, tree } in links {
        let problem = match tree {
            Ok(_) if ExtensionName::parse(&name).is_err() => Some("no extension can have this name".to_owned()),
            Ok(tree) if !trees.contains(&tree) => Some(format!("it leads to {tree}, which is not in the store")),
            Ok(_) => None,
            Err(what) => Some(format!("{what}, which outrigger did not make")),
        };
        say(&format!("{EXTENSIONS}/{}", printable(&name)), problem);
    }
    if bad > 0 {
        bail!("{bad} of {found} trees, manifests and links are not as they must be");
    }
    Ok(())
}
