//! `outrigger new`: a directory with a manifest and a script to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::manifest::convert::object_name;

const MANIFEST: &str = include_str!("new/manifest.yaml");

/// What to begin with.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the extension and of the directory to create: lower-case letters, digits and "-".
    name: String,
    /// Language of the script.
    #[arg(long, value_enum, default_value = "bash")]
    language: Language,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Language {
    /// A bash script; it needs jq.
    Bash,
    /// A Python 3 script without dependencies.
    Python,
}

impl Language {
    /// `entrypoint.language`, the file's extension, and the script.
    fn template(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Bash => ("bash", "sh", include_str!("new/script.sh")),
            Self::Python => ("python", "py", include_str!("new/script.py")),
        }
    }
}

/// Creates the directory and says what to do next.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let name = &options.name;
    let legal = object_name(name);
    if legal != *name {
        bail!(
            "{name:?} is no name for an extension; allowed are 1 to 63 lower-case letters, digits and \"-\", first and last a letter or digit, such as {legal:?}"
        );
    }
    let (language, suffix, script) = options.language.template();
    // Not the extension's name: a script json.py would be what its own `import json` finds.
    let script_name = format!("main.{suffix}");
    let fill = |template: &str| {
        template.replace("<name>", name).replace("<script>", &script_name).replace("<language>", language)
    };
    let dir = Path::new(name);
    match std::fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{name} exists already: choose another name, or remove it")
        }
        Err(error) => return Err(error).with_context(|| format!("creating {name}")),
    }
    write(&dir.join("manifest.yaml"), &fill(MANIFEST), 0o644)?;
    write(&dir.join(&script_name), &fill(script), 0o755)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "created {name}/manifest.yaml and {name}/{script_name}; next:")?;
    writeln!(out, "  outrigger lint {name}")?;
    writeln!(out, "  outrigger run --local {name} Greet -p whom=world")?;
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
