//! What installing a thousand extensions costs, against the least that it can cost, and what they cost once installed.
//!
//! **What is measured**: the release build of the controller, beside the cluster, with admission and a token of its own,
//! against the cluster's API server. `kubectl apply` creates the extensions, whose sources lie on a server in this process; the time is from
//! the start of `kubectl` until a watch has delivered the last one as Ready. Then:
//! - processor time and greatest resident memory of the controller, from `/proc`, until the last event was written;
//! - API requests by verb, from the API server's own counters, until then, less what the same `kubectl apply` cost
//!   without a controller and what the cluster does while nothing happens;
//! - two idle minutes, in which nothing is due;
//! - a re-sync: every source is looked at again a few times; what was downloaded and written meanwhile.
//!
//! The time and its floor are measured a few times, in turns, each time with a new controller and an empty volume: what else a
//! machine does changes both. The turn whose ratio is the median counts. The other numbers are of the last one.
//!
//! That is done twice, with sources of each kind: archives over HTTP, and the same in a registry (a manifest and a layer
//! each, found by a tag).
//!
//! **The floor**, measured right before, is the sum of three things, each done without a controller: `kubectl
//! apply` of the same resources; fetching and unpacking the same archives, from a registry with their manifests, in one
//! process, ten at a time, without hashing, limits or syncing; and one small status PATCH for each, ten at a time.
//!
//! **Unpacking**: one archive of 200 MiB of files, half of which does not compress, by the archive module in a process of
//! its own and by `tar xzf`, in turns; the median counts. Both write the same files and neither syncs. Tar checks no
//! names, links or limits; the archive module is not timed for what comes after unpacking: hashing and syncing. A tenth
//! of that archive shows that the greatest memory does not grow with the archive.
//!
//! Nothing is asserted about time: the program fails where something that it runs fails, and where writes, downloads or
//! memory miss their targets. It writes `bench/install.json` in Cargo's target directory.
//!
//! Needs a cluster without the operator, in whose network it runs (`make bench-install` sees to both).

mod content;
mod controller;
mod floor;
mod measure;
mod report;
mod requests;
mod server;
mod unpack;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, value_parser};
use kube::Client;

use report::{Measured, Report, Round};
use server::{Kind, SourceServer};
use world::World;

/// Measures installs on the cluster that KUBECONFIG points to.
#[derive(Parser)]
struct Options {
    /// How many extensions.
    #[arg(long, env = "BENCH_EXTENSIONS", default_value_t = 1000, value_parser = value_parser!(u32).range(1..=10_000))]
    extensions: u32,
    /// Kind of the sources; both, one after the other, where none is given.
    #[arg(long, env = "BENCH_SOURCE")]
    source: Option<Kind>,
    /// How often the time until all are Ready, and its floor, are measured.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3, value_parser = value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Seconds for which the idle controller is watched.
    #[arg(long, env = "BENCH_IDLE_SECONDS", default_value_t = 120, value_parser = value_parser!(u64).range(1..=3600))]
    idle_seconds: u64,
    /// MiB of files in the archive that is unpacked.
    #[arg(long, env = "BENCH_UNPACK_MIB", default_value_t = 200, value_parser = value_parser!(u32).range(10..=400))]
    unpack_mib: u32,
    /// The controller to measure.
    #[arg(long, env = "BENCH_CONTROLLER", value_name = "FILE")]
    controller: Option<PathBuf>,
    /// Given by "cargo bench"; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Step>,
}

#[derive(Subcommand)]
enum Step {
    /// Unpacks an archive, as a process of its own.
    #[command(hide = true)]
    Unpack { archive: PathBuf, directory: PathBuf },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        Some(Step::Unpack { archive, directory }) => unpack::child(archive, directory),
        None => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(bench(&options))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: &Options) -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    let kinds = options.source.map_or_else(|| vec![Kind::Archive, Kind::Oci], |kind| vec![kind]);
    // Nothing is deleted before the end: ext4 without a journal does not use an inode again for minutes, and looks at each of
    // them whenever it needs one.
    let directory = tempfile::Builder::new().prefix("bench-install-").tempdir_in(world::target())?;
    let mut sources = vec![];
    for kind in kinds {
        println!("packing {} archives, sources of the kind {kind}", options.extensions);
        let server = SourceServer::start(kind, content::archives(options.extensions, kind)?).await?;
        let world = World::start(&client, &server, options.extensions, directory.path()).await?;
        let done = measured(options, &client, &server, &world).await;
        let cleared = world.finish(&client).await;
        let measured = done.and_then(|measured| cleared.map(|()| measured))?;
        print!("{}", measured.table());
        sources.push(measured);
    }
    println!("measuring an archive of {} MiB", options.unpack_mib);
    let unpacking = tokio::task::block_in_place(|| unpack::measure(options.unpack_mib))?;
    let report = Report { sources, unpacking };
    print!("{}", report.unpacking_table());
    println!("written to {}", report.write()?.display());
    report.judge()
}

async fn measured(
    options: &Options,
    client: &Client,
    server: &SourceServer,
    world: &World,
) -> anyhow::Result<Measured> {
    let program = options.controller.as_deref();
    let mut rounds = vec![];
    for number in 1..options.rounds {
        println!("round {number} of {}: the floor, then the controller", options.rounds);
        let floor = floor::measure(client, server, world).await?;
        let time = measure::time(client, world, program).await?;
        let round = Round { time, floor };
        println!("{round}");
        rounds.push(round);
    }
    println!("round {0} of {0}: the floor, then the controller and what it costs", options.rounds);
    let floor = floor::measure(client, server, world).await?;
    let idle = Duration::from_secs(options.idle_seconds);
    let installs = measure::installs(client, server, world, program, &floor, idle).await?;
    rounds.push(Round { time: installs.time, floor });
    Measured::new(server.kind(), rounds, installs)
}
