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
    /// The most memory that a replica of the operator had, in bytes.
    pub peak_memory: f64,
    burst: Option<Burst>,
}

/// Seconds of each round.
struct Burst {
    count: u32,
    jobs: Vec<f64>,
    runs: Vec<f64>,
}

impl Burst {
    fn ratio(&self) -> f64 {
        self.runs.iter().sum::<f64>() / self.jobs.iter().sum::<f64>()
    }
}

/// What a ratio must not exceed.
struct Target {
    /// Its key in the JSON file.
    key: &'static str,
    most: f64,
}

const TARGETS: [Target; 6] = [
    Target { key: "p50_ratio", most: 0.2 },
    Target { key: "p95_ratio", most: 0.35 },
    Target { key: "without_report_p50_ratio", most: 0.45 },
    Target { key: "burst_ratio", most: 1.15 },
    Target { key: "writes_per_run", most: 8.0 },
    Target { key: "runner_overhead_ms", most: 5.0 },
];

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
    /// Notes how long `count` bare Jobs took that were created at once, and as many runs, in each round.
    pub fn burst(&mut self, count: u32, jobs: &[Duration], runs: &[Duration]) {
        let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect();
        self.burst = Some(Burst { count, jobs: seconds(jobs), runs: seconds(runs) });
    }

    /// For people; `json` is what is written.
    pub fn table(&self, json: &Value) -> String {
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
        let _ = writeln!(table, "at most, bursts included, it had {:.1} MiB", self.peak_memory / f64::from(1 << 20));
        if let Some(burst) = &self.burst {
            for (runs, jobs) in burst.runs.iter().zip(&burst.jobs) {
                let count = burst.count;
                let _ = writeln!(
                    table,
                    "{count} at once, until the last: ActionRuns {runs:.1} s, bare Jobs {jobs:.1} s: {:.2}×",
                    runs / jobs
                );
            }
        }
        for (key, value) in json.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("_ms")) {
            let _ = writeln!(table, "{key:44}{:9.3}", value.as_f64().unwrap_or(f64::NAN));
        }
        table.push_str(&verdicts(json));
        table
    }

    /// All that is written, what the runner's own measurement left included.
    pub fn whole(&self) -> anyhow::Result<Value> {
        let mut json = self.json();
        for (key, value) in runner(&directory().join("runner.json"))? {
            json[key] = value;
        }
        Ok(json)
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
        json["peak_memory_bytes"] = json!(self.peak_memory);
        if let Some(burst) = &self.burst {
            let rounds = |seconds: &[f64]| seconds.iter().copied().map(rounded).collect::<Vec<_>>();
            json["burst_ratio"] = json!(rounded(burst.ratio()));
            json["burst"] = json!({
                "count": burst.count,
                "first": ["bare_jobs", "action_runs"],
                "action_runs_seconds": rounds(&burst.runs),
                "bare_jobs_seconds": rounds(&burst.jobs),
            });
        }
        json
    }
}

/// What was measured of each target, and whether it is met.
fn verdicts(json: &Value) -> String {
    let mut table = format!("{:44}{:>9}{:>9}\n", "target", "measured", "at most");
    for Target { key, most } in TARGETS {
        let line = match json[key].as_f64() {
            Some(value) => format!("{value:9.3}{most:9.2}  {}", if value <= most { "met" } else { "MISSED" }),
            None => format!("{:>9}{most:9.2}", "-"),
        };
        let _ = writeln!(table, "{key:44}{line}");
    }
    table
}

/// Where results are written.
fn directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("bench")
}

/// Writes the JSON file; its path.
pub fn write(json: &Value) -> anyhow::Result<PathBuf> {
    let path = directory().join("run.json");
    std::fs::create_dir_all(directory())
        .and_then(|()| std::fs::write(&path, format!("{json:#}\n")))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

/// Removes the file of an earlier benchmark, so that one that fails leaves none.
pub fn remove() -> anyhow::Result<()> {
    let path = directory().join("run.json");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
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
