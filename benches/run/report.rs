//! Percentiles, ratios, the table and the JSON file.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::installation::root;
use crate::measure::JobTimes;
use crate::usage::Usage;

/// Runs and bare Jobs that took turns, in seconds.
#[derive(Default)]
pub struct Pairs {
    runs: Vec<f64>,
    jobs: Vec<f64>,
    containers: Vec<f64>,
}

/// What was measured.
#[derive(Default)]
pub struct Report {
    /// With the runners' reports, as always.
    pub pairs: Pairs,
    /// Without them.
    pub without_report: Option<Pairs>,
    /// What the operator did for each run of the pairs.
    pub usage: Option<Usage>,
    burst: Option<Burst>,
}

struct Burst {
    count: u32,
    jobs: f64,
    runs: f64,
}

impl Pairs {
    /// Adds a run.
    pub fn run(&mut self, time: Duration) {
        self.runs.push(time.as_secs_f64());
    }

    /// Adds a bare Job.
    pub fn job(&mut self, times: JobTimes) {
        self.jobs.push(times.complete.as_secs_f64());
        self.containers.push(times.terminated.as_secs_f64());
    }

    fn ratio(&self, floor: &[f64], rank: usize) -> f64 {
        percentile(&self.runs, rank) / percentile(floor, rank)
    }

    fn seconds(&self) -> Value {
        let seconds = |values: &[f64]| {
            json!({
                "p50": rounded(percentile(values, 50)),
                "p95": rounded(percentile(values, 95)),
                "all": values.iter().copied().map(rounded).collect::<Vec<_>>(),
            })
        };
        json!({
            "action_run": seconds(&self.runs),
            "bare_job": seconds(&self.jobs),
            "bare_job_container": seconds(&self.containers),
        })
    }

    fn table(&self) -> String {
        let mut table = String::new();
        for (name, values) in [
            ("ActionRun: Complete", &self.runs),
            ("bare Job: Complete", &self.jobs),
            ("bare Job: container terminated", &self.containers),
        ] {
            let _ = write!(table, "{name:44}");
            for rank in [50, 95, 0, 100] {
                let _ = write!(table, "{:9.3}", percentile(values, rank));
            }
            table.push('\n');
        }
        for (name, floor) in [("to the bare Job", &self.jobs), ("to its container", &self.containers)] {
            let _ = writeln!(table, "ActionRun {name:34}{:8.2}×{:8.2}×", self.ratio(floor, 50), self.ratio(floor, 95));
        }
        table
    }
}

impl Report {
    /// Notes how long `count` bare Jobs took that were created at once, and as many runs.
    pub fn burst(&mut self, count: u32, jobs: Duration, runs: Duration) {
        self.burst = Some(Burst { count, jobs: jobs.as_secs_f64(), runs: runs.as_secs_f64() });
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table =
            format!("{:44}{:>9}{:>9}{:>9}{:>9}\n", "seconds from create until seen", "p50", "p95", "min", "max");
        table.push_str(&self.pairs.table());
        if let Some(pairs) = &self.without_report {
            let _ = write!(table, "without the runners' reports:\n{}", pairs.table());
        }
        if let Some(Usage { writes, requests, memory }) = &self.usage {
            let memory = memory / f64::from(1 << 20);
            let _ = writeln!(
                table,
                "for each run {writes:.1} writes and {requests:.1} requests; the operator has {memory:.1} MiB"
            );
        }
        if let Some(Burst { count, jobs, runs }) = &self.burst {
            let _ = writeln!(
                table,
                "{count} at once, until the last: ActionRuns {runs:.1} s, bare Jobs {jobs:.1} s: {:.2}×",
                runs / jobs
            );
        }
        table
    }

    /// Writes the JSON file; its path.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let path = target.join("bench/run.json");
        let mut json = self.json();
        for (key, value) in runner(&target.join("bench/runner.json"))? {
            json[key] = value;
        }
        std::fs::create_dir_all(target.join("bench"))
            .and_then(|()| std::fs::write(&path, format!("{json:#}\n")))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    fn json(&self) -> Value {
        let pairs = &self.pairs;
        let mut json = json!({
            "p50_ratio": rounded(pairs.ratio(&pairs.jobs, 50)),
            "p95_ratio": rounded(pairs.ratio(&pairs.jobs, 95)),
            "p50_container_ratio": rounded(pairs.ratio(&pairs.containers, 50)),
            "p95_container_ratio": rounded(pairs.ratio(&pairs.containers, 95)),
            "seconds": pairs.seconds(),
        });
        if let Some(pairs) = &self.without_report {
            json["without_report_p50_ratio"] = json!(rounded(pairs.ratio(&pairs.jobs, 50)));
            json["without_report_p95_ratio"] = json!(rounded(pairs.ratio(&pairs.jobs, 95)));
            json["without_report_seconds"] = pairs.seconds();
        }
        if let Some(usage) = &self.usage {
            json["writes_per_run"] = json!(rounded(usage.writes));
            json["requests_per_run"] = json!(rounded(usage.requests));
            json["operator_memory_bytes"] = json!(usage.memory);
        }
        if let Some(burst) = &self.burst {
            json["burst_ratio"] = json!(rounded(burst.runs / burst.jobs));
            json["burst"] = json!({
                "count": burst.count,
                "action_runs_seconds": rounded(burst.runs),
                "bare_jobs_seconds": rounded(burst.jobs),
            });
        }
        json
    }
}

/// What the runner's own measurement left; nothing if it was not made.
fn runner(path: &Path) -> anyhow::Result<Map<String, Value>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// By nearest rank; `rank` 0 is the least.
fn percentile(values: &[f64], rank: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * rank).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// To a tenth of a millisecond.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
