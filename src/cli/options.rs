//! The options of `outrigger controller`, with their defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::source::{AddressPolicy, FetchOptions};
use crate::store::Retention;
use crate::validate::ContractLevels;

/// Options of the operator. In a cluster the chart sets them.
#[derive(Debug, Clone, clap::Args)]
pub struct ControllerOptions {
    /// Kubeconfig of the cluster; without it the pod's service account, or $KUBECONFIG, is used.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The operator's own namespace: its Secrets, the store's claim and the Jobs live there.
    #[arg(long, default_value = "outrigger-system")]
    pub namespace: String,
    /// Directory at which the shared volume is mounted here.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// PersistentVolumeClaim of the same volume, for the Jobs.
    #[arg(long, value_name = "NAME", default_value = "outrigger-store")]
    pub store_claim: String,

    /// Address for webhooks, and for runners unless they have their own (TLS).
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9443")]
    pub listen: SocketAddr,
    /// Address for runners alone (TLS): what reaches it takes no connection from the webhooks.
    #[arg(long, value_name = "ADDR:PORT")]
    pub runs_listen: Option<SocketAddr>,
    /// Directory with tls.crt and tls.key for the webhooks, where the operator is not to make their certificate; its CA is
    /// then somebody else's to write into the webhook configurations.
    #[arg(long, value_name = "DIR", requires = "runs_listen", conflicts_with = "advertise")]
    pub webhook_certificate: Option<PathBuf>,
    /// Address for health and metrics (plain HTTP).
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    pub health_listen: SocketAddr,
    /// The Service in front of the operator: runners dial its cluster IP.
    #[arg(long, value_name = "NAME", conflicts_with = "advertise")]
    pub service: Option<String>,
    /// Address at which runners and the API server reach this process, where there is no Service. Runners use the port of
    /// --runs-listen, where that is given.
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "service")]
    pub advertise: Option<SocketAddr>,
    /// This pod's address, at which the other replicas reach it.
    #[arg(long, value_name = "ADDR", requires = "service")]
    pub pod_address: Option<IpAddr>,
    /// This replica's identity in the Lease. Default: $POD_NAME, else host name and process id.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Run without admission: anyone who can create an ActionRun can claim to be anyone.
    #[arg(long)]
    pub insecure_no_admission: bool,

    /// Image in which actions run unless their extension names another.
    #[arg(long, value_name = "IMAGE")]
    pub action_image: String,
    /// Service account of the Jobs.
    #[arg(long, value_name = "NAME", default_value = "outrigger-action")]
    pub action_service_account: String,
    /// The runner to publish on the volume. Default: `outrigger-runner` beside this executable.
    #[arg(long, value_name = "FILE")]
    pub runner: Option<PathBuf>,
    /// Seconds an action may run where neither run nor action says anything.
    #[arg(long, value_name = "SECONDS", default_value_t = crate::api::DEFAULT_TIMEOUT_SECONDS)]
    pub default_timeout_seconds: u64,
    /// Seconds that no action may exceed.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub max_timeout_seconds: u64,

    /// Most runs at a time in the whole cluster, from the decision to start one until it has ended; more are queued. 0: no
    /// limit.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub max_concurrent_runs: u32,
    /// Most runs of one namespace at a time, so that none can hold all places of --max-concurrent-runs. 0: no limit. Default:
    /// four fifths of those places.
    #[arg(long, value_name = "COUNT")]
    pub max_concurrent_runs_per_namespace: Option<u32>,
    /// Finished runs with generated names that are kept per namespace and extension, unless the extension's
    /// `spec.runtime.runHistoryLimit` says otherwise. 0: all of them.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub run_history_limit: u32,
    /// Seconds after a run's end that the Secret is kept in which `getconsole` or `prepare` answered. 0: as long as the run.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub secret_result_seconds: u64,
    /// Most bytes of each stream of an attempt that are kept: its beginning and its end. 0 keeps none.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(..=2 << 20))]
    pub output_max_bytes: u64,
    /// Seconds that outputs of runs are kept; they go with their run at the latest.
    #[arg(long, value_name = "SECONDS", default_value_t = 7 * 86_400)]
    pub output_retention_seconds: u64,
    /// Most bytes of all outputs together; the oldest of the namespace that has most go first.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub output_max_total_bytes: u64,
    /// Learn how actions ended from their pods alone. For measurements of what the runners' reports are worth.
    #[arg(long, hide = true)]
    pub no_direct_report: bool,

    /// Network that sources may be fetched from although it is private, loopback or link-local; repeatable.
    #[arg(long, value_name = "CIDR")]
    pub allow_address: Vec<IpNet>,
    /// Install nothing that nobody signed: every extension needs `source.verify`, which git and configMap sources and
    /// `manifestURL` cannot have. What is installed already stays.
    #[arg(long)]
    pub require_verification: bool,
    /// HTTP proxy for fetching sources. The environment is not consulted.
    #[arg(long, value_name = "URL")]
    pub proxy: Option<url::Url>,
    /// What a fetched extension may hold.
    #[command(flatten)]
    pub limits: super::limits::LimitOptions,
    /// Contract level served for the type Orchestrator, for `compatibility.cloudstack.minVersion`.
    #[arg(long, value_name = "VERSION", default_value = "4.23.0", value_parser = crate::validate::contract_level)]
    pub orchestrator_contract: String,

    /// Extensions whose sources are fetched at a time, at least 1. What is installed is looked at besides.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub extension_concurrency: u16,
    /// Runs reconciled at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    pub run_concurrency: u16,

    /// How logs are written: `text` or `json`.
    #[arg(long, default_value = "text")]
    pub log_format: crate::telemetry::LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter as `outrigger=debug,kube=info`.
    #[arg(long, default_value = "info")]
    pub log_level: String,
}

