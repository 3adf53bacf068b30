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
//! are created at once, first Jobs, then runs; `burst_ratio` is that of the times until the last has finished.
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
mod watching;

use std::process::ExitCode;

use clap::{Parser, value_parser};
use kube::Client;

use measure::Measure;
use report::Report;
use setup::World;

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
    let client = Client::try_default().await?;
    println!("installing the chart and the extension");
    let world = World::start(&client).await?;
    let measure = Measure::start(&client).await?;
    println!("measuring {} runs and {0} bare Jobs, one after the other", options.runs);
    let mut report = Report::default();
    for pair in 0..options.runs {
        if pair % 2 == 0 {
            report.run(measure.run(&format!("run-{pair}")).await?);
            report.job(measure.job(&format!("job-{pair}")).await?);
        } else {
            report.job(measure.job(&format!("job-{pair}")).await?);
            report.run(measure.run(&format!("run-{pair}")).await?);
        }
    }
    if let Some(count) = options.burst {
        println!("measuring {count} bare Jobs at once, then {count} runs");
        report.burst(count, measure.jobs_at_once(count).await?, measure.runs_at_once(count).await?);
    }
    print!("{}", report.table());
    println!("written to {}", report.write()?.display());
    drop(measure);
    world.finish(&client).await
}
