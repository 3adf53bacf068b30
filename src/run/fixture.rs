//! For tests: a run, an extension and a target, in the fake API and in the caches.

use std::sync::Arc;

use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::caches::Caches;
use super::context::{Context, Settings, Trees};
use super::job::{Operator, job_name};
use super::kept;
use super::request::Policy;
use crate::admission::stamp::{RunName, sign};
use crate::api::ActionRun;
use crate::digest::Digest;
use crate::fake_api::FakeApi;
use crate::protocol::{Ending, Outcome, Stream};
use crate::serve::keys::Keys;
use crate::telemetry::Metrics;

pub const UID: &str = "6f1c0000-0000-0000-0000-000000000001";
pub const NAMESPACES: &str = "/apis/outrigger.dev/v1alpha1/namespaces";
pub const RUN: &str = "/apis/outrigger.dev/v1alpha1/namespaces/team-a/actionruns/backup";
pub const JOBS: &str = "/apis/batch/v1/namespaces/outrigger-system/jobs";
pub const PODS: &str = "/api/v1/namespaces/outrigger-system/pods";
pub const SECRETS: &str = "/api/v1/namespaces/outrigger-system/secrets";
pub const TARGET: &str = "/apis/outrigger.dev/v1alpha1/extensiontargets/node7";

struct FakeTrees;

impl Trees for FakeTrees {
    fn entrypoint_digest(&self, tree: &Digest, path: &str) -> Result<Digest, String> {
        match path {
            "gone.sh" => Err(format!("{path} is not in {tree}")),
            _ => Ok(Digest::of(path)),
        }
    }

    fn subpath(&self, tree: &Digest) -> String {
        format!("extensions/.store/sha256-{}", tree.hex())
    }

    /// Keeps the manifest of [`extension`] alone.
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        match *digest == Digest::of("manifest") {
            true => Ok(extension()["status"]["resolved"].to_string().into_bytes()),
            false => Err(format!("manifest {digest} is not kept")),
        }
    }
}

/// The fake API, the context over it, and the writers of its caches.
pub struct Fixture {
    pub api: FakeApi,
    pub context: Arc<Context>,
    runs: Writer<kube::core::DeserializeGuard<crate::api::ActionRun>>,
    extensions: Writer<kube::core::DeserializeGuard<crate::api::OrchestratorExtension>>,
    targets: Writer<kube::core::DeserializeGuard<crate::api::ExtensionTarget>>,
    jobs: Writer<k8s_openapi::api::batch::v1::Job>,
    pods: Writer<k8s_openapi::api::core::v1::Pod>,
}

/// What a runner says of a script that printed `stdout` and exited with 0 after so many milliseconds.
pub fn outcome(stdout: &str, duration_millis: u64) -> Outcome {
    Outcome {
        exit_code: Some(0),
        stdout: Stream { text: stdout.into(), dropped_bytes: 0 },
        duration_millis,
        ..Outcome::of(Ending::Exited)
    }
}

pub fn run() -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
        "metadata": {
            "name": "backup", "namespace": "team-a", "uid": UID, "generation": 1,
            "creationTimestamp": k8s_openapi::jiff::Timestamp::now().to_string(), "finalizers": ["outrigger.dev/job"],
        },
        "spec": {"extensionRef": {"name": "redfish"}, "action": "status", "targetRef": {"name": "node7"}},
    })
}

pub fn extension() -> Value {
    let spec = json!({
        "type": "Orchestrator", "displayName": "Redfish", "description": "d", "version": "1.0.0", "maintainer": "m",
        "source": {"type": "git", "url": "https://example.com/redfish.git"},
        "compatibility": {"cloudstack": {"minVersion": "4.23.0"}}, "entrypoint": {"path": "redfish.sh"},
        "customActions": [{"name": "Backup", "enabled": true, "successmessage": "{{resourceName}} is safe with {{extensionName}}"}],
    });
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "OrchestratorExtension",
        "metadata": {"name": "redfish", "uid": "e"}, "spec": spec,
        "status": {"resolved": spec, "artifact": {
            "revision": "main@sha1:0", "treeDigest": Digest::of("tree").to_string(),
            "manifestDigest": Digest::of("manifest").to_string(), "size": 1, "files": 1,
            "lastUpdateTime": "2026-11-23T10:00:00Z"}},
    })
}

pub fn target() -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ExtensionTarget", "metadata": {"name": "node7", "uid": "t"},
        "spec": {
            "extensionRef": {"name": "redfish"}, "host": {"url": "https://bmc"},
            "hostFrom": [{"secretRef": {"name": "bmc"}}], "allowedNamespaces": {"names": ["team-a"]},
        },
    })
}

pub fn pod(uid: &str, job: u32, status: Value) -> Value {
    pod_of(uid, 1, job, status)
}

