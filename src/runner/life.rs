//! A runner's life: check the tree, claim, execute, leave the termination message, report.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin, Sent};

use super::client::{Client, RequestError, persist};
use super::config::Config;
use super::control::{Control, StopReason};
use super::execute::{Output, Spec, execute};
use super::log::log;
use super::{process, tree};
use crate::protocol::{
    ClaimGrant, ClaimRequest, EXIT_FAILED, EXIT_NOT_STARTED, EXIT_SUCCEEDED, Ending, Nonce, Outcome, OutputUpload,
    Progress, Report, TAIL_BYTES, TerminationMessage, Unstarted,
};

/// How long a runner tries to claim. The pod's own deadline may end it before.
const CLAIM_PATIENCE: Duration = Duration::from_secs(600);
/// Progress is told this often even without news: the answer may say that the run was cancelled.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Progress is not told more often than this, whatever the script prints.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How long it is tried to hand the output over. The Job is deleted meanwhile: then kubelet's grace period counts, too.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is tried to give a claim back. The pod is being deleted: kubelet's grace period runs.
const GIVE_BACK_PATIENCE: Duration = Duration::from_secs(3);
/// Where the script starts; also its `HOME`.
const SCRIPT_DIR: &str = "/tmp";

/// Lives the whole life of this process and returns its exit code.
pub fn live() -> i32 {
    process::protect_self();
    let control = Control::new();
    if let Err(error) = stop_at_signals(&control) {
        log(&format!("cannot handle signals: {error}"));
        return EXIT_NOT_STARTED;
    }
    let config = match Config::read(std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => {
            log(&error.to_string());
            return EXIT_NOT_STARTED;
        }
    };
    let nonce = match draw_nonce() {
        Ok(nonce) => nonce,
        Err(error) => {
            log(&format!("cannot draw a nonce: {error}"));
            return EXIT_NOT_STARTED;
        }
    };
    let runner = Runner { config, nonce, control };
    match runner.claim() {
        Ok((client, grant)) => runner.run(&client, grant),
        Err(NotClaimed { message, client }) => {
            runner.leave_not_started(&message);
            if let Some(client) = client {
                // Once: where nobody was heard, mostly nobody has claimed.
                runner.give_back(&client, message, Duration::ZERO);
            }
            EXIT_NOT_STARTED
        }
    }
}

/// TERM and INT from outside stop the script; once it has ended they change nothing.
fn stop_at_signals(control: &Control) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGTERM, SIGINT])?;
    let control = control.clone();
    let is_first = rustix::process::getpid() == rustix::process::Pid::INIT;
    thread::spawn(move || {
        let mut is_said = false;
        for origin in signals.forever() {
            if !is_first || is_from_outside(&origin) {
                control.stop(StopReason::PodDeleted);
            } else if !std::mem::replace(&mut is_said, true) {
                log("a process of the pod told the runner to end: that is ignored");
            }
        }
    });
    Ok(())
}

/// Whether no process of this PID namespace sent the signal. The kernel says 0 for a sender that it cannot name here, and
/// only of `kill` does it say itself who that was.
fn is_from_outside(origin: &Origin) -> bool {
    match origin.cause {
        Cause::Kernel => true,
        Cause::Sent(Sent::User) => origin.process.is_some_and(|sender| sender.pid == 0),
        _ => false,
    }
}

fn draw_nonce() -> Result<Nonce, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(Nonce::from_bytes(bytes))
}

struct Runner {
    config: Config,
    nonce: Nonce,
    control: Control,
}

/// Nothing is started.
struct NotClaimed {
    /// Why, for people.
    message: String,
    /// Who asked for the claim, which may stand although the answer was another, or never came.
    client: Option<Client>,
}

impl NotClaimed {
    fn unasked(error: impl std::error::Error) -> Self {
        Self { message: error.to_string(), client: None }
    }
}

impl Runner {
    fn claim(&self) -> Result<(Client, ClaimGrant), NotClaimed> {
        let config = &self.config;
        tree::check(&config.tree, &config.entrypoint, &config.pin).map_err(NotClaimed::unasked)?;
        let client = Client::new(config).map_err(NotClaimed::unasked)?;
        let request =
            ClaimRequest { attempt: config.attempt, pod_uid: config.pod_uid.clone(), nonce: self.nonce.clone() };
        let deadline = Instant::now() + CLAIM_PATIENCE;
        match persist(Some(deadline), Some(&self.control), || client.claim(&request)) {
            Ok(grant) => Ok((client, grant)),
            Err(error) => {
                let what = match self.control.stop_reason() {
                    Some(_) => "the pod was told to end before the claim was granted; ",
                    None => "cannot claim: ",
                };
                Err(NotClaimed { message: format!("{what}{error}"), client: Some(client) })
            }
        }
    }

