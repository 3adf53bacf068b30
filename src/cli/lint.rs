//! `outrigger lint`: every problem of a manifest, with its line, and of the directory around it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::directory;
use crate::manifest::{self, Manifest};
use crate::validate::{self, ContractLevels, Problem, Problems, quoted};

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The extension's directory, with its manifest.yaml or manifest.yml; or a manifest alone.
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
}

/// Prints every finding on standard output, `file:line:column: field: what is wrong`, then notes about what is legal but
/// deserves a look. Errors: the number of problems, if there are any.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (file, bytes, dir) = if options.path.is_dir() {
        let (file, bytes) = directory::manifest(&options.path)?;
        (file, bytes, Some(options.path.as_path()))
    } else {
        (options.path.clone(), directory::read(&options.path)?, None)
    };
    let name = file.display().to_string();
    let (problems, notes) = match manifest::parse(&bytes, &name) {
        Ok(manifest) => check(&manifest, dir),
        Err(problems) => (problems, vec![]),
    };
    let mut out = std::io::stdout().lock();
    for problem in problems.iter() {
        writeln!(out, "{problem}")?;
    }
    for note in notes {
        writeln!(out, "{name}: note: {note}")?;
    }
    match problems.iter().count() {
        0 => writeln!(out, "{name}: no problems")?,
        1 => bail!("{name} has 1 problem"),
        count => bail!("{name} has {count} problems"),
    }
    Ok(())
}

fn check(manifest: &Manifest, dir: Option<&Path>) -> (Problems, Vec<String>) {
    let resource = manifest::convert::to_resource(manifest);
    let name = resource.metadata.name.clone().unwrap_or_default();
    let mut problems = Vec::new();
    let mut notes = manifest.notes();
    match validate::extension(&name, &resource.spec, &ContractLevels::default()) {
        Ok(extension) => {
            notes.extend(extension.notes);
            let disabled = extension.actions.iter().filter(|action| !action.enabled);
            notes.extend(disabled.map(|action| {
                let name = quoted(action.name.as_str());
                format!("the action {name} is disabled: runs of it are refused until it says \"enabled: true\"")
            }));
            let entrypoint = &extension.entrypoint;
            let fault = dir.and_then(|dir| {
                directory::entrypoint_problem(dir, entrypoint.path.as_str(), entrypoint.language.as_deref())
            });
            problems.extend(fault.map(|fault| Problem::new("spec.entrypoint.path", fault)));
        }
        Err(found) => problems.extend(found),
    }
    (manifest.locate(Problems::new(problems)), notes)
}
