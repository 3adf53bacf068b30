//! What the benchmark makes in the cluster, and takes away again: the definitions, a namespace with the controller's
//! account, the extensions.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::{Client, Resource};
use outrigger::api::OrchestratorExtension;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::server::SourceServer;

/// Namespace of the controller: its Lease and its Secrets.
pub const NAMESPACE: &str = "outrigger-bench-install";

/// The controller's ServiceAccount.
const ACCOUNT: &str = "outrigger";

/// The definition of extensions.
const DEFINITION: &str = "orchestratorextensions.outrigger.dev";

/// Longest wait for the definitions to be served, and for what is deleted.
const LIMIT: Duration = Duration::from_secs(300);

/// The definitions and the namespace, and the file with the resources.
pub struct World {
    /// How many extensions.
    pub count: u32,
    dir: PathBuf,
    made_definitions: bool,
}

impl World {
    /// Applies the definitions and writes the resources of `count` extensions, whose sources `server` has. Files go to a
    /// directory of its own in `inside`.
    pub async fn start(client: &Client, server: &SourceServer, count: u32, inside: &Path) -> anyhow::Result<Self> {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let made_definitions = definitions.get_opt(DEFINITION).await?.is_none();
        if made_definitions {
            kubectl_apply(&root().join("crds")).await?;
            wait(&definitions, DEFINITION, "is not served", conditions::is_crd_established()).await?;
        } else {
            refuse_company(client).await?;
        }
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(NAMESPACE.into());
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        make_account(client).await?;
        let dir = inside.join(server.kind().to_string());
        std::fs::create_dir(&dir)?;
        let world = Self { count, dir, made_definitions };
        let resources: String = (0..count).map(|number| resource(number, &server.source(number))).collect();
        std::fs::write(world.resources(), resources)?;
        Ok(world)
    }

    /// A new empty directory, on the disk where everything is measured.
    pub fn directory(&self, what: &str) -> anyhow::Result<PathBuf> {
        Ok(tempfile::Builder::new().prefix(&format!("{what}-")).tempdir_in(&self.dir)?.keep())
    }

    /// A file of this name and content.
    pub fn file(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// Lets kubectl find out what the cluster serves, which it remembers: whoever applies first would pay for it.
    pub async fn warm_up(&self) -> anyhow::Result<()> {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["apply", "--dry-run=server", "-f"]).arg(self.resources());
        let status = kubectl.stdin(Stdio::null()).stdout(Stdio::null()).status().await?;
        ensure!(status.success(), "kubectl apply --dry-run=server: {status}");
        Ok(())
    }

    /// `kubectl apply` of all extensions; how long it took.
    pub async fn apply(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        kubectl_apply(&self.resources()).await?;
        Ok(started.elapsed())
    }

