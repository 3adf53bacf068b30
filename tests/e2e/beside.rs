//! A controller that runs beside the cluster, without admission, on a volume of the test's own.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, World, cluster};

/// Whether a controller has unfinished work on its volume.
pub fn is_busy(volume: &Path) -> bool {
    std::fs::read_dir(volume.join("extensions/.staging")).is_ok_and(|mut staged| staged.next().is_some())
}

/// Waits until it has, which may last for milliseconds only.
pub fn wait_for_work(volume: &Path) {
    let started = Instant::now();
    while !is_busy(volume) && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The debug build of the controller, in a process group of its own.
pub struct Controller {
    child: Child,
    log: Receiver<String>,
    /// What it has logged, as far as it was waited for.
    pub said: Vec<String>,
}

impl Controller {
    /// Starts one with its Lease and Secrets in `namespace`, the `number`th there; `before` are words before its command.
    pub fn start(world: &World, namespace: &str, number: u16, before: &[&str], arguments: &[&str]) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = cluster(&["exec"]);
        command.args(before).args([env!("CARGO_BIN_EXE_outrigger"), "controller", "--insecure-no-admission"]);
        command.args(["--namespace", namespace]).args(arguments);
        let port = 18444 + number;
        command.args([format!("--advertise={}:{port}", world.address), format!("--listen={}:{port}", world.address)]);
        command.arg(format!("--health-listen=127.0.0.1:{}", 18090 + number));
        command.arg(format!("--allow-address={}/32", world.address));
        command.process_group(0).stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // only the processes that were started hold the pipe from here on
        drop(command);
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, log, said: vec![] }
    }

    /// Waits for a line of its log that holds `text`, beginning where the last wait ended.
    pub fn wait_for(&mut self, text: &str) {
        while !self.said.last().is_some_and(|line: &String| line.contains(text)) {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("the controller does not say {text:?} ({error}): {:#?}", self.said),
            }
        }
    }

    /// Sends a signal to all of it.
    pub fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args([&format!("-{signal}"), "--", &group]).status();
    }

    /// SIGKILL; returns when nothing of it is left.
    pub fn kill(mut self) {
        self.end();
        while self.log.recv_timeout(PATIENCE).is_ok() {}
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the controller goes on: {:#?}", self.said);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}