    fn run(&self, client: &Client, grant: ClaimGrant) -> i32 {
        if self.control.stop_reason() == Some(StopReason::PodDeleted) {
            let message = "the pod was told to end before the script was started";
            self.leave_not_started(message);
            if !grant.skip_report {
                self.give_back(client, message.to_owned(), GIVE_BACK_PATIENCE);
            }
            return EXIT_NOT_STARTED;
        }
        let output = Output::of(&grant);
        let spec = Spec {
            tree: self.config.tree.clone(),
            entrypoint: self.config.entrypoint.clone(),
            language: grant.language,
            action: grant.action,
            payload: grant.payload,
            payload_dir: self.config.payload_dir.clone(),
            timeout_seconds: grant.timeout_seconds,
            grace: Duration::from_secs(grant.grace_seconds),
            env: self.config.script_env(&grant.env),
            cwd: PathBuf::from(SCRIPT_DIR),
        };
        let teller = Teller {
            client: client.clone(),
            control: self.control.clone(),
            output: output.clone(),
            attempt: self.config.attempt,
            nonce: self.nonce.clone(),
        };
        // Not joined: a request that hangs must not delay the report.
        thread::spawn(move || teller.tell());
        let outcome = execute(&spec, &self.control, &output);
        let code = self.leave_outcome(&outcome);
        if !grant.skip_report {
            self.report(client, outcome, &output);
        }
        code
    }

    /// Leaves word that nothing was started: the attempt counts as unclaimed.
    fn leave_not_started(&self, message: &str) {
        log(&format!("not started: {message}"));
        let (attempt, nonce, message) = (self.config.attempt, self.nonce.clone(), message.to_owned());
        self.leave(&TerminationMessage::NotStarted { attempt, nonce, message });
    }

    /// Says the same to the leader: with the pod the message may vanish before anybody has read it. Tried once at least, and
    /// again within `patience`.
    fn give_back(&self, client: &Client, message: String, patience: Duration) {
        let unstarted = Unstarted { attempt: self.config.attempt, nonce: self.nonce.clone(), message };
        let deadline = Instant::now() + patience;
        let request = || client.unstarted(&unstarted, GIVE_BACK_PATIENCE);
        match persist(Some(deadline), None, request) {
            // Refused: there is no claim of this runner that could stand.
            Ok(()) | Err(RequestError::Refused { .. }) => {}
            Err(error) => log(&format!("that nothing was started is in the termination message alone: {error}")),
        }
    }

    /// Leaves the durable copy of the outcome; the exit code that says how the script ended.
    fn leave_outcome(&self, outcome: &Outcome) -> i32 {
        if let Some(message) = &outcome.message {
            log(message);
        }
        let code = match (outcome.ending, outcome.exit_code) {
            (Ending::Exited, Some(0)) => EXIT_SUCCEEDED,
            _ => EXIT_FAILED,
        };
        let (attempt, nonce) = (self.config.attempt, self.nonce.clone());
        self.leave(&TerminationMessage::Ended { attempt, nonce, outcome: outcome.clone() });
        code
    }

    /// Reports until the outcome is taken, then hands the output over: a run waits for its outcome, and nobody for this.
    fn report(&self, client: &Client, outcome: Outcome, output: &Output) {
        let (attempt, nonce) = (self.config.attempt, self.nonce.clone());
        let report = Report { attempt, nonce: nonce.clone(), outcome, output: output.sizes() }.fit();
        if let Err(error) = persist(None, None, || client.report(&report)) {
            log(&format!("the outcome was not taken: {error}"));
            return;
        }
        if report.output.is_none() {
            return;
        }
        let (stdout, stderr) = output.kept();
        let upload = OutputUpload { attempt, nonce, stdout, stderr };
        let deadline = Instant::now() + OUTPUT_PATIENCE;
        if let Err(error) = persist(Some(deadline), None, || client.output(&upload)) {
            log(&format!("the output was not kept: {error}"));
        }
    }

    fn leave(&self, message: &TerminationMessage) {
        let path = &self.config.termination_log;
        if let Err(error) = write_over(path, &message.seal(&self.config.token)) {
            log(&format!("cannot write the termination message {path:?}: {error}"));
        }
    }
}

fn write_over(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Tells the leader what the script prints, for as long as it runs.
struct Teller {
    client: Client,
    control: Control,
    output: Output,
    attempt: u32,
    nonce: Nonce,
}

impl Teller {
    fn tell(&self) {
        let (mut told, mut told_at) = ((0, 0), Instant::now());
        loop {
            let next = Instant::now() + PROGRESS_INTERVAL;
            if self.control.wait(Some(next), |state| state.concluded).concluded {
                return;
            }
            let seen = (self.output.stdout.total(), self.output.stderr.total());
            if seen == told && told_at.elapsed() + PROGRESS_INTERVAL / 2 < HEARTBEAT {
                continue;
            }
            (told, told_at) = (seen, Instant::now());
            match self.client.progress(&self.progress()) {
                Ok(answer) if answer.cancel => self.control.stop(StopReason::Canceled),
                // The run itself is gone: nobody waits for its script.
                Err(RequestError::Refused { status: 410, .. }) => self.control.stop(StopReason::Canceled),
                // The next one tells the same.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            attempt: self.attempt,
            nonce: self.nonce.clone(),
            stdout_tail: match self.output.withholds_stdout {
                true => String::new(),
                false => self.output.stdout.tail(TAIL_BYTES),
            },
            stderr_tail: self.output.stderr.tail(TAIL_BYTES),
        }
    }
}
