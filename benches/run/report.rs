//! Percentiles, ratios, the table and the JSON file.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::installation::root;
use crate::measure::JobTimes;

/// What was measured, in seconds.
#[derive(Default)]
pub struct Report {
    runs: Vec<f64>,
    jobs: Vec<f64>,
    containers: Vec<f64>,
    burst: Option<Burst>,
}

struct Burst {
    count: u32,
    jobs: f64,
    runs: f64,
}

impl Report {
    /// Adds a run.
    pub fn run(&mut self, time: Duration) {
        self.runs.push(time.as_secs_f64());
    }

    /// Adds a bare Job.
    pub fn job(&mut self, times: JobTimes) {
        self.jobs.push(times.complete.as_secs_f64());
        self.containers.push(times.terminated.as_secs_f64());
    }

    /// Notes how long `count` bare Jobs took that were created at once, and as many runs.
    pub fn burst(&mut self, count: u32, jobs: Duration, runs: Duration) {
        self.burst = Some(Burst { count, jobs: jobs.as_secs_f64(), runs: runs.as_secs_f64() });
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table =
            format!("{:44}{:>9}{:>9}{:>9}{:>9}\n", "seconds from create until seen", "p50", "p95", "min", "max");
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
        std::fs::create_dir_all(target.join("bench"))
            .and_then(|()| std::fs::write(&path, format!("{:#}\n", self.json())))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    fn json(&self) -> Value {
        let seconds = |values: &[f64]| {
            json!({
                "p50": rounded(percentile(values, 50)),
                "p95": rounded(percentile(values, 95)),
                "all": values.iter().copied().map(rounded).collect::<Vec<_>>(),
            })
        };
        let mut json = json!({
            "p50_ratio": rounded(self.ratio(&self.jobs, 50)),
            "p95_ratio": rounded(self.ratio(&self.jobs, 95)),
            "p50_container_ratio": rounded(self.ratio(&self.containers, 50)),
            "p95_container_ratio": rounded(self.ratio(&self.containers, 95)),
            "seconds": {
                "action_run": seconds(&self.runs),
                "bare_job": seconds(&self.jobs),
                "bare_job_container": seconds(&self.containers),
            },
        });
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

    fn ratio(&self, floor: &[f64], rank: usize) -> f64 {
        percentile(&self.runs, rank) / percentile(floor, rank)
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
