//! For tests: an extension whose source is a ConfigMap, in the fake API, and a store on a directory of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::events::Reporter;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::context::Context;
use super::events::Events;
use super::reconcile::reconcile;
use super::volume::{Patience, Volume};
use crate::api::OrchestratorExtension;
use crate::fake_api::FakeApi;
use crate::source::Fetcher;
use crate::source::testing::options;
use crate::store::LazyStore;
use crate::telemetry::Metrics;

pub const EXTENSION: &str = "/apis/outrigger.dev/v1alpha1/orchestratorextensions/probe";
pub const CONFIG_MAP: &str = "/api/v1/namespaces/outrigger-system/configmaps/scripts";
pub const SECRET: &str = "/api/v1/namespaces/outrigger-system/secrets/login";
pub const RUN: &str = "/apis/outrigger.dev/v1alpha1/namespaces/team-a/actionruns/backup";

/// The fake API, and the context over it.
pub struct Fixture {
    pub api: FakeApi,
    pub context: Context,
    pub directory: tempfile::TempDir,
    /// Whether this process leads.
    pub leads: Arc<AtomicBool>,
}

impl Fixture {
    /// The extension is applied, and so is its ConfigMap; nobody has looked at it yet.
    pub fn new() -> Self {
        let (api, leads) = (FakeApi::default(), Arc::new(AtomicBool::new(true)));
        let directory = tempfile::tempdir().unwrap();
        let fixture = Self { context: context(&api, &directory, &leads, |leads| leads), api, directory, leads };
        fixture.serve("one");
        let source = json!({"type": "configMap", "configMapRef": {"name": "scripts"}});
        fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
        fixture
    }

    /// The same with the extension installed.
    pub async fn installed() -> Self {
        let fixture = Self::new();
        fixture.look().await;
        fixture.look().await;
        assert_eq!(fixture.shown("Ready"), "True Succeeded");
        fixture
    }

    /// Another process takes over, to which a change of the volume takes what `step` makes of whether it leads.
    pub fn restart(&mut self, step: impl Fn(bool) -> bool + Send + Sync + 'static) {
        self.context = context(&self.api, &self.directory, &self.leads, step);
    }

    /// Applies the extension with this spec.
    pub fn apply(&self, spec: Value) {
        let old = self.api.get(EXTENSION);
        let generation = old.as_ref().map_or(1, |old| old["metadata"]["generation"].as_i64().unwrap() + 1);
        let mut object = old.unwrap_or_else(|| {
            json!({
                "apiVersion": "outrigger.dev/v1alpha1",
                "kind": "OrchestratorExtension",
                "metadata": {"name": "probe", "uid": "u-1"},
                "status": {"observedGeneration": -1},
            })
        });
        (object["spec"], object["metadata"]["generation"]) = (spec, generation.into());
        self.api.put(EXTENSION, object);
    }

    /// Applies the extension with a field of its spec changed.
    pub fn set(&self, field: &str, value: Value) {
        let mut spec = serde_json::to_value(self.extension().spec).unwrap();
        spec[field] = value;
        self.apply(spec);
    }

    /// Makes the ConfigMap's script print `text`.
    pub fn serve(&self, text: &str) {
        self.serve_files(json!({"run.sh": format!("#!/bin/sh\necho {text}\n")}));
    }

    pub fn serve_files(&self, files: Value) {
        let metadata = json!({"name": "scripts", "namespace": "outrigger-system"});
        self.api.put(CONFIG_MAP, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}));
    }

    /// The extension as it is stored.
    pub fn extension(&self) -> OrchestratorExtension {
        serde_json::from_value(self.api.get(EXTENSION).unwrap()).unwrap()
    }

    /// Looks after the extension as it is stored.
    pub async fn look(&self) -> Action {
        reconcile(&self.extension(), &self.context).await.unwrap()
    }

    pub fn status(&self) -> Value {
        self.api.get(EXTENSION).unwrap()["status"].clone()
    }

    /// Status and reason of a condition.
    pub fn shown(&self, type_: &str) -> String {
        let condition = self.condition(type_);
        let text = |field: &str| condition[field].as_str().unwrap_or("none").to_owned();
        format!("{} {}", text("status"), text("reason"))
    }

    pub fn condition(&self, type_: &str) -> Value {
        let status = self.status();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
    }

    pub fn message(&self, type_: &str) -> String {
        self.condition(type_)["message"].as_str().unwrap_or_default().to_owned()
    }

    pub fn version(&self) -> Value {
        self.api.get(EXTENSION).unwrap()["metadata"]["resourceVersion"].clone()
    }

    /// Reasons and notes of the events so far.
    pub async fn events(&self) -> Vec<String> {
        self.context.events.published().await;
        let events = self.api.under("/apis/events.k8s.io/v1/");
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        events.iter().map(|(_, event)| format!("{}: {}", text(event, "reason"), text(event, "note"))).collect()
    }

    /// What the API stores of the extension when it is asked for `path`.
    pub fn seen_at(&self, path: &'static str) -> Arc<Mutex<Vec<Value>>> {
        let seen = Arc::new(Mutex::new(vec![]));
        let told = seen.clone();
        self.api.before(move |api, _, asked| {
            if asked == path {
                told.lock().unwrap().push(api.get(EXTENSION).unwrap());
            }
            None
        });
        seen
    }

    /// A file of the installed tree, or of its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("extensions/probe").join(name)
    }

    /// Changes the installed script from outside.
    pub fn damage(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(self.file("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(self.file("run.sh"), "#!/bin/sh\necho changed\n").unwrap();
    }

    pub fn script(&self) -> String {
        std::fs::read_to_string(self.file("run.sh")).unwrap_or_default()
    }
}

/// A tar archive of such a run.sh.
pub fn archive(script: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(script.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "run.sh", script).unwrap();
    builder.into_inner().unwrap()
}

/// A volume that may take so long for a little work.
pub fn patient(little: Duration) -> Volume {
    let late = Duration::from_secs(3600);
    Volume::new(Patience { little, trees: late, fetch: late })
}

fn context(
    api: &FakeApi,
    directory: &tempfile::TempDir,
    leads: &Arc<AtomicBool>,
    step: impl Fn(bool) -> bool + Send + Sync + 'static,
) -> Context {
    let may_write = {
        let leads = leads.clone();
        move || leads.load(Ordering::SeqCst)
    };
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    Context {
        client: api.client(),
        namespace: "outrigger-system".to_owned(),
        may_write: Arc::new(may_write.clone()),
        store: Arc::new(LazyStore::new(directory.path(), None, move || step(may_write()))),
        volume: patient(Duration::from_secs(3600)),
        fetcher: Fetcher::new(options()).unwrap(),
        fetches: Semaphore::new(1),
        listings: Semaphore::new(1),
        limits: Default::default(),
        contracts: Default::default(),
        require_verification: false,
        events: Events::start(api.client(), reporter),
        metrics: Metrics::new(),
        memory: Default::default(),
    }
}
