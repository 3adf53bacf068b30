//! The controller that is measured: a process of its own, and what the system says about it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};

use crate::world::{NAMESPACE, World, target};

/// Longest wait for the controller to start, and to end.
const LIMIT: Duration = Duration::from_secs(60);
/// Ticks of a second in `/proc/<pid>/stat`: a constant of Linux's interface (`USER_HZ`).
const TICKS: f64 = 100.0;

/// A running controller. It is killed when this is dropped.
pub struct Controller {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Controller {
    /// Starts `program`, by default the release build, on an empty volume, and waits until it leads.
    pub async fn start(world: &World, program: Option<&Path>) -> anyhow::Result<Self> {
        let program = program.map_or_else(|| target().join("release/outrigger"), Path::to_owned);
        let (port, health) = (free_port()?, free_port()?);
        let volume = world.directory("volume")?;
        let runner = world.file("runner", "#!/bin/sh\n")?;
        let log = world.file("controller.log", "")?;
        let output = std::fs::File::create(&log)?;
        let mut command = Command::new(&program);
        command.arg("controller").arg("--kubeconfig").arg(world.kubeconfig().await?);
        command.args(["--namespace", NAMESPACE, "--action-image=unused", "--allow-address=127.0.0.0/8"]);
        // no Job runs here: any small file does
        command.arg("--store").arg(volume).arg("--runner").arg(runner);
        command.args([format!("--advertise=127.0.0.1:{port}"), format!("--listen=127.0.0.1:{port}")]);
        command.arg(format!("--health-listen=127.0.0.1:{health}"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child =
            command.spawn().with_context(|| format!("{} cannot be started; build it first", program.display()))?;
        let pid = child.id().context("the controller has ended")?;
        let mut controller = Self { child, pid, log };
        controller.leads().await?;
        Ok(controller)
    }

    async fn leads(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.said().contains("the store is open") {
            if self.child.try_wait()?.is_some() || started.elapsed() > LIMIT {
                bail!("the controller does not start: {}", self.said());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Greatest resident memory so far, in MiB.
    pub fn peak_mib(&self) -> anyhow::Result<f64> {
        peak_mib(self.pid)
    }

    /// Processor time so far, in seconds, user and system.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // the command's name, in parentheses, may hold spaces (proc_pid_stat(5))
        let (_, fields) = stat.rsplit_once(')').context("/proc/<pid>/stat is unreadable")?;
        let ticks = |field: usize| fields.split_whitespace().nth(field - 3).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = ticks(14).zip(ticks(15)).context("/proc/<pid>/stat has no times")?;
        Ok((user + system) / TICKS)
    }

    /// Tells it to end, and waits for that.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        ensure!(told.success(), "the controller has ended by itself: {}", self.said());
        tokio::time::timeout(LIMIT, self.child.wait()).await.context("the controller does not end")??;
        Ok(())
    }
}

/// Greatest resident memory of a process, in MiB.
pub fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("/proc/<pid>/status has no VmHWM")?;
    let kib = line.trim().trim_end_matches("kB").trim().parse::<f64>()?;
    Ok(kib / 1024.0)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
