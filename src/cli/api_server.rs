//! Where the API server listens: what no source may be fetched from.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Uri;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use tokio::net::lookup_host;

use crate::source::AddressPolicy;

/// The namespace and the name under which the API server publishes where it listens.
const PUBLISHED: (&str, &str) = ("default", "kubernetes");

/// How long to wait between readings.
pub(super) struct Pauses {
    /// After one: nodes of the control plane come and go.
    after: Duration,
    /// After the first that failed; doubled with each more.
    first: Duration,
    /// At most after one that failed.
    longest: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        let [after, first, longest] = [600, 1, 60].map(Duration::from_secs);
        Self { after, first, longest }
    }
}

/// Keeps sources from the API server: closes where it listens in `policy`, calls `closed` when that is done for the first time,
/// and reads it again every few minutes. What was read last counts until the next can be.
pub(super) async fn keep_closed(
    client: Client,
    url: Uri,
    policy: AddressPolicy,
    pauses: Pauses,
    closed: impl FnOnce(),
) {
    let (mut closed, mut pause) = (Some(closed), pauses.first);
    loop {
        match addresses(&client, &url).await {
            Ok(addresses) => {
                policy.close(addresses);
                if let Some(closed) = closed.take() {
                    closed();
                }
                pause = pauses.first;
                tokio::time::sleep(pauses.after).await;
            }
            Err(error) => {
                let fetching_waits = closed.is_some();
                tracing::warn!(fetching_waits, error = %format!("{error:#}"), "where the API server listens cannot be read");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(pauses.longest);
            }
        }
    }
}

/// All that is known to lead to the API server: what `url`, at which this process reaches it, names; the cluster IP that
/// pods are told of; and the addresses that it publishes itself.
///
/// # Errors
/// If any of it cannot be found out.
async fn addresses(client: &Client, url: &Uri) -> anyhow::Result<Vec<SocketAddr>> {
    let default_port = if url.scheme_str() == Some("http") { 80 } else { 443 };
    let mut all = resolved(url.host().unwrap_or_default(), url.port_u16().unwrap_or(default_port)).await?;
    if let (Ok(host), Ok(port)) = (env::var("KUBERNETES_SERVICE_HOST"), env::var("KUBERNETES_SERVICE_PORT")) {
        all.extend(resolved(&host, port.parse().unwrap_or(default_port)).await?);
    }
    let (namespace, name) = PUBLISHED;
    let slice = Api::<EndpointSlice>::namespaced(client.clone(), namespace).get_opt(name).await;
    // There is none where the API server is told not to publish itself.
    all.extend(slice.with_context(|| format!("reading EndpointSlice {namespace}/{name}"))?.iter().flat_map(published));
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

async fn resolved(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    // a URL has an IPv6 address in brackets
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(lookup_host((host, port)).await.with_context(|| format!("looking up {host}"))?.collect())
}

fn published(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports: Vec<u16> = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok()).collect();
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses
        .filter_map(|address| address.parse().ok())
        .flat_map(|address| ports.iter().map(move |port| SocketAddr::new(address, *port)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::http::StatusCode;
    use serde_json::json;
    use tokio::sync::oneshot;

    use super::*;
    use crate::fake_api::FakeApi;

    const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

    fn addresses_of(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn slice(addresses: &[&str]) -> serde_json::Value {
        let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "ports": [{"name": "https", "port": 6443}], "endpoints": endpoints,
        })
    }

    #[tokio::test]
    async fn the_api_server_is_found_by_its_url_and_by_what_it_publishes() {
        let api = FakeApi::default();
        let url = Uri::from_static("https://[2001:db8::1]:6443");
        assert_eq!(addresses(&api.client(), &url).await.unwrap(), addresses_of(&["[2001:db8::1]:6443"]));
        api.put(SLICE, slice(&["192.0.2.1", "192.0.2.2"]));
        let expected = addresses_of(&["192.0.2.1:6443", "192.0.2.2:6443", "[2001:db8::1]:6443"]);
        assert_eq!(addresses(&api.client(), &url).await.unwrap(), expected);
        let url = Uri::from_static("https://192.0.2.2");
        let expected = addresses_of(&["192.0.2.1:6443", "192.0.2.2:443", "192.0.2.2:6443"]);
        assert_eq!(addresses(&api.client(), &url).await.unwrap(), expected);
        api.before(|_, _, _| Some(StatusCode::FORBIDDEN));
        let error = addresses(&api.client(), &url).await.unwrap_err();
        assert!(error.to_string().contains("EndpointSlice default/kubernetes"), "{error:#}");
    }

    #[tokio::test]
    async fn fetching_waits_until_the_api_server_is_closed_and_what_comes_later_is_closed_too() {
        let (api, policy) = (FakeApi::default(), AddressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()], vec![]));
        let is_closed = |address: &str| policy.check(address.parse().unwrap(), Some(6443)).is_err();
        let (tell, mut closed) = oneshot::channel();
        let url = Uri::from_static("https://10.0.0.1:6443");
        let soon = Duration::from_millis(2);
        let is_down = Arc::new(AtomicBool::new(true));
        let down = is_down.clone();
        api.before(move |_, _, _| down.load(Ordering::SeqCst).then_some(StatusCode::INTERNAL_SERVER_ERROR));
        api.put(SLICE, slice(&["10.0.0.1", "10.0.0.2"]));
        let pauses = Pauses { after: soon, first: soon, longest: soon };
        tokio::spawn(keep_closed(api.client(), url, policy.clone(), pauses, move || tell.send(()).unwrap()));
        tokio::time::sleep(soon * 10).await;
        assert!(closed.try_recv().is_err(), "the slice cannot be read");
        is_down.store(false, Ordering::SeqCst);
        (&mut closed).await.unwrap();
        assert!(is_closed("10.0.0.2") && !is_closed("10.0.0.3"));
        api.put(SLICE, slice(&["10.0.0.1", "10.0.0.3"]));
        while !is_closed("10.0.0.3") {
            tokio::time::sleep(soon).await;
        }
        is_down.store(true, Ordering::SeqCst);
        tokio::time::sleep(soon * 10).await;
        assert!(is_closed("10.0.0.3"), "what was read last counts");
    }
}
