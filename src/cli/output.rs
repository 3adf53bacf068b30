//! `outrigger store output`: what a finished run printed, from the volume.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::action::printable;
use crate::store::{KeptOutput, Outputs};

/// Whose output to print, and how.
#[derive(Debug, clap::Args)]
#[command(
    about = "Print what a finished run printed: its standard output on standard output, its standard error on standard error",
    long_about = "Print what a finished run printed: its standard output on standard output, its standard error on standard error.\n\n\
        Control characters, which could steer a terminal, are replaced; --raw prints every byte as it came. Secrets were \
        replaced by ******** before the output was kept."
)]
pub struct Options {
    /// The run.
    #[arg(value_name = "NAMESPACE/RUN", value_parser = name)]
    run: (String, String),
    /// Directory at which the volume is mounted.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Number of the attempt. Default: the newest that is kept.
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u32>,
    /// Only this stream.
    #[arg(long)]
    stream: Option<Stream>,
    /// Print control characters as they are.
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

fn name(text: &str) -> Result<(String, String), String> {
    let (namespace, run) = text.split_once('/').ok_or("expected is NAMESPACE/RUN")?;
    Ok((namespace.to_owned(), run.to_owned()))
}

/// Prints it.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (stdout, stderr) = find(options)?;
    for (stream, bytes) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
        if options.stream.is_some_and(|only| only != stream) {
            continue;
        }
        let text = if options.raw { bytes } else { printable(&String::from_utf8_lossy(&bytes)).into_bytes() };
        match stream {
            Stream::Stdout => print(io::stdout(), &text),
            Stream::Stderr => print(io::stderr(), &text),
        }
        .context("printing")?;
    }
    Ok(())
}

fn print(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn find(options: &Options) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let outputs = Outputs::at(&options.store);
    let (namespace, run) = &options.run;
    let kept = outputs.of(namespace, run)?;
    let wanted = |kept: &&KeptOutput| options.attempt.is_none_or(|attempt| attempt == kept.attempt);
    let newest = kept.iter().rev().find(wanted);
    let newest = newest.ok_or_else(|| nothing(namespace, run, options.attempt, &kept, &options.store))?;
    Ok(outputs.read(newest)?)
}

fn nothing(namespace: &str, run: &str, attempt: Option<u32>, kept: &[KeptOutput], store: &Path) -> anyhow::Error {
    let store = store.display();
    match attempt.filter(|_| !kept.is_empty()) {
        Some(attempt) => {
            let numbers: Vec<String> = kept.iter().map(|kept| kept.attempt.to_string()).collect();
            let numbers = numbers.join(", ");
            anyhow!("no output of attempt {attempt} of run {namespace}/{run} is kept on {store}; kept are: {numbers}")
        }
        None => anyhow!(
            "no output of run {namespace}/{run} is kept on {store}: it has not ended, printed nothing, was deleted, its pod \
             was gone before it had handed the output over, or the output was kept for as long as --output-retention-seconds and --output-max-total-bytes of the operator say"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OutputKey;

    fn options(store: &Path, run: &str, attempt: Option<u32>) -> Options {
        Options { run: name(run).unwrap(), store: store.to_owned(), attempt, stream: None, raw: false }
    }

    #[test]
    fn the_newest_attempt_is_found_by_the_runs_name() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(dir.path()).unwrap();
        let key = OutputKey::new("team-a", "backup", "0a-1").unwrap();
        outputs.keep(&key, 1, b"one", b"").unwrap();
        outputs.keep(&key, 2, b"two", b"err").unwrap();
        assert_eq!(find(&options(dir.path(), "team-a/backup", None)).unwrap(), (b"two".to_vec(), b"err".to_vec()));
        assert_eq!(find(&options(dir.path(), "team-a/backup", Some(1))).unwrap().0, b"one");
        let error = find(&options(dir.path(), "team-a/backup", Some(3))).unwrap_err().to_string();
        assert!(error.starts_with("no output of attempt 3 of run team-a/backup is kept on /"), "{error}");
        assert!(error.ends_with("; kept are: 1, 2"), "{error}");
        for other in ["team-b/backup", "team-a/../team-a/backup", "../extensions"] {
            let error = find(&options(dir.path(), other, None)).unwrap_err().to_string();
            assert!(error.contains(&format!("no output of run {other} is kept on ")), "{error}");
        }
        assert!(name("backup").is_err());
    }

    #[test]
    fn without_a_volume_the_path_is_named() {
        let error = find(&options(Path::new("/no/such/volume"), "a/b", None)).unwrap_err().to_string();
        assert!(error.starts_with("open /no/such/volume/runs: "), "{error}");
    }
}
