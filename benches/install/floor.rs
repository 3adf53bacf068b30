//! The least that installing can cost: the same resources, archives and a status each, without a controller.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use outrigger::api::OrchestratorExtension;
use serde_json::json;

use crate::requests::{Requests, counted};
use crate::server::SourceServer;
use crate::world::{World, name};

/// How many archives are fetched and statuses patched at a time.
const CONCURRENCY: usize = 10;
/// How long it is watched what the cluster does while nothing happens.
const QUIET: Duration = Duration::from_secs(10);

/// What the floor consists of.
pub struct Floor {
    /// `kubectl apply` of all resources.
    pub apply: Duration,
    /// Fetching and unpacking all archives, from a registry with their manifests.
    pub fetch: Duration,
    /// One status PATCH each.
    pub status: Duration,
    /// API requests of the apply.
    pub requests: Requests,
    /// API requests of the cluster in one second, while nothing happens.
    pub background: Requests,
}

impl Floor {
    /// All three, one after the other.
    pub fn total(&self) -> Duration {
        self.apply + self.fetch + self.status
    }
}

/// Measures the floor, and deletes the resources again.
pub async fn measure(client: &Client, server: &SourceServer, world: &World) -> anyhow::Result<Floor> {
    world.warm_up().await?;
    let before = counted(client).await?;
    tokio::time::sleep(QUIET).await;
    let background = counted(client).await?.since(&before).per(QUIET);
    let before = counted(client).await?;
    let apply = world.apply().await?;
    let requests = counted(client).await?.since(&before).without(&background, apply);
    let fetch = fetch(server, world).await?;
    let status = patch(client, world).await?;
    world.delete_extensions(client).await?;
    Ok(Floor { apply, fetch, status, requests, background })
}

async fn fetch(server: &SourceServer, world: &World) -> anyhow::Result<Duration> {
    let directory = world.directory("floor")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let started = Instant::now();
    let fetched = futures::stream::iter(0..world.count).map(|number| {
        let (client, directory) = (client.clone(), directory.join(name(number)));
        async move {
            let packed = server.download(&client, number).await?;
            tokio::task::spawn_blocking(move || unpack(&packed, &directory)).await?
        }
    });
    fetched.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    Ok(started.elapsed())
}

fn unpack(packed: &[u8], directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(directory)?;
    Ok(tar::Archive::new(flate2::read::GzDecoder::new(packed)).unpack(directory)?)
}

async fn patch(client: &Client, world: &World) -> anyhow::Result<Duration> {
    let api: Api<OrchestratorExtension> = Api::all(client.clone());
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let patch = Patch::Merge(json!({"status": {"observedGeneration": 1, "conditions": [ready]}}));
    let started = Instant::now();
    let patched = futures::stream::iter(0..world.count).map(|number| {
        let (api, patch) = (&api, &patch);
        async move { api.patch_status(&name(number), &PatchParams::default(), patch).await.map(drop) }
    });
    patched.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    Ok(started.elapsed())
}
