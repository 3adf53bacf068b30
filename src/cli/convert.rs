//! `outrigger convert`: an upstream manifest as a resource that `kubectl apply` takes, and back.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::Resource as _;
use kube::core::TypeMeta;

use super::directory;
use crate::api::{OrchestratorExtension, Reason};
use crate::manifest;
use crate::validate::{self, ContractLevels, Problems, quoted};

/// Which manifest to convert.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The manifest, YAML or JSON; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// FILE is an OrchestratorExtension resource: print the manifest for it, to publish with the extension's files.
    #[arg(long)]
    reverse: bool,
}

/// Prints the resource (or the manifest) on standard output; all problems of the manifest, each with its line, are the
/// error, among them those that `kubectl apply` would refuse.
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
        (name, directory::read(&options.file)?)
    };
    if options.reverse {
        return reverse(&name, &bytes);
    }
    let refused = |problems: Problems| anyhow::anyhow!("{name} cannot be converted\n{problems}");
    let manifest = manifest::parse(&bytes, &name).map_err(refused)?;
    let resource = manifest::convert::to_resource(&manifest);
    let object_name = resource.metadata.name.clone().unwrap_or_default();
    if let Err(problems) = validate::extension(&object_name, &resource.spec, &ContractLevels::default()) {
        // the operator that gets the resource may serve another contract level than this command knows
        let broken = problems.into_iter().filter(|problem| problem.reason != Reason::Incompatible).collect();
        manifest.locate(Problems::new(broken)).or(()).map_err(refused)?;
    }
    std::io::stdout().write_all(manifest::convert::to_yaml(&resource)?.as_bytes())?;
    if resource.spec.source.is_none() {
        eprintln!("outrigger: {name} names no source: set spec.source.url before you apply the resource");
    }
    Ok(())
}

fn reverse(name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    if bytes.len() > manifest::MANIFEST_BYTES {
        bail!("{name} is larger than {} bytes, the most that a manifest may have", manifest::MANIFEST_BYTES);
    }
    let resource: OrchestratorExtension = serde_yaml::from_slice(bytes)
        .with_context(|| format!("{name} cannot be read as an OrchestratorExtension (one document, YAML or JSON)"))?;
    let (version, kind) = (OrchestratorExtension::api_version(&()), OrchestratorExtension::kind(&()));
    let types = serde_yaml::from_slice::<TypeMeta>(bytes).unwrap_or_default();
    if (types.api_version.as_str(), types.kind.as_str()) != (version.as_ref(), kind.as_ref()) {
        bail!(
            "{name} is {} {}; expected with --reverse is {version} {kind}",
            quoted(&types.api_version),
            quoted(&types.kind)
        );
    }
    let document = manifest::convert::to_document(&manifest::convert::from_resource(&resource));
    std::io::stdout().write_all(manifest::convert::to_yaml(&document)?.as_bytes())?;
    let left_out = manifest::convert::left_out(&resource);
    if !left_out.is_empty() {
        eprintln!("outrigger: left out, because only a resource can say it: {}", left_out.join(", "));
    }
    Ok(())
}
