//! `outrigger crds`: the CustomResourceDefinitions as YAML.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::api::crds;

/// Where to write the definitions.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Write one file per kind into this directory instead of printing all.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints or writes the definitions.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let files = crds::files()?;
    match &options.dir {
        None => {
            let mut out = std::io::stdout().lock();
            for file in files {
                write!(out, "---\n{}", file.yaml)?;
            }
        }
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            for file in files {
                let path = dir.join(&file.name);
                std::fs::write(&path, file.yaml).with_context(|| format!("writing {}", path.display()))?;
            }
        }
    }
    Ok(())
}