    /// Deletes all extensions, and waits until they are gone.
    pub async fn delete_extensions(&self, client: &Client) -> anyhow::Result<()> {
        let api: Api<OrchestratorExtension> = Api::all(client.clone());
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let started = Instant::now();
        while !api.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty() {
            ensure!(started.elapsed() < LIMIT, "extensions are still there {} s after their deletion", LIMIT.as_secs());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Deletes what a controller that has ended has left: its webhooks, which nobody answers any more, and all extensions.
    pub async fn forget(&self, client: &Client) -> anyhow::Result<()> {
        delete::<ValidatingWebhookConfiguration>(client, "outrigger").await?;
        delete::<MutatingWebhookConfiguration>(client, "outrigger").await?;
        self.let_go(client).await?;
        self.delete_extensions(client).await
    }

    /// Deletes everything, the controller's webhooks included.
    pub async fn finish(self, client: &Client) -> anyhow::Result<()> {
        self.forget(client).await?;
        delete::<ClusterRoleBinding>(client, NAMESPACE).await?;
        delete::<Namespace>(client, NAMESPACE).await?;
        if !self.made_definitions {
            return Ok(());
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in definitions.list_metadata(&ListParams::default()).await?.items {
            let name = definition.metadata.name.unwrap_or_default();
            if name.ends_with(".outrigger.dev") {
                delete::<CustomResourceDefinition>(client, &name).await?;
            }
        }
        Ok(())
    }

    /// A kubeconfig with a token of the controller's account: in a cluster it has one, too, and the API server checks it
    /// more cheaply than an administrator's certificate.
    pub async fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["create", "token", ACCOUNT, "--namespace", NAMESPACE, "--duration", "2h"]);
        let answer = kubectl.stdin(Stdio::null()).output().await.context("kubectl cannot be started")?;
        ensure!(answer.status.success(), "no token: {}", String::from_utf8_lossy(&answer.stderr));
        let token = String::from_utf8(answer.stdout)?.trim().to_owned();
        let mut config = Kubeconfig::read()?;
        for user in &mut config.auth_infos {
            user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
        }
        self.file("kubeconfig", &serde_json::to_string(&config)?)
    }

    /// Takes the finalizers off what a controller that has ended has left.
    async fn let_go(&self, client: &Client) -> anyhow::Result<()> {
        let api: Api<OrchestratorExtension> = Api::all(client.clone());
        let left = api.list_metadata(&ListParams::default()).await?.items.into_iter().map(|left| left.metadata);
        let left = left.filter(|metadata| metadata.finalizers.as_ref().is_some_and(|held| !held.is_empty()));
        let names = left.map(|metadata| metadata.name.unwrap_or_default());
        patch_each(client, names, json!({"metadata": {"finalizers": null}})).await
    }

    fn resources(&self) -> PathBuf {
        self.dir.join("resources.yaml")
    }
}

/// Changes extensions, ten at a time.
pub async fn patch_each(client: &Client, names: impl Iterator<Item = String>, patch: Value) -> anyhow::Result<()> {
    let (api, patch) = (Api::<OrchestratorExtension>::all(client.clone()), Patch::Merge(patch));
    let patched = futures::stream::iter(names).map(|name| {
        let (api, patch) = (&api, &patch);
        async move { api.patch(&name, &PatchParams::default(), patch).await.map(drop) }
    });
    Ok(patched.buffer_unordered(10).try_collect::<()>().await?)
}

/// The controller's ServiceAccount. It may do everything: what it may do costs the API server nothing to speak of.
async fn make_account(client: &Client) -> anyhow::Result<()> {
    let account = serde_json::from_value(json!({"metadata": {"name": ACCOUNT}}))?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE);
    accounts.create(&PostParams::default(), &account).await?;
    let binding = serde_json::from_value(json!({
        "metadata": {"name": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }))?;
    Api::<ClusterRoleBinding>::all(client.clone()).create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Refuses a cluster in which an operator runs, or extensions are: both would be measured, and the latter deleted.
async fn refuse_company(client: &Client) -> anyhow::Result<()> {
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    ensure!(webhooks.get_opt("outrigger").await?.is_none(), "outrigger runs in this cluster: uninstall it first");
    let extensions: Api<OrchestratorExtension> = Api::all(client.clone());
    let found = extensions.list_metadata(&ListParams::default().limit(1)).await?.items;
    ensure!(found.is_empty(), "there are extensions in this cluster, which would be deleted: delete them first");
    Ok(())
}

async fn kubectl_apply(path: &Path) -> anyhow::Result<()> {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["apply", "-f"]).arg(path).stdin(Stdio::null()).stdout(Stdio::null());
    let status = kubectl.status().await.context("kubectl cannot be started")?;
    ensure!(status.success(), "kubectl apply -f {}: {status}", path.display());
    Ok(())
}

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Name of an extension.
pub fn name(number: u32) -> String {
    format!("bench-{number}")
}

fn resource(number: u32, source: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: {}}}\nspec: {{source: {source}}}\n",
        name(number)
    )
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

async fn delete<K>(client: &Client, name: &str) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => bail!("deleting {name}: {error}"),
    }
    wait(&api, name, "is still there", |object: Option<&K>| object.is_none()).await
}

async fn wait<K>(api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>) -> anyhow::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    tokio::time::timeout(LIMIT, await_condition(api.clone(), name, condition))
        .await
        .with_context(|| format!("{name} {what} after {} s", LIMIT.as_secs()))??;
    Ok(())
}
