//! Where the API server listens: what no source may be fetched from.

use std::env;
use std::net::SocketAddr;

use axum::http::Uri;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use tokio::net::lookup_host;

/// The namespace and the name under which the API server publishes where it listens.
const PUBLISHED: (&str, &str) = ("default", "kubernetes");

/// All that is known to lead to the API server: what `url`, at which this process reaches it, names; the cluster IP that
/// pods are told of; and the addresses that it publishes itself. What cannot be found out is logged and left out.
pub(super) async fn addresses(client: &Client, url: &Uri) -> Vec<SocketAddr> {
    let default_port = if url.scheme_str() == Some("http") { 80 } else { 443 };
    let mut all = resolved(url.host().unwrap_or_default(), url.port_u16().unwrap_or(default_port)).await;
    if let (Ok(host), Ok(port)) = (env::var("KUBERNETES_SERVICE_HOST"), env::var("KUBERNETES_SERVICE_PORT")) {
        all.extend(resolved(&host, port.parse().unwrap_or(default_port)).await);
    }
    let (namespace, name) = PUBLISHED;
    match Api::<EndpointSlice>::namespaced(client.clone(), namespace).get(name).await {
        Ok(slice) => all.extend(published(&slice)),
        Err(error) => {
            tracing::warn!(%error, "EndpointSlice {namespace}/{name}: sources are not kept from what it names")
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

async fn resolved(host: &str, port: u16) -> Vec<SocketAddr> {
    // a URL has an IPv6 address in brackets
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            tracing::warn!(%error, host, "looking up the API server: sources are not kept from it");
            Vec::new()
        }
    }
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
    use serde_json::json;

    use super::*;
    use crate::fake_api::FakeApi;

    fn addresses_of(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn the_api_server_is_found_by_its_url_and_by_what_it_publishes() {
        let api = FakeApi::default();
        let url = Uri::from_static("https://[2001:db8::1]:6443");
        assert_eq!(addresses(&api.client(), &url).await, addresses_of(&["[2001:db8::1]:6443"]));
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "ports": [{"name": "https", "port": 6443}],
            "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"]}],
        });
        api.put("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes", slice);
        let url = Uri::from_static("https://192.0.2.2");
        let expected = addresses_of(&["192.0.2.1:6443", "192.0.2.2:443", "192.0.2.2:6443"]);
        assert_eq!(addresses(&api.client(), &url).await, expected);
    }
}