/// A pod of a Job of an attempt.
pub fn pod_of(uid: &str, attempt: u32, job: u32, status: Value) -> Value {
    let job = job_name(UID, attempt, job);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{uid}"), "namespace": "outrigger-system", "uid": uid, "labels": {
            "outrigger.dev/run-uid": UID, "batch.kubernetes.io/job-name": job}},
        "status": status,
    })
}

/// The run with alice's stamp.
pub fn stamped(mut run: Value) -> Value {
    let parsed: ActionRun = serde_json::from_value(run.clone()).unwrap();
    let user = serde_json::from_value(json!({"username": "alice", "uid": "u-1", "groups": ["team-a"], "extra": {}}));
    let now = k8s_openapi::jiff::Timestamp::now();
    let caller = sign(b"stamp", "team-a", RunName::Name("backup"), &user.unwrap(), now, &parsed.spec);
    run["spec"]["caller"] = serde_json::to_value(caller).unwrap();
    run
}

fn parsed<K: DeserializeOwned>(objects: Vec<Value>) -> Vec<K> {
    objects.into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
}

fn filled<K>(writer: &mut Writer<K>, objects: Vec<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

impl Fixture {
    /// A run that nothing has happened to, an installed extension, a target and its Secret.
    pub fn new() -> Self {
        let api = FakeApi::default();
        let (runs, run_writer) = reflector::store();
        let (extensions, extension_writer) = reflector::store();
        let (targets, target_writer) = reflector::store();
        let (jobs, job_writer) = reflector::store();
        let (pods, pod_writer) = reflector::store();
        let settings = Settings {
            operator: Operator {
                namespace: "outrigger-system".into(),
                claim_name: "outrigger".into(),
                default_image: "outrigger:test".into(),
                service_account: "outrigger-runner".into(),
                architecture: "amd64".into(),
                runner_subpath: "extensions/.runner/ab".into(),
                address: "https://10.0.0.1:8443".into(),
                ca_pem: String::new(),
            },
            trust: crate::serve::certificates::Trust::only("PEM"),
            policy: Policy::default(),
            insecure_without_admission: true,
            concurrency: 4,
            max_concurrent_runs: None,
            max_concurrent_runs_per_namespace: None,
            run_history_limit: None,
            secret_result_seconds: None,
            output_bytes: 1000,
            skip_report: false,
        };
        let keys = Keys { token_key: b"token".to_vec(), stamp_key: b"stamp".to_vec() };
        let caches = Caches { runs, extensions, targets, jobs, pods, gone: Arc::default() };
        let metrics = Arc::new(Metrics::new());
        let context = Context::new(api.client(), settings, keys, Arc::new(FakeTrees), caches, metrics);
        api.put(RUN, run());
        api.put(TARGET, target());
        api.put(&format!("{SECRETS}/bmc"), json!({"metadata": {"name": "bmc"}, "data": {"password": "aHVudGVyMg=="}}));
        let mut fixture = Self {
            api,
            context,
            runs: run_writer,
            extensions: extension_writer,
            targets: target_writer,
            jobs: job_writer,
            pods: pod_writer,
        };
        fixture.extend(extension());
        fixture.refresh();
        fixture
    }

    /// The same with admission: the run carries alice's stamp, and her rights count.
    pub fn admitted() -> Self {
        let mut fixture = Self::new();
        Arc::get_mut(&mut fixture.context).unwrap().settings.insecure_without_admission = false;
        fixture.api.change(RUN, |run| *run = stamped(run.clone()));
        fixture.refresh();
        fixture
    }

    /// Gives the cached extension an action `Custom` that takes any parameters.
    pub fn allow_unknown_parameters(&mut self) {
        let mut extension = extension();
        extension["spec"]["allowUnknownParameters"] = json!(true);
        for spec in ["/spec", "/status/resolved"] {
            extension.pointer_mut(spec).unwrap()["customActions"] = json!([{"name": "Custom", "enabled": true}]);
        }
        self.extend(extension);
    }

    /// Replaces the cached extension.
    pub fn extend(&mut self, extension: Value) {
        filled(&mut self.extensions, parsed(vec![extension]));
    }

    /// Brings the caches up to what the API holds.
    pub fn refresh(&mut self) {
        let under = |prefix: &str| -> Vec<Value> {
            self.api.under(&format!("{prefix}/")).into_iter().map(|(_, object)| object).collect()
        };
        let runs = under(NAMESPACES).into_iter().map(|object| {
            let mut guard = serde_json::from_value(object).unwrap();
            kept::run(&mut guard);
            guard
        });
        filled(&mut self.runs, runs.collect());
        filled(&mut self.targets, parsed(self.api.get(TARGET).into_iter().collect()));
        let (jobs, pods) = (under(JOBS), under(PODS));
        filled(&mut self.jobs, parsed(jobs));
        filled(&mut self.pods, parsed(pods));
    }

    /// The run's status at the API.
    pub fn status(&self) -> Value {
        self.api.get(RUN).unwrap()["status"].clone()
    }
}
