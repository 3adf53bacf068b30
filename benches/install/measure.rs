//! The installs: how long they take and what they cost, what idling costs, and what a re-sync does.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ApiResource, Object};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use outrigger::api::OrchestratorExtension;
use outrigger::api::conditions::{READY, STALLED, find, is_true};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::watch;

use crate::controller::Controller;
use crate::floor::Floor;
use crate::requests::{Requests, counted};
use crate::server::SourceServer;
use crate::world::{World, name, patch_each};

/// Longest wait for all to be Ready.
const LIMIT: Duration = Duration::from_secs(900);
/// Interval of the re-sync: the shortest that a resource may ask for.
const INTERVAL: Duration = Duration::from_secs(10);
/// Intervals for which the re-sync is watched.
const INTERVALS: u32 = 3;

/// What was measured about installs.
pub struct Installs {
    /// How many.
    pub count: u32,
    /// From apply until all were Ready.
    pub time: Duration,
    /// The controller's processor time until nothing of it was left to write, in seconds.
    pub cpu_seconds: f64,
    /// The controller's greatest resident memory until then, in MiB.
    pub install_peak_mib: f64,
    /// The same to the end, idling and the re-sync included.
    pub peak_mib: f64,
    /// API requests until then, those of the apply excluded.
    pub requests: Requests,
    /// Bodies that were downloaded.
    pub downloads: u64,
    /// How long the controller idled.
    pub idle: Duration,
    /// Its processor time meanwhile, in seconds.
    pub idle_cpu_seconds: f64,
    /// API requests meanwhile.
    pub idle_requests: Requests,
    /// Bodies that the re-sync downloaded.
    pub resync_downloads: u64,
    /// How often the re-sync was answered that nothing had changed.
    pub resync_unchanged: u64,
    /// API requests of the re-sync that write.
    pub resync_writes: f64,
    /// Processor time of the re-sync, in seconds.
    pub resync_cpu_seconds: f64,
}

/// How long it takes until all extensions are Ready, from their apply. They are deleted again; their files stay.
pub async fn time(client: &Client, world: &World, program: Option<&Path>) -> anyhow::Result<Duration> {
    let (controller, ready) = start(client, world, program).await?;
    let time = all_ready(world, &ready).await?;
    forget(client, world, controller).await?;
    Ok(time)
}

