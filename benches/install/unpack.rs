//! One large archive: our unpacking against `tar xzf`.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use outrigger::archive::{self, Limits, TreeWriter, UnpackOptions};

use crate::content::{add, noise};
use crate::controller::peak_mib;
use crate::world::target;

/// How often each is done.
const ROUNDS: usize = 5;
/// Bytes of each file in the archive.
const FILE: usize = 1 << 20;

/// What was measured about unpacking.
pub struct Unpacking {
    /// Bytes of files.
    pub unpacked: u64,
    /// Bytes of the archive.
    pub packed: u64,
    /// The archive module, from start to end of its process.
    pub ours: Duration,
    /// `tar xzf`, from start to end of its process.
    pub tar: Duration,
    /// Greatest resident memory of the archive module's process, in MiB.
    pub peak_mib: f64,
    /// The same for an archive of a tenth of the size.
    pub small_peak_mib: f64,
}

impl Unpacking {
    /// Our speed in relation to that of tar.
    pub fn ratio(&self) -> f64 {
        self.tar.as_secs_f64() / self.ours.as_secs_f64()
    }
}

/// Unpacks an archive with so many MiB of files.
pub fn measure(mib: u32) -> anyhow::Result<Unpacking> {
    let directory = tempfile::Builder::new().prefix("bench-unpack-").tempdir_in(target())?;
    let (large, small) = (directory.path().join("large.tar.gz"), directory.path().join("small.tar.gz"));
    pack(&large, mib)?;
    pack(&small, mib / 10)?;
    let (mut ours, mut tars, mut peak) = (vec![], vec![], 0.0_f64);
    let out = directory.path().join("out");
    for _ in 0..ROUNDS {
        let (time, used) = unpacked(&large, &out)?;
        ours.push(time);
        peak = peak.max(used);
        tars.push(timed(Command::new("tar").arg("-xzf").arg(&large).arg("-C"), &out)?.0);
    }
    let (_, small_peak_mib) = unpacked(&small, &out)?;
    Ok(Unpacking {
        unpacked: u64::from(mib) << 20,
        packed: std::fs::metadata(&large)?.len(),
        ours: median(ours),
        tar: median(tars),
        peak_mib: peak,
        small_peak_mib,
    })
}

/// Writes an archive with so many files, of which every second one does not compress.
fn pack(path: &Path, files: u32) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(File::create(path)?, Compression::default()));
    let text: Vec<u8> =
        "a line of a text that an extension may well hold, number 0123456789\n".bytes().cycle().take(FILE).collect();
    for number in 0..files {
        let mut content = noise(u64::from(number), FILE);
        if number % 2 == 1 {
            // text in which every fourth kilobyte is something else
            for (at, block) in text.chunks(1024).enumerate().filter(|(at, _)| at % 4 != 0) {
                content[at * 1024..at * 1024 + block.len()].copy_from_slice(block);
            }
        }
        add(&mut archive, &format!("large/{}/{number}.bin", number % 16), 0o644, &content)?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

/// Our unpacking in a process of its own: its time and its greatest memory in MiB.
fn unpacked(archive: &Path, out: &Path) -> anyhow::Result<(Duration, f64)> {
    let (time, said) = timed(Command::new(std::env::current_exe()?).arg("unpack").arg(archive), out)?;
    Ok((time, said.trim().parse().with_context(|| format!("the process that unpacks said {said:?}"))?))
}

/// Runs a command whose last argument is to be the directory `out`, which is made for it and removed.
fn timed(command: &mut Command, out: &Path) -> anyhow::Result<(Duration, String)> {
    std::fs::create_dir(out)?;
    let started = Instant::now();
    let output = command.arg(out).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let time = started.elapsed();
    std::fs::remove_dir_all(out)?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok((time, String::from_utf8(output.stdout)?))
}

/// What the process of its own does: unpacks, and prints its greatest memory in MiB.
pub fn child(archive: &Path, directory: &Path) -> anyhow::Result<()> {
    let mut writer = TreeWriter::new(directory, Limits::default())?;
    archive::unpack(File::open(archive)?, &mut writer, UnpackOptions { strip_single_top_level: true })?;
    writer.finish()?;
    println!("{}", peak_mib(std::process::id())?);
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
