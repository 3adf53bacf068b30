//! `outrigger convert`: an upstream manifest as a resource that `kubectl apply` takes.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::manifest;

/// Which manifest to convert.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The manifest, YAML or JSON; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Prints the resource on standard output; all problems of the manifest, each with its line, are the error.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (name, bytes) = if options.file.as_os_str() == "-" {
        let mut bytes = vec![];
        std::io::stdin()
            .take(manifest::MANIFEST_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .context("reading standard input")?;
        ("standard input".to_owned(), bytes)
    } else {
        let name = options.file.display().to_string();
        (name.clone(), std::fs::read(&options.file).with_context(|| format!("reading {name}"))?)
    };
    let manifest =
        manifest::parse(&bytes, &name).map_err(|problems| anyhow::anyhow!("{name} cannot be converted\n{problems}"))?;
    let resource = manifest::convert::to_resource(&manifest);
    std::io::stdout().write_all(manifest::convert::to_yaml(&resource)?.as_bytes())?;
    if resource.spec.source.is_none() {
        eprintln!("outrigger: {name} names no source: set spec.source.url before you apply the resource");
    }
    Ok(())
}