async fn start(client: &Client, world: &World, program: Option<&Path>) -> anyhow::Result<(Controller, Watch)> {
    let controller = Controller::start(world, program).await?;
    let ready = Watch::start(client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((controller, ready))
}

async fn all_ready(world: &World, ready: &Watch) -> anyhow::Result<Duration> {
    let started = Instant::now();
    world.apply().await?;
    ready.count(world.count, 1).await?;
    Ok(started.elapsed())
}

/// Installs all extensions with the controller, and watches it for a while.
pub async fn installs(
    client: &Client,
    server: &SourceServer,
    world: &World,
    program: Option<&Path>,
    floor: &Floor,
    idle: Duration,
) -> anyhow::Result<Installs> {
    let (controller, ready) = start(client, world, program).await?;

    let (cpu, requests, answered) = (controller.cpu_seconds()?, counted(client).await?, server.answered());
    let started = Instant::now();
    let time = all_ready(world, &ready).await?;
    let settled = settle(client, floor).await?;
    let cpu_seconds = controller.cpu_seconds()? - cpu;
    let install_peak_mib = controller.peak_mib()?;
    let requests = settled.since(&requests).since(&floor.requests).without(&floor.background, started.elapsed());
    let downloads = server.answered().downloads - answered.downloads;

    let (cpu, idle_requests) = (controller.cpu_seconds()?, counted(client).await?);
    tokio::time::sleep(idle).await;
    let idle_cpu_seconds = controller.cpu_seconds()? - cpu;
    let idle_requests = counted(client).await?.since(&idle_requests).without(&floor.background, idle);

    set_interval(client, world).await?;
    ready.count(world.count, 2).await?;
    // everything that the changed resources cause is over
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (cpu, requests_before, answered) = (controller.cpu_seconds()?, counted(client).await?, server.answered());
    let watched = INTERVAL * INTERVALS;
    tokio::time::sleep(watched).await;
    let resynced = server.answered();
    let resync_requests = counted(client).await?.since(&requests_before).without(&floor.background, watched);
    let installs = Installs {
        count: world.count,
        time,
        cpu_seconds,
        install_peak_mib,
        peak_mib: controller.peak_mib()?,
        requests,
        downloads,
        idle,
        idle_cpu_seconds,
        idle_requests,
        resync_downloads: resynced.downloads - answered.downloads,
        resync_unchanged: resynced.unchanged - answered.unchanged,
        resync_writes: resync_requests.writes(),
        resync_cpu_seconds: controller.cpu_seconds()? - cpu,
    };
    ensure!(
        installs.resync_unchanged >= u64::from(world.count),
        "only {} of {} sources were looked at again",
        installs.resync_unchanged,
        world.count
    );
    forget(client, world, controller).await?;
    Ok(installs)
}

/// Deletes the extensions without the controller, which would delete files for them.
async fn forget(client: &Client, world: &World, controller: Controller) -> anyhow::Result<()> {
    controller.stop().await?;
    world.forget(client).await
}

/// Waits until nothing is written any more: events follow the status, at a bounded rate. What was requested by then.
async fn settle(client: &Client, floor: &Floor) -> anyhow::Result<Requests> {
    let pause = Duration::from_secs(2);
    let started = Instant::now();
    let mut before = counted(client).await?;
    loop {
        tokio::time::sleep(pause).await;
        let now = counted(client).await?;
        if now.since(&before).without(&floor.background, pause).writes() < 1.0 {
            return Ok(now);
        }
        ensure!(started.elapsed() < LIMIT, "something is still written {} s after all were Ready", LIMIT.as_secs());
        before = now;
    }
}

async fn set_interval(client: &Client, world: &World) -> anyhow::Result<()> {
    let patch = json!({"spec": {"interval": format!("{}s", INTERVAL.as_secs())}});
    patch_each(client, (0..world.count).map(name), patch).await
}

/// An extension as far as it is looked at: reading more would take from what is measured.
type Watched = Object<IgnoredAny, WatchedStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedStatus {
    observed_generation: Option<i64>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

/// Which generation of each extension is Ready, as a watching client sees it.
struct Watch {
    seen: watch::Receiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    ready: HashMap<String, i64>,
    /// What an extension said that needs a change before anything else will happen.
    stalled: Option<String>,
}

impl Watch {
    fn start(client: &Client) -> Self {
        let api: Api<Watched> = Api::all_with(client.clone(), &ApiResource::erase::<OrchestratorExtension>(&()));
        let (sender, seen) = watch::channel(Seen::default());
        let mut events = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(extension) => sender.send_modify(|seen| seen.note(&extension)),
                    Err(error) => eprintln!("benchmark: {error}"),
                }
            }
        });
        Self { seen, task }
    }

    /// Waits until so many are Ready at this generation.
    async fn count(&self, count: u32, generation: i64) -> anyhow::Result<()> {
        let mut seen = self.seen.clone();
        let reached = |seen: &Seen| seen.ready.values().filter(|found| **found >= generation).count();
        let ended = seen.wait_for(|seen| seen.stalled.is_some() || reached(seen) >= count as usize);
        let ended = tokio::time::timeout(LIMIT, ended).await.map(|ended| ended.map(|seen| seen.stalled.clone()));
        let there = reached(&self.seen.borrow());
        let stalled =
            ended.with_context(|| format!("{there} of {count} extensions are Ready after {} s", LIMIT.as_secs()))??;
        stalled.map_or(Ok(()), |problem| bail!("{problem}"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn note(&mut self, extension: &Watched) {
        let Some(status) = &extension.status else { return };
        let (name, generation) = (extension.name_any(), extension.metadata.generation);
        if let Some(stalled) = find(&status.conditions, STALLED) {
            self.stalled = Some(format!("{name} is stalled: {}", stalled.message));
        }
        // a status speaks for the generation that it has observed
        if let Some(generation) = generation.filter(|_| status.observed_generation == generation)
            && is_true(&status.conditions, READY)
        {
            self.ready.insert(name, generation);
        }
    }
}
