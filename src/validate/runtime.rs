//! How an extension's Jobs look: `spec.runtime`. Pure: no client, clock, disk or network.

use ipnet::IpNet;

use crate::api::extension as api;

use super::problem::{Problem, quoted};
use super::types::{EgressPort, EgressRule, Protocol, Runtime};

/// Seconds between TERM and KILL where nothing is said.
const DEFAULT_GRACE_SECONDS: u64 = 10;

/// Reads `spec.runtime`; problems are added to `problems`.
pub(super) fn runtime(given: Option<&api::Runtime>, problems: &mut Vec<Problem>) -> Runtime {
    let Some(given) = given else {
        return Runtime { grace_seconds: DEFAULT_GRACE_SECONDS, ..Runtime::default() };
    };
    if let Some(image) = &given.image
        && (image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        let message = format!(
            "{} is no image reference; allowed is one such as \"docker.io/library/python:3.13\"",
            quoted(image)
        );
        problems.push(Problem::new("spec.runtime.image", message));
    }
    for name in given.env.iter().flatten().map(|(name, _)| name) {
        let path = format!("spec.runtime.env[{}]", quoted(name));
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            let message =
                "is no name of a variable; allowed are letters, digits, \"_\", \"-\" and \".\", not first a digit";
            problems.push(Problem::new(path, message));
        } else if name.starts_with("OUTRIGGER_") {
            problems.push(Problem::new(path, "names that begin with OUTRIGGER_ are the runner's; choose another"));
        }
    }
    for (name, value) in given.env.iter().flatten() {
        if value.contains('\0') {
            let path = format!("spec.runtime.env[{}]", quoted(name));
            problems.push(Problem::new(path, "holds a NUL character, which no variable can"));
        }
    }
    Runtime {
        image: given.image.clone(),
        image_pull_secrets: given.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect(),
        resources: given.resources.clone(),
        env: given.env.clone().unwrap_or_default(),
        node_selector: given.node_selector.clone().unwrap_or_default(),
        tolerations: given.tolerations.clone().unwrap_or_default(),
        grace_seconds: given.termination_grace_period_seconds.map_or(DEFAULT_GRACE_SECONDS, u64::from),
        egress: given.network_policy.as_ref().map(|policy| egress(policy, problems)),
    }
}

fn egress(given: &api::NetworkPolicy, problems: &mut Vec<Problem>) -> Vec<EgressRule> {
    let mut rules = vec![];
    for (index, rule) in given.egress.iter().enumerate() {
        let path = format!("spec.runtime.networkPolicy.egress[{index}]");
        match rule.cidr.parse::<IpNet>() {
            Ok(network) => rules.push(EgressRule { network: network.trunc(), ports: ports(&path, rule, problems) }),
            Err(_) => {
                let message = format!(
                    "{} is no network; allowed is one such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
                    quoted(&rule.cidr)
                );
                problems.push(Problem::new(format!("{path}.cidr"), message));
            }
        }
    }
    rules
}

fn ports(path: &str, rule: &api::EgressRule, problems: &mut Vec<Problem>) -> Vec<EgressPort> {
    let mut ports = vec![];
    for (index, given) in rule.ports.iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let protocol = match given.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(other) => {
                let message = format!("{} is not known; allowed are TCP and UDP", quoted(other));
                problems.push(Problem::new(format!("{path}.protocol"), message));
                continue;
            }
        };
        match u16::try_from(given.port) {
            Ok(port) if port > 0 => ports.push(EgressPort { port, protocol }),
            _ => problems.push(Problem::new(
                format!("{path}.port"),
                format!("{} is no port; allowed are 1 to 65535", given.port),
            )),
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(network_policy: serde_json::Value) -> (Runtime, Vec<String>) {
        let given = serde_json::from_value(json!({"networkPolicy": network_policy})).unwrap();
        let mut problems = vec![];
        let read = runtime(Some(&given), &mut problems);
        (read, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn networks_and_ports_are_read_and_none_given_is_none_open() {
        let (read_, problems) = read(
            json!({"egress": [{"cidr": "192.0.2.7/24", "ports": [{"port": 623, "protocol": "UDP"}, {"port": 443}]}]}),
        );
        assert!(problems.is_empty(), "{problems:?}");
        let ports =
            vec![EgressPort { port: 623, protocol: Protocol::Udp }, EgressPort { port: 443, protocol: Protocol::Tcp }];
        assert_eq!(read_.egress, Some(vec![EgressRule { network: "192.0.2.0/24".parse().unwrap(), ports }]));
        assert_eq!(read(json!({})).0.egress, Some(vec![]));
        assert_eq!(runtime(None, &mut vec![]).egress, None);
    }

    #[test]
    fn what_is_no_network_port_or_protocol_is_named() {
        let (_, problems) = read(json!({"egress": [
            {"cidr": "192.0.2.0/40"},
            {"cidr": "192.0.2.0/24", "ports": [{"port": 0}, {"port": 70000}, {"port": 1, "protocol": "SCTP"}]},
        ]}));
        assert_eq!(
            problems,
            [
                "spec.runtime.networkPolicy.egress[0].cidr: \"192.0.2.0/40\" is no network; allowed is one such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
                "spec.runtime.networkPolicy.egress[1].ports[0].port: 0 is no port; allowed are 1 to 65535",
                "spec.runtime.networkPolicy.egress[1].ports[1].port: 70000 is no port; allowed are 1 to 65535",
                "spec.runtime.networkPolicy.egress[1].ports[2].protocol: \"SCTP\" is not known; allowed are TCP and UDP",
            ]
        );
    }
}
