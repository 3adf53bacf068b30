//! Start a script, drain it, stop it: all of a run that needs no leader.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Access;
use rustix::process::{Pid, WaitStatus};

use super::control::{Control, State};
use super::entrypoint::{self, Entrypoint, HEAD_BYTES, StartError};
use super::forward::{FORWARD_BYTES, Forward};
use super::pipe::Source;
use super::stream::{Capture, Conclusion, KEEP_STDERR_BYTES, KEEP_STDOUT_BYTES, Keep};
use super::{memory, process};
use crate::protocol::{ClaimGrant, Ending, Fault, Outcome, OutputSizes};
use crate::redact::Secrets;

/// How long killed processes may take to go away.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// How long the log may take what is left once every process has ended or was killed. Then the rest goes to the outcome alone.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be executed, and within which bounds.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Absolute path of the extension's directory.
    pub tree: PathBuf,
    /// Path of the entrypoint, relative to the tree.
    pub entrypoint: PathBuf,
    /// `entrypoint.language` of the manifest.
    pub language: Option<String>,
    /// First argument of the script.
    pub action: String,
    /// JSON text for the payload file, whose path is the second argument.
    pub payload: String,
    /// Absolute path of the directory for the payload file.
    pub payload_dir: PathBuf,
    /// Seconds that the script may run, counted from its start: its third argument.
    pub timeout_seconds: u64,
    /// Time between TERM and KILL.
    pub grace: Duration,
    /// The script's whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The script's working directory.
    pub cwd: PathBuf,
}

/// What the script prints; readable while it runs.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output.
    pub stdout: Arc<Capture>,
    /// Standard error.
    pub stderr: Arc<Capture>,
    /// Standard output is for the outcome alone.
    pub withholds_stdout: bool,
}

impl Output {
    /// Streams in which no spelling of the grant's secrets appears, and of which so much is kept as it says.
    pub fn of(grant: &ClaimGrant) -> Self {
        let secrets = Secrets::new(&grant.redact);
        let kept = usize::try_from(grant.output_bytes).unwrap_or(usize::MAX);
        let stdout = if grant.withhold_stdout { 0 } else { kept };
        Self {
            stdout: Arc::new(Capture::new(secrets.clone(), Keep { outcome: KEEP_STDOUT_BYTES, output: stdout })),
            stderr: Arc::new(Capture::new(secrets, Keep { outcome: KEEP_STDERR_BYTES, output: kept })),
            withholds_stdout: grant.withhold_stdout,
        }
    }

    /// How much there is to be kept; `None`: nothing.
    pub fn sizes(&self) -> Option<OutputSizes> {
        let (stdout, stderr) = (self.stdout.output_size(), self.stderr.output_size());
        (stdout.0 + stderr.0 > 0).then_some(OutputSizes {
            stdout_bytes: stdout.0,
            stderr_bytes: stderr.0,
            truncated: stdout.1 || stderr.1,
        })
    }

    /// What is to be kept of standard output and standard error.
    pub fn kept(&self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout.output(), self.stderr.output())
    }
}

/// Executes `spec` and waits until no process of it is left. Output goes to `output`, and live to this process's own
/// standard output and error. The process must have no other children: all that end are reaped here.
pub fn execute(spec: &Spec, control: &Control, output: &Output) -> Outcome {
    let outcome = execute_unless_stopped(spec, control, output);
    control.update(|state| state.concluded = true);
    outcome
}

