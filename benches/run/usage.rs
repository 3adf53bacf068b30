//! What the operator's replicas say of themselves: requests to the API, and memory.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::installation::NAMESPACE;

/// Verbs that change something.
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
/// Not about runs: the Lease is renewed all the time. Reviews change nothing, and are counted apart.
const NOT_WRITES: [&str; 4] = ["leases", "subjectaccessreviews", "tokenreviews", "selfsubjectreviews"];

/// What all replicas together have done since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Writes to the API, besides the Lease and reviews.
    pub writes: f64,
    /// All requests to the API but for the Lease and watches.
    pub requests: f64,
    /// Memory of the replica that has most, in bytes: the leader.
    pub memory: f64,
}

impl Usage {
    /// Asks every replica, through the API server.
    pub async fn now(client: &Client) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let replicas = pods.list(&ListParams::default().labels("app.kubernetes.io/name=outrigger")).await?;
        let mut usage = Self::default();
        for pod in replicas.items.iter().filter(|pod| is_replica(pod)) {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
            let request = axum::http::Request::get(path).body(vec![])?;
            let text = client.request_text(request).await.with_context(|| format!("metrics of {}", pod.name_any()))?;
            usage.add(&text);
        }
        ensure!(usage.memory > 0.0, "no replica of the operator tells its metrics");
        Ok(usage)
    }

    /// What happened since `earlier`, for each of `runs`.
    pub fn per_run_since(&self, earlier: &Self, runs: u32) -> Self {
        let per_run = |now: f64, then: f64| (now - then) / f64::from(runs);
        Self {
            writes: per_run(self.writes, earlier.writes),
            requests: per_run(self.requests, earlier.requests),
            memory: self.memory,
        }
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let label = |label: &str| name.split_once(&format!("{label}=\""))?.1.split('"').next();
            if name == "outrigger_resident_memory_bytes" {
                self.memory = self.memory.max(value);
            } else if let (true, Some(verb), Some(resource)) =
                (name.starts_with("outrigger_api_requests_total{"), label("verb"), label("resource"))
            {
                if verb != "watch" && resource != "leases" {
                    self.requests += value;
                }
                if WRITES.contains(&verb) && !NOT_WRITES.contains(&resource) {
                    self.writes += value;
                }
            }
        }
    }
}

/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the operator's memory for as long as something is measured.
pub struct Memory {
    end: oneshot::Sender<()>,
    peak: JoinHandle<f64>,
}

impl Memory {
    /// Looks from now on.
    pub fn start(client: &Client) -> Self {
        let (end, mut ended) = oneshot::channel();
        let client = client.clone();
        let peak = tokio::spawn(async move {
            let mut peak = 0.0_f64;
            loop {
                // A replica that is too busy to answer does so the next time.
                if let Ok(usage) = Usage::now(&client).await {
                    peak = peak.max(usage.memory);
                }
                match tokio::time::timeout(LOOK, &mut ended).await {
                    Ok(_) => return peak,
                    Err(_) => continue,
                }
            }
        });
        Self { end, peak }
    }

    /// The most that a replica has had since, in bytes.
    pub async fn peak(self) -> anyhow::Result<f64> {
        drop(self.end);
        let peak = self.peak.await?;
        ensure!(peak > 0.0, "no replica of the operator told its memory");
        Ok(peak)
    }
}

fn is_replica(pod: &Pod) -> bool {
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    running && pod.metadata.deletion_timestamp.is_none() && pod.name_any().starts_with("outrigger-")
}
