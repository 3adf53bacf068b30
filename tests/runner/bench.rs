//! A tree with one script, and a runner for it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use outrigger::digest::Digest;
use outrigger::protocol::{ClaimGrant, Outcome, TREE_MARKER, TerminationMessage, Token, env};

use super::leader::Leader;

/// The runner under test: the one in `OUTRIGGER_TEST_RUNNER` (an absolute path), else the one that cargo built for the tests,
/// which unlike the one that is shipped is not static.
pub static RUNNER: LazyLock<String> = LazyLock::new(|| {
    std::env::var("OUTRIGGER_TEST_RUNNER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_outrigger-runner").to_owned())
});
pub const RUN_UID: &str = "0d7e5c52-9a5e-4a0e-8f6b-0123456789ab";

pub fn grant() -> ClaimGrant {
    ClaimGrant {
        action: "List Snapshots".to_owned(),
        payload: r#"{"virtualmachineid":"7"}"#.to_owned(),
        timeout_seconds: 60,
        grace_seconds: 5,
        language: None,
        env: [("GRANTED".to_owned(), "yes".to_owned())].into(),
        redact: vec!["hunter2 & co".to_owned()],
        withhold_stdout: false,
        output_bytes: 0,
        skip_report: false,
    }
}

pub fn token() -> Token {
    Token::derive(b"key of the tests", RUN_UID, 1)
}

/// Directories of one run.
pub struct Bench {
    dir: tempfile::TempDir,
    entrypoint_digest: Digest,
}

/// What a runner left.
pub struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub message: Option<TerminationMessage>,
}

impl Bench {
    /// A tree whose entrypoint `bin/run` is this text, executable.
    pub fn new(script: impl AsRef<[u8]>) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), entrypoint_digest: Digest::of(script.as_ref()) };
        fs::create_dir_all(bench.path("tree/bin")).unwrap();
        fs::create_dir(bench.path("payload")).unwrap();
        fs::write(bench.path("tree").join(TREE_MARKER), format!("{}\n", Digest::of("tree"))).unwrap();
        fs::write(bench.script(), script).unwrap();
        bench.set_mode(0o755);
        bench
    }

    /// A shell script, in which `$DIR` is the run's directory.
    pub fn sh(script: &str) -> Self {
        Self::new(format!("#!/bin/sh\nDIR=$(dirname \"$(dirname \"$2\")\")\n{script}\n"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn script(&self) -> PathBuf {
        self.path("tree/bin/run")
    }

    pub fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.script(), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// The text that the script wrote into a file of the run's directory.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn wait_for(&self, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.path(name).exists() {
            assert!(Instant::now() < deadline, "{name} never appeared");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whatever runs `program`: the runner, or something that starts it.
    pub fn command(&self, program: &str, leader: &Leader) -> Command {
        let mut command = Command::new(program);
        command
            .env(env::ADDRESS, format!("https://{}", leader.address))
            .env(env::CA, &leader.ca)
            .env(env::RUN_UID, RUN_UID)
            .env(env::ATTEMPT, "1")
            .env(env::TOKEN, token().to_hex())
            .env(env::POD_UID, "pod-1")
            .env(env::TREE, self.path("tree"))
            .env(env::TREE_DIGEST, Digest::of("tree").to_string())
            .env(env::ENTRYPOINT, "bin/run")
            .env(env::ENTRYPOINT_DIGEST, self.entrypoint_digest.to_string())
            .env(env::PAYLOAD_DIR, self.path("payload"))
            .env("OUTRIGGER_TERMINATION_LOG", self.path("termination"))
            .stdout(File::create(self.path("stdout")).unwrap())
            .stderr(File::create(self.path("stderr")).unwrap());
        command
    }

    pub fn spawn(&self, leader: &Leader) -> Child {
        self.command(&RUNNER, leader).spawn().unwrap()
    }

    pub fn run(&self, leader: &Leader) -> Done {
        self.finish(self.spawn(leader))
    }

    pub fn finish(&self, mut runner: Child) -> Done {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = runner.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                runner.kill().unwrap();
                panic!("the runner did not end: {}", self.read("stderr"));
            }
            thread::sleep(Duration::from_millis(2));
        };
        Done {
            code: status.code().unwrap_or(-1),
            stdout: fs::read(self.path("stdout")).unwrap(),
            stderr: self.read("stderr"),
            message: TerminationMessage::open(&self.read("termination"), &token()).ok(),
        }
    }
}

impl Done {
    /// Why nothing was started, from the termination message.
    pub fn not_started(&self) -> &str {
        match &self.message {
            Some(TerminationMessage::NotStarted { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs a script with the usual grant to its reported outcome.
pub fn outcome_of(bench: &Bench) -> (Done, Outcome) {
    outcome_with(bench, grant())
}

pub fn outcome_with(bench: &Bench, grant: ClaimGrant) -> (Done, Outcome) {
    let leader = Leader::start(grant);
    let done = bench.run(&leader);
    let outcome = leader.reports().pop().unwrap_or_else(|| panic!("no report: {}", done.stderr)).outcome;
    (done, outcome)
}

/// Whether a process whose pid the script wrote is alive, and no zombie.
pub fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}
