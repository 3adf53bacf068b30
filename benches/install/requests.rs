//! Requests that the API server has answered, from its own counters.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;

/// The API server's counter of requests by code, verb, group, resource and subresource.
const METRIC: &str = "apiserver_request_total{";
/// What the benchmark itself asks.
const OWN: &str = "/metrics";

/// Numbers of requests, by verb and what they were about (`configmaps`, `leases`, `orchestratorextensions/status`).
#[derive(Clone, Default)]
pub struct Requests(BTreeMap<(String, String), f64>);

/// All requests so far.
pub async fn counted(client: &Client) -> anyhow::Result<Requests> {
    let request = axum::http::Request::get("/metrics").body(Vec::new())?;
    let text = client.request_text(request).await.context("reading the API server's metrics")?;
    let mut requests = Requests::default();
    for line in text.lines().filter_map(|line| line.strip_prefix(METRIC)) {
        let (labels, count) = line.rsplit_once(' ').context("a metric has no value")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let (resource, subresource) = (label("resource").unwrap_or_default(), label("subresource").unwrap_or_default());
        if subresource == OWN {
            continue;
        }
        let about = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        *requests.0.entry((label(",verb").unwrap_or_default().to_owned(), about)).or_default() +=
            count.parse::<f64>()?;
    }
    Ok(requests)
}

impl Requests {
    /// Those since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        self.less(earlier, 1.0)
    }

    /// Those of one second, if these were of `time`.
    pub fn per(&self, time: Duration) -> Self {
        Self(self.0.iter().map(|(key, count)| (key.clone(), count / time.as_secs_f64())).collect())
    }

    /// Those that are left without what is done in each second of `time` anyway.
    pub fn without(&self, per_second: &Self, time: Duration) -> Self {
        self.less(per_second, time.as_secs_f64())
    }

    fn less(&self, others: &Self, times: f64) -> Self {
        let left = self.0.iter().map(|(key, count)| {
            let other = others.0.get(key).copied().unwrap_or_default();
            (key.clone(), (count - other * times).max(0.0))
        });
        Self(left.filter(|(_, count)| *count > 0.0).collect())
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.0.values().fold(0.0, |sum, count| sum + count)
    }

    /// Those that change something, by the verbs that the API server counts.
    pub fn writes(&self) -> f64 {
        let is_write = |verb: &str| matches!(verb, "POST" | "PUT" | "PATCH" | "DELETE" | "DELETECOLLECTION" | "APPLY");
        // asking who may do what and taking a Lease change nothing about an extension
        let counts = self
            .0
            .iter()
            .filter(|((verb, about), _)| is_write(verb) && !about.ends_with("reviews") && about != "leases");
        counts.fold(0.0, |sum, (_, count)| sum + count)
    }

    /// By verb, rounded.
    pub fn by_verb(&self) -> BTreeMap<&str, u64> {
        let mut sums = BTreeMap::<&str, f64>::new();
        for ((verb, _), count) in &self.0 {
            *sums.entry(verb).or_default() += count;
        }
        // a count is no negative number and no large one
        sums.into_iter().map(|(verb, count)| (verb, count.round() as u64)).filter(|(_, count)| *count > 0).collect()
    }

    /// What most requests were about: `PUT orchestratorextensions/status 1000`.
    pub fn most(&self, how_many: usize) -> Vec<String> {
        let mut counts: Vec<_> = self.0.iter().collect();
        counts.sort_by(|a, b| b.1.total_cmp(a.1));
        counts.iter().take(how_many).map(|((verb, about), count)| format!("{verb} {about} {count:.0}")).collect()
    }
}
