//! The operator's metrics, in the OpenMetrics text format.

use std::sync::Arc;

use axum::http::{Method, Uri};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::requests::described;
use crate::api::{Phase, Reason};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
}

/// How a runner's request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestResult {
    /// Granted, or stored.
    Accepted,
    /// Refused for ever (401, 409).
    Refused,
    /// The run is gone (410).
    Gone,
    /// The runner was asked to try again (503).
    Unavailable,
}

impl RequestResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Every metric of the process. Clones count into the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ReconcileLabels, Counter>,
    runs: Family<PhaseLabels, Gauge>,
    queued: Gauge,
    active: Gauge,
    claims: Family<ResultLabels, Counter>,
    reports: Family<ResultLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    fetched: Counter,
    leader: Gauge,
    memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that all stand at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("outrigger");
        let reconciles = Family::<ReconcileLabels, Counter>::default();
        registry.register("reconciles", "Reconciles that ended, by kind of object and reason", reconciles.clone());
        let runs = Family::<PhaseLabels, Gauge>::default();
        registry.register("runs", "ActionRuns that exist, by phase", runs.clone());
        let queued = Gauge::default();
        registry.register("runs_queued", "ActionRuns that wait for their turn", queued.clone());
        let active = Gauge::default();
        registry.register(
            "runs_active",
            "ActionRuns that count against the limits: decided to start, and not ended",
            active.clone(),
        );
        let claims = Family::<ResultLabels, Counter>::default();
        registry.register("claims", "Claims of runners that this replica answered as leader", claims.clone());
        let reports = Family::<ResultLabels, Counter>::default();
        registry.register(
            "reports",
            "Outcomes reported by runners that this replica answered as leader",
            reports.clone(),
        );
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("api_requests", "Requests to the Kubernetes API, by verb and resource", requests.clone());
        let fetched = Counter::default();
        registry.register_with_unit("fetched", "Bytes fetched from sources", Unit::Bytes, fetched.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this replica is the one writer", leader.clone());
        let memory = Gauge::default();
        let help = "Memory of the process that is not swapped out";
        registry.register_with_unit("resident_memory", help, Unit::Bytes, memory.clone());
        registry.register("build", "The operator's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let registry = Arc::new(registry);
        Self { registry, reconciles, runs, queued, active, claims, reports, requests, fetched, leader, memory }
    }

    /// A reconcile of an object of `kind` ended with `reason`.
    pub fn reconciled(&self, kind: &'static str, reason: Reason) {
        self.reconciles.get_or_create(&ReconcileLabels { kind, reason: reason.as_str() }).inc();
    }

    /// So many ActionRuns are in `phase` now.
    pub fn set_runs(&self, phase: Phase, count: usize) {
        self.runs.get_or_create(&PhaseLabels { phase: phase.as_str() }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many ActionRuns wait for their turn now, and so many count against the limits.
    pub fn set_queue(&self, queued: usize, active: usize) {
        self.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.active.set(i64::try_from(active).unwrap_or(i64::MAX));
    }

    /// A claim was answered.
    pub fn claimed(&self, result: RequestResult) {
        self.claims.get_or_create(&ResultLabels { result: result.as_str() }).inc();
    }

    /// A report was answered.
    pub fn reported(&self, result: RequestResult) {
        self.reports.get_or_create(&ResultLabels { result: result.as_str() }).inc();
    }

    /// A request goes to the Kubernetes API.
    pub fn requested(&self, method: &Method, uri: &Uri) {
        let (verb, resource) = described(method, uri);
        self.requests.get_or_create(&RequestLabels { verb, resource }).inc();
    }

    /// This many bytes came from a source.
    pub fn fetched(&self, bytes: u64) {
        self.fetched.inc_by(bytes);
    }

    /// This replica became, or ceased to be, the one writer.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// All metrics as OpenMetrics 1.0 text.
    pub fn encode(&self) -> String {
        self.memory.set(resident_bytes().unwrap_or_default());
        let mut text = String::new();
        // Writing to a String cannot fail, and every metric is one of the library's own.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// As the kernel counts it (`VmRSS` in proc_pid_status(5), in KiB).
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_into_the_same_text() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.reconciled("ActionRun", Reason::Succeeded);
        clone.set_runs(Phase::Running, 2);
        clone.set_queue(3, 5);
        clone.claimed(RequestResult::Refused);
        clone.reported(RequestResult::Accepted);
        clone.fetched(7);
        clone.requested(&Method::POST, &Uri::from_static("/apis/batch/v1/namespaces/n/jobs"));
        clone.set_leader(true);
        let text = metrics.encode();
        for line in [
            "outrigger_reconciles_total{kind=\"ActionRun\",reason=\"Succeeded\"} 1",
            "outrigger_runs{phase=\"Running\"} 2",
            "outrigger_runs_queued 3",
            "outrigger_runs_active 5",
            "outrigger_claims_total{result=\"refused\"} 1",
            "outrigger_reports_total{result=\"accepted\"} 1",
            "outrigger_fetched_bytes_total 7",
            "outrigger_leader 1",
            "outrigger_api_requests_total{verb=\"create\",resource=\"jobs\"} 1",
            "outrigger_build_info{version=\"0.1.0\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let memory = text.lines().find_map(|line| line.strip_prefix("outrigger_resident_memory_bytes "));
        assert!(memory.unwrap().parse::<u64>().unwrap() > 1 << 20, "{text}");
    }
}