fn execute_unless_stopped(spec: &Spec, control: &Control, output: &Output) -> Outcome {
    if let Some(reason) = control.stop_reason() {
        let message = Some("stopped before the script was started".to_owned());
        return Outcome { message, ..Outcome::of(reason.into()) };
    }
    let payload = match PayloadFile::write(&spec.payload_dir, &spec.payload) {
        Ok(payload) => payload,
        Err(error) => {
            let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let message = format!("cannot write the payload into {:?}: {error}", spec.payload_dir);
            return not_started(is_full.then_some(Fault::DiskFull), message);
        }
    };
    process::adopt_orphans();
    let kills = memory::kills();
    let mut outcome = match start(spec, &payload.0) {
        Ok(child) => supervise(spec, child, control, output),
        Err(NoStart { fault, message }) => return not_started(fault, message),
    };
    if outcome.ending == Ending::Exited && outcome.exit_code != Some(0) {
        outcome.fault = memory::fault(kills, memory::kills());
    }
    outcome
}

fn not_started(fault: Option<Fault>, message: String) -> Outcome {
    Outcome { fault, message: Some(message), ..Outcome::of(Ending::NotStarted) }
}

/// Why there is no process.
struct NoStart {
    fault: Option<Fault>,
    message: String,
}

impl From<String> for NoStart {
    fn from(message: String) -> Self {
        Self { fault: None, message }
    }
}

impl From<StartError> for NoStart {
    fn from(error: StartError) -> Self {
        Self { fault: error.fault(), message: error.to_string() }
    }
}

/// The payload's file, removed when this is dropped.
struct PayloadFile(PathBuf);

impl PayloadFile {
    fn write(dir: &Path, payload: &str) -> io::Result<Self> {
        let path = dir.join(format!("{}.json", random_uuid()?));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        let written = Self(path);
        file.write_all(payload.as_bytes())?;
        Ok(written)
    }
}

impl Drop for PayloadFile {
    fn drop(&mut self) {
        // The volume goes with the pod; a script may also have removed the file itself.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A random UUID (RFC 9562, version 4), lower case.
///
/// # Errors
/// The system has no random bytes.
pub fn random_uuid() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let digits = crate::digest::hex(&bytes);
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

fn start(spec: &Spec, payload: &Path) -> Result<Child, NoStart> {
    let script = spec.tree.join(&spec.entrypoint);
    let mut head = Vec::new();
    File::open(&script)
        .and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head))
        .map_err(|error| format!("cannot read the entrypoint {script:?}: {error}"))?;
    let entrypoint = Entrypoint {
        path: &script,
        executable: rustix::fs::access(&script, Access::EXEC_OK).is_ok(),
        head: &head,
        language: spec.language.as_deref(),
    };
    if !spec.cwd.is_dir() {
        return Err(format!("cannot start in {:?}: it is no directory of the image", spec.cwd).into());
    }
    let path = spec.env.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    let start = entrypoint::decide(&entrypoint, |name| find(name, path))?;
    Command::new(&start.program)
        .args(&start.arguments)
        .arg(&spec.action)
        .arg(payload)
        .arg(spec.timeout_seconds.to_string())
        .env_clear()
        .envs(&spec.env)
        .current_dir(&spec.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| match entrypoint::explain(&entrypoint, &start, &error) {
            Some(explained) => explained.into(),
            None => format!("cannot start {:?}: {error}", start.program).into(),
        })
}

/// `name` itself if it is a path, else the first executable file of that name in `path`.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    std::env::split_paths(path).map(|dir| dir.join(name)).find(is_program)
}

