//! Where the operator listens, and where others are told to find it: webhooks and runners, each at a place of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ControllerOptions;
use super::shutdown::Shutdown;
use crate::api::MANAGER;
use crate::serve::certificates::Trust;
use crate::serve::serving::ServingCertificate;
use crate::serve::tls;
use crate::serve::webhook_config::{self, DEFAULT_NAME};

impl ControllerOptions {
    /// Where runners are listened to.
    pub(super) fn runs_listen(&self) -> SocketAddr {
        self.runs_listen.unwrap_or(self.listen)
    }
}

/// Serves webhooks and runners: each on a listener of its own, whose connections are counted apart, or both on one. The
/// tasks end with the listeners. That of runners alone closes at once when the process is told to end: they try again,
/// and reach a replica that stays.
pub(super) async fn listen(
    options: &ControllerOptions,
    serving: Arc<ServingCertificate>,
    webhooks: Router,
    runs: Router,
    shutdown: &Shutdown,
) -> anyhow::Result<JoinSet<()>> {
    let webhooks_serving = match options.webhook_certificate.clone() {
        None => serving.clone(),
        Some(directory) => {
            let (followed, first) = ServingCertificate::of_directory(&directory)?;
            let serving = followed.clone();
            tokio::spawn(async move { followed.follow(&directory, first).await });
            serving
        }
    };
    let mut listeners = JoinSet::new();
    let webhooks = match options.runs_listen {
        None => webhooks.merge(runs),
        Some(address) => {
            listeners.spawn(served(address, serving, runs, shutdown.told()).await?);
            webhooks
        }
    };
    let webhooks = shutdown.last_answers(webhooks);
    listeners.spawn(served(options.listen, webhooks_serving, webhooks, shutdown.closing()).await?);
    Ok(listeners)
}

/// Listens from now on; what it returns serves until `closed`.
async fn served(
    address: SocketAddr,
    serving: Arc<ServingCertificate>,
    router: Router,
    closed: impl Future<Output = ()>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address).await.with_context(|| listening(address))?;
    Ok(tls::serve_tls(listener, serving.server_config()?, router, tls::Limits::TLS, closed))
}

pub(super) fn listening(address: SocketAddr) -> String {
    format!("listening on {address}")
}

/// Where runners reach the operator: the Service's cluster IP, or what was advertised.
pub(super) async fn reached_at(client: &Client, options: &ControllerOptions) -> anyhow::Result<SocketAddr> {
    if let Some(address) = options.advertise {
        let port = options.runs_listen.map_or(address.port(), |runs| runs.port());
        return Ok(SocketAddr::new(address.ip(), port));
    }
    let name = options.service.as_deref().unwrap_or(MANAGER);
    let where_ = format!("Service {}/{name}", options.namespace);
    let service = Api::<Service>::namespaced(client.clone(), &options.namespace)
        .get(name)
        .await
        .with_context(|| format!("reading {where_}"))?;
    let spec = service.spec.unwrap_or_default();
    let address: IpAddr = spec
        .cluster_ip
        .as_deref()
        .and_then(|address| address.parse().ok())
        .with_context(|| format!("{where_} has no cluster IP; runners need one"))?;
    let wanted = if options.runs_listen.is_some() { "runs" } else { "https" };
    let ports = spec.ports.unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(wanted));
    let port = port.and_then(|port| u16::try_from(port.port).ok());
    Ok(SocketAddr::new(address, port.with_context(|| format!("{where_} has no port {wanted:?}"))?))
}

/// Keeps the webhooks pointed at this operator: the chart's get its CAs, unless their certificate comes from elsewhere;
/// outside a cluster they are made with its address.
pub(super) async fn keep_webhooks(
    client: &Client,
    options: &ControllerOptions,
    trust: watch::Receiver<Trust>,
    operator: &str,
) -> anyhow::Result<()> {
    if options.insecure_no_admission {
        tracing::warn!("running without admission: anyone who can create a run can claim to be anyone");
        return Ok(());
    }
    if let Some(address) = options.advertise {
        let ca = trust.borrow().bundle.clone();
        let url = format!("https://{address}");
        webhook_config::apply_url_configuration(client, DEFAULT_NAME, &url, &ca, operator).await?;
    }
    if options.webhook_certificate.is_none() {
        tokio::spawn(webhook_config::keep_injected(client.clone(), DEFAULT_NAME.to_owned(), trust));
    }
    Ok(())
}
