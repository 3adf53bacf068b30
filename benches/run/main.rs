//! How long an ActionRun takes from create to finished, against the least that Kubernetes can do for the same script.
//!
//! **The floor** is a bare Job that runs the same script in the same pod: the Job that the operator itself made for an
//! ActionRun, with the runner taken out. Image, requests, limits, security context, service account and volumes (the
//! extension's tree as a read-only sub-path of the shared volume, the memory-backed emptyDir, `/tmp`) stay;
//! the script is the container's command. Nobody gives it parameters, claims it, checks its tree, or reads its result.
//!
//! **What is measured** is what a watching client sees, on one clock, from just before the create request is sent:
//! - ActionRun: until a watch delivers the condition `Complete`;
//! - bare Job: until a watch delivers the condition `Complete` or `Failed`. `p50_ratio` and `p95_ratio` are to this:
//!   it is the object's own word that it has ended, as `Complete` is the run's;
//! - bare Job's container: until a watch delivers the pod's container as terminated, the earliest sign of the end that
//!   Kubernetes gives. `p50_container_ratio` and `p95_container_ratio` are to this.
//!
//! Runs and Jobs take turns in one process, and each pair swaps who is first, so that both meet the same machine. The
//! next starts when the last one's pod is gone. One of each is made before and not counted. With `--burst`, so many
//! are created at once, first Jobs, then runs; `burst_ratio` is that of the times until the last has finished. The operator
//! limits neither: it is installed with `actions.maxConcurrentRuns=0` and `actions.maxConcurrentRunsPerNamespace=0`. That
//! is done twice, the second time with runs first; `burst_ratio` is that of the sums.
//!
//! `writes_per_run` and `requests_per_run` are what the operator's replicas count of their requests to the API from the first
//! run to when the last is deleted and gone, events included, divided by the runs; the Lease and watches are not counted,
//! and access reviews are requests, but no writes. With `--without-report` pairs are measured once more with an operator
//! that is told to learn outcomes from the pods alone: `without_report_p50_ratio` is to the bare Jobs of that time.
//! `peak_memory_bytes` is the most that a replica had during the pairs and the bursts, looked at every second.
//! `runner_overhead_ms` is taken from `bench/runner.json`, which `make bench-run` lets the runner's own measurement write.
//!
//! Percentiles are by nearest rank: of 20 values p50 is the 10th, p95 the 19th. Nothing is asserted about time: the
//! program fails only where something that it runs fails. It writes `bench/run.json` in Cargo's target directory.
//!
//! Needs a cluster (`make cluster-up`) with the image loaded; `make bench` sees to both. The chart is removed again
//! where it was not installed before.

mod floor;
#[path = "../../tests/e2e/installation.rs"]
mod installation;
mod measure;
mod report;
mod setup;
mod usage;
mod watching;

use std::process::ExitCode;

use clap::{Parser, value_parser};
use kube::Client;

use measure::Measure;
use report::{Pairs, Report};
use setup::World;
use usage::{Memory, Usage};

/// Measures ActionRuns against bare Jobs on the cluster that KUBECONFIG points to.
#[derive(Parser)]
struct Options {
    /// How many of each to create, one after the other.
    #[arg(long, env = "BENCH_RUNS", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Also create so many of each at once.
    #[arg(long, env = "BENCH_BURST", num_args = 0..=1, default_missing_value = "100")]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    burst: Option<u32>,
    /// Also measure so many pairs without the runners' reports.
    #[arg(long, env = "BENCH_WITHOUT_REPORT", num_args = 0..=1, default_missing_value = "20")]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    without_report: Option<u32>,
    /// Given by "cargo bench"; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match bench(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error:#}");
            eprintln!("left as it is for a look: kubectl -n {} logs deployment/outrigger", installation::NAMESPACE);
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: &Options) -> anyhow::Result<()> {
    report::remove()?;
    let client = Client::try_default().await?;
    println!("installing the chart and the extension");
    let world = World::start(&client).await?;
    let measure = Measure::start(&client).await?;
    println!("measuring {} runs and {0} bare Jobs, one after the other", options.runs);
    let mut report = Report::default();
    let before = Usage::now(&client).await?;
    let memory = Memory::start(&client);
    report.pairs = pairs(&measure, "", options.runs).await?;
    for pair in 0..options.runs {
        measure.remove_run(&format!("run-{pair}")).await?;
    }
    report.usage = Some(Usage::now(&client).await?.per_run_since(&before, options.runs));
    if let Some(count) = options.burst {
        println!("measuring {count} bare Jobs and {count} runs at once, twice");
        let mut jobs = vec![measure.jobs_at_once("first", count).await?];
        let mut runs = vec![measure.runs_at_once("first", count).await?];
        runs.push(measure.runs_at_once("second", count).await?);
        jobs.push(measure.jobs_at_once("second", count).await?);
        report.burst(count, &jobs, &runs);
    }
    report.peak_memory = memory.peak().await?;
    if let Some(count) = options.without_report {
        println!("measuring {count} runs and {count} bare Jobs, one after the other, without reports");
        let arguments = setup::add_argument(&client, "--no-direct-report").await?;
        measure.run("settled").await?;
        report.without_report = Some(pairs(&measure, "unreported-", count).await?);
        setup::set_arguments(&client, &arguments).await?;
    }
    let json = report.whole()?;
    print!("{}", report.table(&json));
    println!("written to {}", report::write(&json)?.display());
    drop(measure);
    world.finish(&client).await
}

/// Runs and bare Jobs by turns; each pair swaps who is first.
async fn pairs(measure: &Measure, prefix: &str, count: u32) -> anyhow::Result<Pairs> {
    let mut pairs = Pairs::default();
    for pair in 0..count {
        let (run, job) = (format!("{prefix}run-{pair}"), format!("{prefix}job-{pair}"));
        if pair % 2 == 0 {
            pairs.run(measure.run(&run).await?);
            pairs.job(measure.job(&job).await?);
        } else {
            pairs.job(measure.job(&job).await?);
            pairs.run(measure.run(&run).await?);
        }
    }
    Ok(pairs)
}