impl ControllerOptions {
    /// Most runs at a time; `None`: no limit.
    pub fn max_concurrent_runs(&self) -> Option<u32> {
        Some(self.max_concurrent_runs).filter(|most| *most > 0)
    }

    /// Most runs of one namespace at a time; `None`: no limit.
    pub fn max_concurrent_runs_per_namespace(&self) -> Option<u32> {
        per_namespace(self.max_concurrent_runs_per_namespace, self.max_concurrent_runs()).filter(|most| *most > 0)
    }

    /// The contract levels that are served.
    pub fn contracts(&self) -> ContractLevels {
        ContractLevels { orchestrator: self.orchestrator_contract.clone() }
    }

    /// How sources are fetched. Where the API server listens is not known yet.
    pub fn fetch_options(&self) -> FetchOptions {
        FetchOptions {
            allow: AddressPolicy::new(self.allow_address.clone(), vec![]),
            max_download_bytes: self.limits.max_download_bytes,
            proxy: self.proxy.clone(),
            ..FetchOptions::default()
        }
    }

    /// How long outputs of runs are kept.
    pub fn retention(&self) -> Retention {
        Retention { age: Duration::from_secs(self.output_retention_seconds), bytes: self.output_max_total_bytes }
    }
}

/// What was said of each namespace, or what follows from the limit of all.
fn per_namespace(said: Option<u32>, of_all: Option<u32>) -> Option<u32> {
    said.or_else(|| of_all.map(|most| most - most / 5))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: ControllerOptions,
    }

    fn options(arguments: &[&str]) -> ControllerOptions {
        let needed = ["outrigger", "--store=/v", "--action-image=image", "--advertise=192.0.2.1:9443"];
        Arguments::try_parse_from([&needed, arguments].concat()).map_err(|error| error.to_string()).unwrap().options
    }

    #[test]
    fn the_contract_level_that_is_served_is_an_option() {
        assert_eq!(options(&[]).contracts(), ContractLevels::default());
        assert_eq!(options(&["--orchestrator-contract=4.24"]).contracts().orchestrator, "4.24");
    }

    #[test]
    fn what_bounds_fetching_is_an_option() {
        let default = options(&[]).fetch_options();
        assert_eq!((default.max_download_bytes, default.proxy), (256 << 20, None));
        let given = options(&["--max-download-bytes=7", "--proxy=http://proxy:3128", "--allow-address=10.0.0.0/8"]);
        let given = given.fetch_options();
        assert_eq!(given.max_download_bytes, 7);
        assert_eq!(given.proxy.unwrap().as_str(), "http://proxy:3128/");
        assert!(given.allow.check("10.0.0.1".parse().unwrap(), Some(443)).is_ok());
        assert!(default.allow.check("10.0.0.1".parse().unwrap(), Some(443)).is_err());
    }

    #[test]
    fn a_namespace_leaves_places_for_others_unless_somebody_says_otherwise() {
        assert_eq!(per_namespace(None, Some(50)), Some(40));
        assert_eq!(per_namespace(None, Some(1)), Some(1));
        assert_eq!(per_namespace(None, None), None);
        assert_eq!(per_namespace(Some(60), Some(50)), Some(60));
        assert_eq!(per_namespace(Some(0), Some(50)), Some(0));
    }
}