fn supervise(spec: &Spec, mut child: Child, control: &Control, output: &Output) -> Outcome {
    let started = Instant::now();
    let script = Pid::from_child(&child);
    let mut sources = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let live = match output.withholds_stdout {
            true => Forward::withheld(io::stdout()),
            false => Forward::new(io::stdout(), FORWARD_BYTES),
        };
        sources.push(drain(stdout, live, &output.stdout, control));
    }
    if let Some(stderr) = child.stderr.take() {
        sources.push(drain(stderr, Forward::new(io::stderr(), FORWARD_BYTES), &output.stderr, control));
    }
    let reaper = control.clone();
    thread::spawn(move || process::reap(script, &reaper));

    // A timeout beyond what the clock can express is none.
    let timeout = started.checked_add(Duration::from_secs(spec.timeout_seconds));
    let state = control.wait(timeout, |state| state.ended.is_some() || state.all_gone || state.stop.is_some());
    let stopped = match state {
        State { ended: Some(_), .. } | State { all_gone: true, .. } => None,
        State { stop: Some(reason), .. } => Some(Ending::from(reason)),
        _ => Some(Ending::Timeout),
    };
    if stopped.is_some() {
        process::terminate_all(script);
        control.wait(Instant::now().checked_add(spec.grace), |state| state.all_gone);
    }
    process::kill_all(script, control, KILL_PATIENCE);
    let state = control.wait(Some(Instant::now() + DRAIN_PATIENCE), |state| state.drained == 2);
    let is_whole =
        state.drained == 2 || sources.iter().filter(|source| source.take_rest(state.all_gone)).count() == sources.len();

    let (status, ended) = state.ended.unzip();
    let (ending, message) = describe(stopped, status, spec.timeout_seconds, is_whole);
    let Conclusion { stream: stdout, masked, unmasked } = output.stdout.conclude();
    Outcome {
        ending,
        fault: None,
        exit_code: status.and_then(WaitStatus::exit_status),
        signal: status.and_then(WaitStatus::terminating_signal),
        message,
        stdout,
        unmasked: unmasked.filter(|_| output.withholds_stdout),
        masked: Some(masked),
        stderr: output.stderr.outcome(),
        duration_millis: millis(ended.unwrap_or_else(Instant::now).duration_since(started)),
    }
}

fn drain<W: Write + Send + 'static>(
    from: impl Into<OwnedFd>,
    mut live: Forward<W>,
    capture: &Arc<Capture>,
    control: &Control,
) -> Arc<Source<File>> {
    let source = Arc::new(Source::new(File::from(from.into()), Arc::clone(capture)));
    let (drained, control) = (Arc::clone(&source), control.clone());
    thread::spawn(move || {
        drained.drain(&mut live);
        control.update(|state| state.drained += 1);
    });
    source
}

fn describe(
    stopped: Option<Ending>,
    status: Option<WaitStatus>,
    timeout_seconds: u64,
    is_whole: bool,
) -> (Ending, Option<String>) {
    let message = match (stopped, status.and_then(WaitStatus::terminating_signal)) {
        (Some(Ending::Timeout), _) => Some(format!("stopped at its timeout of {timeout_seconds} s")),
        (Some(Ending::Canceled), _) => Some("stopped because the run was cancelled".to_owned()),
        (Some(_), _) => Some("stopped because its pod was told to end".to_owned()),
        (None, Some(9)) => Some("killed by signal 9 (out of memory?)".to_owned()),
        (None, Some(signal)) => Some(format!("killed by signal {signal}")),
        (None, None) if status.is_none() => Some("the exit status was lost".to_owned()),
        (None, None) => None,
    };
    let lack = (!is_whole).then(|| "a process of it does not die: the end of its output may be missing".to_owned());
    let message = match (message, lack) {
        (Some(message), Some(lack)) => Some(format!("{message}; {lack}")),
        (message, lack) => message.or(lack),
    };
    (stopped.unwrap_or(Ending::Exited), message)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_uuid_is_random_and_of_version_4() {
        let (one, other) = (random_uuid().unwrap(), random_uuid().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
    }

    #[test]
    fn the_payload_is_readable_by_its_owner_alone_and_goes_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let payload = PayloadFile::write(dir.path(), "{}").unwrap();
        let path = payload.0.clone();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o400);
        drop(payload);
        assert!(!path.exists());
    }

    #[test]
    fn only_executable_files_in_the_path_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tool"), "").unwrap();
        let path = dir.path().as_os_str();
        assert_eq!(find("tool", path), None);
        std::fs::set_permissions(dir.path().join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find("tool", path), Some(dir.path().join("tool")));
        assert_eq!(find("/no/such/tool", path), None);
    }
}
