//! Objects as the API server has them, read in this process: a kubectl for each look would take most of a small machine.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use serde_json::{Value, json};

/// Names as tests use them, the group with version, the kind, its plural.
const KINDS: [(&[&str], &str, &str, &str); 17] = [
    (&["oext", "orchestratorextensions"], "outrigger.dev/v1alpha1", "OrchestratorExtension", "orchestratorextensions"),
    (&["arun", "actionruns"], "outrigger.dev/v1alpha1", "ActionRun", "actionruns"),
    (&["xtgt"], "outrigger.dev/v1alpha1", "ExtensionTarget", "extensiontargets"),
    (&["node", "nodes"], "v1", "Node", "nodes"),
    (&["pod", "pods"], "v1", "Pod", "pods"),
    (&["secret"], "v1", "Secret", "secrets"),
    (&["pvc"], "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    (&["pv"], "v1", "PersistentVolume", "persistentvolumes"),
    (&["resourcequota"], "v1", "ResourceQuota", "resourcequotas"),
    (&["namespace"], "v1", "Namespace", "namespaces"),
    (&["job", "jobs"], "batch/v1", "Job", "jobs"),
    (&["deployment"], "apps/v1", "Deployment", "deployments"),
    (&["lease"], "coordination.k8s.io/v1", "Lease", "leases"),
    (&["networkpolicy"], "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    (&["events"], "events.k8s.io/v1", "Event", "events"),
    (
        &["mutatingwebhookconfiguration"],
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    ),
    (
        &["validatingwebhookconfiguration"],
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    ),
];

/// A client of the cluster that KUBECONFIG points to.
pub struct Objects {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// What to read: `oext/name`, `-n ns arun/name`, `-n ns pods`, `-n ns pods -l label=value`; without `-n`, those of all namespaces.
struct Asked<'a> {
    namespace: Option<&'a str>,
    kind: &'a str,
    name: Option<&'a str>,
    label: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn parse(what: &'a str) -> Self {
        let mut asked = Self { namespace: None, kind: "", name: None, label: None };
        let mut words = what.split(' ');
        while let Some(word) = words.next() {
            match word {
                "-n" => asked.namespace = words.next(),
                "-l" => asked.label = words.next(),
                word => (asked.kind, asked.name) = word.split_once('/').map_or((word, None), |(k, n)| (k, Some(n))),
            }
        }
        asked
    }

    fn resource(&self) -> ApiResource {
        let found = KINDS.iter().find(|(names, ..)| names.contains(&self.kind));
        let (_, version, kind, plural) = found.unwrap_or_else(|| panic!("objects.rs does not know {:?}", self.kind));
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}

impl Objects {
    /// Reads KUBECONFIG.
    pub fn new() -> Result<Self, String> {
        // where a dependency brings another one, too, rustls wants to be told
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let client = runtime.block_on(async {
            let mut config = Config::infer().await.map_err(|error| error.to_string())?;
            config.read_timeout = Some(Duration::from_secs(60));
            Client::try_from(config).map_err(|error| error.to_string())
        })?;
        Ok(Self { client, runtime })
    }

    fn api(&self, asked: &Asked<'_>) -> Api<DynamicObject> {
        match asked.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &asked.resource()),
            None => Api::all_with(self.client.clone(), &asked.resource()),
        }
    }

    /// An object, null where there is none, or a list of them.
    pub fn get(&self, what: &str) -> Result<Value, String> {
        let asked = Asked::parse(what);
        let api = self.api(&asked);
        let found = self.runtime.block_on(async {
            if let Some(name) = asked.name {
                return api.get_opt(name).await.map(|found| found.map_or(Value::Null, |object| json!(object)));
            }
            let only = asked.label.map(|label| ListParams::default().labels(label)).unwrap_or_default();
            api.list(&only).await.map(|list| json!({"items": list.items}))
        });
        found.map_err(|error| error.to_string())
    }

    /// Creates an object of the kind that `what` names, or only has it judged. Never tried again.
    pub fn create(&self, what: &str, object: &Value, dry_run: bool) -> Result<(), String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        let api = self.api(&Asked::parse(what));
        let parameters = PostParams { dry_run, ..PostParams::default() };
        self.runtime.block_on(api.create(&parameters, &object)).map(drop).map_err(|error| error.to_string())
    }
}
