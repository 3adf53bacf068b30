//! `outrigger run --local`: one action of an extension on this machine, without a cluster.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use rustix::fd::OwnedFd;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{directory, status};
use crate::api::Phase;
use crate::run::local::{self, Asked, LocalRun};
use crate::run::local_target;
use crate::runner::control::{Control, StopReason};
use crate::runner::execute::{Output, Spec, execute, random_uuid};
use crate::validate::Problem;

/// Exit code for everything that keeps the script from being started.
const EXIT_USAGE: u8 = 2;

/// Which action to run, and with what.
#[derive(Debug, clap::Args)]
#[command(
    about = "Run one action of an extension on this machine, without a cluster",
    long_about = "Run one action of an extension on this machine, without a cluster.\n\n\
        Manifest, parameters and target are validated as the operator does it, the payload is the same, and the outcome \
        is printed as it would stand in the run's status. What the script prints is shown while it runs; values of \
        PASSWORD parameters and of Secrets are replaced by ********.\n\n\
        The script has your environment, and an empty directory to start in, as in a cluster. Ctrl-C stops it: TERM, \
        and KILL after 10 seconds.\n\n\
        Exit code: 0 if the action succeeded, 1 if it failed, 2 if it was not started because something does not fit."
)]
pub struct Options {
    /// The extension's directory, with its manifest.yaml or manifest.yml.
    #[arg(long, value_name = "DIR", required = true)]
    local: PathBuf,
    /// A custom action of the manifest, or prepare, create, start, stop, reboot, delete, status, statuses, getconsole.
    action: String,
    /// A parameter of the action; repeatable.
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Use this JSON as payload instead of building one. Parameters are not checked then.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["parameters", "target"])]
    payload: Option<PathBuf>,
    /// YAML with the ExtensionTarget to act on, and the Secrets that its hostFrom names.
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    /// Seconds the action may take; never more than the action allows.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: Option<u64>,
    /// The script's OUTRIGGER_IDEMPOTENCY_KEY; a new one if it is not given.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The script's OUTRIGGER_ATTEMPT, to see what a repeated attempt does.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    attempt: u32,
    /// Print the run's status as JSON on standard output, and all that the script prints on standard error.
    #[arg(long)]
    json: bool,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the action and prints its outcome.
pub fn run(options: &Options) -> ExitCode {
    let started = prepare(options).and_then(|local| start(options, &local));
    match started {
        Ok(Phase::Succeeded) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Reads and validates everything. Errors: all that does not fit, one per line.
fn prepare(options: &Options) -> anyhow::Result<LocalRun> {
    let manifest = directory::parsed(&options.local)?;
    let mut parameters = BTreeMap::new();
    for (name, value) in &options.parameters {
        if parameters.insert(name.clone(), Value::from(value.as_str())).is_some() {
            bail!("parameter {name:?} is given twice");
        }
    }
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let target = match &options.target {
        Some(path) => Some(local_target::read(&read(path)?, &path.display().to_string()).map_err(anyhow::Error::msg)?),
        None => None,
    };
    let asked = Asked {
        action: options.action.clone(),
        parameters,
        payload: options.payload.as_ref().map(read).transpose()?,
        target,
        timeout_seconds: options.timeout,
        idempotency_key: match &options.idempotency_key {
            Some(key) => key.clone(),
            None => random_uuid().context("drawing an idempotency key")?,
        },
        attempt: options.attempt,
        user: std::env::var("USER").unwrap_or_else(|_| "local".to_owned()),
    };
    let local = local::prepare(&manifest, &asked).map_err(|lines| anyhow::Error::msg(lines.join("\n")))?;
    let entrypoint = &local.entrypoint;
    match directory::entrypoint_problem(&options.local, entrypoint.path.as_str(), entrypoint.language.as_deref()) {
        Some(fault) => Err(manifest.locate(Problem::new("spec.entrypoint.path", fault).into()).into()),
        None => Ok(local),
    }
}

/// Executes the script as a Job's runner would, and prints the status.
fn start(options: &Options, local: &LocalRun) -> anyhow::Result<Phase> {
    let grant = &local.grant;
    let control = Control::new();
    stop_at_signals(&control, grant.grace_seconds).context("handling signals")?;
    let scratch = tempfile::Builder::new()
        .prefix("outrigger-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("creating a temporary directory")?;
    let (payload_dir, cwd) = (scratch.path().join("payload"), scratch.path().join("work"));
    for dir in [&payload_dir, &cwd] {
        std::fs::create_dir(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let tree = options.local.canonicalize().with_context(|| format!("reading {}", options.local.display()))?;
    let mut env: BTreeMap<_, _> = std::env::vars_os().collect();
    env.extend(grant.env.iter().map(|(name, value)| (name.into(), value.into())));
    let spec = Spec {
        tree,
        entrypoint: local.entrypoint.path.as_str().into(),
        language: grant.language.clone(),
        action: grant.action.clone(),
        payload: grant.payload.clone(),
        payload_dir,
        timeout_seconds: grant.timeout_seconds,
        grace: Duration::from_secs(grant.grace_seconds),
        env,
        cwd,
    };
    let stdout = if options.json { Some(stdout_to_stderr().context("redirecting standard output")?) } else { None };
    let started = Timestamp::now();
    let outcome = execute(&spec, &control, &Output::of(grant));
    let (status, is_secret) = local.status(&outcome, started, Timestamp::now());
    if let Some(stdout) = stdout {
        rustix::stdio::dup2_stdout(stdout).context("restoring standard output")?;
        print(&format!("{:#}\n", serde_json::to_value(&status)?));
    } else {
        let text = &outcome.stdout.text;
        let gap = if text.is_empty() || text.ends_with('\n') { "\n" } else { "\n\n" };
        print(&format!("{gap}{}", status::text(&status, is_secret)));
    }
    Ok(status.phase.unwrap_or_default())
}

/// A reader that went away does not change the outcome.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// INT (Ctrl-C), TERM and HUP stop the script.
fn stop_at_signals(control: &Control, grace_seconds: u64) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let control = control.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            if control.stop_reason().is_none() {
                let _ =
                    writeln!(io::stderr(), "outrigger: stopping the script: TERM, and KILL after {grace_seconds} s");
            }
            control.stop(StopReason::Canceled);
        }
    });
    Ok(())
}

/// Lets the script's output, which is passed on to standard output, go to standard error. Returns the former one.
fn stdout_to_stderr() -> io::Result<OwnedFd> {
    let stdout = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(stdout)
}
