//! What the benchmark needs in the cluster: the chart, the extension with its archive, and a namespace.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Client, Resource};
use outrigger::api::conditions::{READY, STALLED, find, is_true};
use outrigger::api::{ActionRun, OrchestratorExtension};
use serde_json::{Value, json};

use crate::installation::{NAMESPACE as OPERATOR_NAMESPACE, Server, cluster, install, root, run, uninstall};

/// Namespace of the runs.
pub const NAMESPACE: &str = "bench";
/// The extension.
pub const EXTENSION: &str = "bench-echo";
/// Its one action.
pub const ACTION: &str = "Echo";

/// Longest wait for the extension, and for what is deleted.
const LIMIT: Duration = Duration::from_secs(120);

/// The installed chart and the server of the extension's archive.
pub struct World {
    server: Server,
    /// Holds the archive.
    _dir: tempfile::TempDir,
    was_installed: bool,
}

impl World {
    /// Starts the server, installs the chart and the extension, and makes the namespace.
    pub async fn start(client: &Client) -> anyhow::Result<Self> {
        let address = run(&mut cluster(&["address"])).map_err(anyhow::Error::msg)?.trim().to_owned();
        let dir = tempfile::tempdir()?;
        let archive = dir.path().join("echo.tar.gz");
        let files = root().join("benches/echo");
        run(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(files).arg("echo.sh"))
            .map_err(anyhow::Error::msg)?;
        let served = dir.path().display().to_string();
        let server = Server::start("archive-server", &address, &["--root", &served]).map_err(anyhow::Error::msg)?;
        let was_installed =
            run(Command::new("helm").args(["status", "outrigger", "--namespace", OPERATOR_NAMESPACE])).is_ok();
        let world = Self { server, _dir: dir, was_installed };
        // what is measured is the operator, not its limits
        let limits = ["maxConcurrentRuns", "maxConcurrentRunsPerNamespace", "runHistoryLimit"];
        let values = limits.map(|limit| format!("actions.{limit}=0"));
        install(&address, &values.each_ref().map(String::as_str)).map_err(anyhow::Error::msg)?;
        apply::<Namespace>(
            client,
            NAMESPACE,
            json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            }),
        )
        .await?;
        extend(client, &format!("{}/echo.tar.gz", world.server.url.trim_end_matches('/'))).await?;
        Ok(world)
    }

    /// Deletes what the benchmark made, and the chart where it was not there before.
    pub async fn finish(self, client: &Client) -> anyhow::Result<()> {
        let runs: Api<ActionRun> = Api::namespaced(client.clone(), NAMESPACE);
        runs.delete_collection(&DeleteParams::default(), &Default::default()).await?;
        delete::<Namespace>(client, NAMESPACE).await?;
        delete::<OrchestratorExtension>(client, EXTENSION).await?;
        if self.was_installed { Ok(()) } else { uninstall().map_err(anyhow::Error::msg) }
    }
}

/// Restarts the operator with one more argument; the arguments that it had.
pub async fn add_argument(client: &Client, argument: &str) -> anyhow::Result<Vec<String>> {
    let operator = deployments(client).get("outrigger").await?;
    let pod = operator.spec.and_then(|spec| spec.template.spec).context("the operator's Deployment has no pod")?;
    let arguments = pod.containers.into_iter().next().and_then(|container| container.args).unwrap_or_default();
    set_arguments(client, &[arguments.as_slice(), &[argument.to_owned()]].concat()).await?;
    Ok(arguments)
}

/// Restarts the operator with these arguments.
pub async fn set_arguments(client: &Client, arguments: &[String]) -> anyhow::Result<()> {
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    let api = deployments(client);
    let generation = api.patch("outrigger", &PatchParams::default(), &patch).await?.metadata.generation;
    let is_rolled_out = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| {
            status.observed_generation >= generation
                && status.updated_replicas == status.replicas
                && status.available_replicas == status.replicas
                && status.unavailable_replicas.unwrap_or_default() == 0
        })
    };
    tokio::time::timeout(LIMIT, await_condition(api, "outrigger", is_rolled_out))
        .await
        .with_context(|| format!("the operator did not restart within {} s", LIMIT.as_secs()))??;
    Ok(())
}

fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), OPERATOR_NAMESPACE)
}

async fn extend(client: &Client, url: &str) -> anyhow::Result<()> {
    let extension = json!({
        "apiVersion": "outrigger.dev/v1alpha1",
        "kind": "OrchestratorExtension",
        "spec": {
            "type": "Orchestrator",
            "source": {"type": "archive", "url": url},
            "entrypoint": {"path": "echo.sh"},
            "customActions": [{"name": ACTION, "enabled": true}],
        },
    });
    let generation = apply::<OrchestratorExtension>(client, EXTENSION, extension).await?.metadata.generation;
    let settled = |object: Option<&OrchestratorExtension>| {
        object.and_then(|object| object.status.as_ref()).is_some_and(|status| {
            status.observed_generation == generation
                && (is_true(&status.conditions, READY) || is_true(&status.conditions, STALLED))
        })
    };
    let api: Api<OrchestratorExtension> = Api::all(client.clone());
    let object = tokio::time::timeout(LIMIT, await_condition(api, EXTENSION, settled))
        .await
        .with_context(|| format!("extension {EXTENSION} did not become Ready within {} s", LIMIT.as_secs()))??;
    let conditions = object.and_then(|object| object.status).unwrap_or_default().conditions;
    match find(&conditions, STALLED) {
        Some(stalled) => bail!("extension {EXTENSION} is stalled: {}", stalled.message),
        None => Ok(()),
    }
}

/// A kind that is not namespaced.
trait Global: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static {}
impl Global for Namespace {}
impl Global for OrchestratorExtension {}

async fn apply<K: Global>(client: &Client, name: &str, mut object: Value) -> anyhow::Result<K> {
    object["metadata"]["name"] = json!(name);
    let parameters = PatchParams::apply("outrigger-benchmark").force();
    Ok(Api::<K>::all(client.clone()).patch(name, &parameters, &Patch::Apply(object)).await?)
}

async fn delete<K: Global>(client: &Client, name: &str) -> anyhow::Result<()> {
    let api = Api::<K>::all(client.clone());
    api.delete(name, &DeleteParams::default()).await?;
    tokio::time::timeout(LIMIT, await_condition(api, name, |object: Option<&K>| object.is_none()))
        .await
        .with_context(|| format!("{name} was not gone within {} s", LIMIT.as_secs()))??;
    Ok(())
}
