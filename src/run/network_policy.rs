//! What the pods of an extension's actions may connect to: a pure builder of their NetworkPolicy.
//!
//! A NetworkPolicy adds up with others that select the same pods: one of the operator's namespace that denies all egress
//! is opened by this one, never the other way round.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::job::Operator;
use crate::api::{EXTENSION_LABEL, MANAGED_BY_LABEL, MANAGER};
use crate::validate::EgressRule;

/// Where node-local DNS caches listen: on the node, so that no selector of pods finds them.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// Namespace of the cluster's DNS servers.
const DNS_NAMESPACE: &str = "kube-system";
/// Name of the container's port for runners, as the chart gives it: the webhooks' is not theirs.
const RUNS_PORT: &str = "runs";

/// Name of an extension's NetworkPolicy in the operator's namespace.
pub fn name(extension: &str) -> String {
    format!("outrigger-action-{extension}")
}

/// Builds the NetworkPolicy: DNS of the cluster, the operator, and `egress`. Nobody may connect to the pods.
pub fn network_policy(operator: &Operator, extension: &str, egress: &[EgressRule]) -> NetworkPolicy {
    let labels = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned()),
        (EXTENSION_LABEL.to_owned(), extension.to_owned()),
    ]);
    let mut rules = vec![dns(), operator_pods()];
    // Some networks look at the address of a Service, others at that of the pod behind it.
    if let Some(address) = operator.address.strip_prefix("https://").and_then(|text| text.parse::<SocketAddr>().ok()) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        rules.push(NetworkPolicyEgressRule {
            to: Some(vec![block(format!("{}/{bits}", address.ip()))]),
            ports: Some(vec![port("TCP", address.port())]),
        });
    }
    rules.extend(egress.iter().map(|rule| {
        NetworkPolicyEgressRule {
            to: Some(vec![block(rule.network.to_string())]),
            ports: Some(rule.ports.iter().map(|given| port(given.protocol.as_str(), given.port)).collect())
                .filter(|ports: &Vec<_>| !ports.is_empty()),
        }
    }));
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name(extension)),
            namespace: Some(operator.namespace.clone()),
            labels: Some(labels.clone()),
            ..Default::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: None,
            egress: Some(rules),
        }),
    }
}

/// DNS servers of the cluster only: any server that is asked could carry data away.
fn dns() -> NetworkPolicyEgressRule {
    let namespace = [("kubernetes.io/metadata.name".to_owned(), DNS_NAMESPACE.to_owned())];
    let selector = LabelSelector { match_labels: Some(namespace.into()), match_expressions: None };
    let pods = NetworkPolicyPeer { namespace_selector: Some(selector), ..Default::default() };
    NetworkPolicyEgressRule {
        to: Some(vec![pods, block(NODE_LOCAL_DNS.into())]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

/// The runners' port of the operator's pods, by the labels and the name that the chart gives them.
fn operator_pods() -> NetworkPolicyEgressRule {
    let labels = [("app.kubernetes.io/name", "outrigger"), ("app.kubernetes.io/component", "operator")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let selector = LabelSelector { match_labels: Some(labels.into()), match_expressions: None };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer { pod_selector: Some(selector), ..Default::default() }]),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::String(RUNS_PORT.into())),
            ..Default::default()
        }]),
    }
}

fn block(cidr: String) -> NetworkPolicyPeer {
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr, except: None }), ..Default::default() }
}

fn port(protocol: &str, port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(port))),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::{EgressPort, Protocol};

    fn operator() -> Operator {
        Operator {
            namespace: "outrigger-system".into(),
            claim_name: "store".into(),
            default_image: "image".into(),
            service_account: "outrigger-action".into(),
            architecture: "amd64".into(),
            runner_subpath: "runner".into(),
            address: "https://10.0.0.1:9444".into(),
            ca_pem: String::new(),
        }
    }

    fn built(egress: &[EgressRule]) -> serde_json::Value {
        serde_json::to_value(network_policy(&operator(), "redfish", egress)).unwrap()
    }

    #[test]
    fn dns_and_the_operator_are_open_and_nothing_else() {
        let policy = built(&[]);
        assert_eq!(policy["metadata"]["name"], "outrigger-action-redfish");
        assert_eq!(
            policy["spec"],
            json!({
                "podSelector": {"matchLabels": {
                    "app.kubernetes.io/managed-by": "outrigger", "outrigger.dev/extension": "redfish",
                }},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [
                    {
                        "to": [
                            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
                            {"ipBlock": {"cidr": "169.254.20.10/32"}},
                        ],
                        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
                    },
                    {
                        "to": [{"podSelector": {"matchLabels": {
                            "app.kubernetes.io/component": "operator", "app.kubernetes.io/name": "outrigger",
                        }}}],
                        "ports": [{"port": "runs"}],
                    },
                    {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"port": 9444, "protocol": "TCP"}]},
                ],
            })
        );
    }

    #[test]
    fn a_network_is_open_on_the_ports_that_are_named_or_on_all() {
        let network = |text: &str| text.parse().unwrap();
        let policy = built(&[
            EgressRule {
                network: network("192.0.2.0/24"),
                ports: vec![
                    EgressPort { port: 443, protocol: Protocol::Tcp },
                    EgressPort { port: 623, protocol: Protocol::Udp },
                ],
            },
            EgressRule { network: network("2001:db8::/32"), ports: vec![] },
        ]);
        let rules = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(
            rules[3..],
            [
                json!({
                    "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
                    "ports": [{"port": 443, "protocol": "TCP"}, {"port": 623, "protocol": "UDP"}],
                }),
                json!({"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}),
            ]
        );
    }
}
