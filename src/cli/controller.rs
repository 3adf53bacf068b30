//! `outrigger controller`: puts the parts of the operator together.
//!
//! Every replica serves admission, health, metrics and the way to the leader. The one that holds the Lease writes: it
//! opens the store and runs the controllers, and the process ends at once if the Lease is lost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::client::ClientBuilder;
use kube::runtime::events::Reporter;
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use tower::util::MapRequestLayer;

use super::listeners::{keep_webhooks, listen, listening, reached_at};
use super::shutdown::{LAST_CALLS, Shutdown};
use super::volume::{self, InstalledTrees};
use super::{ControllerOptions, api_server};
use crate::admission::{self, Admission};
use crate::api::{MANAGER, USER_AGENT};
use crate::extension;
use crate::lease::{Elector, Leadership, Settings};
use crate::run;
use crate::serve::certificates::{self, Trust};
use crate::serve::forward::{Forwarder, leader_or_forward};
use crate::serve::health::{self, Readiness};
use crate::serve::keys::{self, Keys};
use crate::serve::turns::in_turn;
use crate::serve::{issue, tls};
use crate::source::Fetcher;
use crate::store::{LazyStore, Outputs};
use crate::telemetry::{self, Metrics};
use crate::validate::RunLimits;

/// How long the end of the process waits for threads that hang in the volume.
const HANGING: Duration = Duration::from_secs(2);

/// Listings of all runs at a time, of those that deletions of extensions ask for.
const LISTINGS: usize = 2;
/// How long looks at extensions wait for the first try to open the store: its sweep may take long, and meanwhile they would take
/// the volume for one that hangs. Where it does hang, they say so after this.
const LONGEST_SWEEP: Duration = Duration::from_secs(300);

/// Runs the operator until it is told to end, or loses its Lease.
pub fn main(options: ControllerOptions) -> anyhow::Result<()> {
    telemetry::logs(options.log_format, &options.log_level)?;
    // every TLS user of the process shares one provider; an error says that there is one already
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(start(options));
    // A thread that hangs in the volume would be waited for, for ever.
    runtime.shutdown_timeout(HANGING);
    ended
}

/// What all replicas have.
struct Replica {
    options: ControllerOptions,
    client: Client,
    /// Where the API server is reached.
    server: Uri,
    metrics: Metrics,
    keys: Keys,
    /// The CAs that runners, webhooks and other replicas are told of.
    trust: watch::Receiver<Trust>,
    /// `https://<address>:<port>` for runners.
    address: String,
    /// User name under which this process writes.
    operator: String,
    /// Answers claims and reports, from when this replica leads.
    run_routes: OnceLock<Router>,
    shutdown: Shutdown,
}

async fn start(options: ControllerOptions) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let (client, server) = client(&options, metrics.clone()).await?;
    let readiness = Readiness::waiting_for(["certificates", "listener"]);
    let has_service = options.service.is_some();
    let shutdown = Shutdown::at_signals(if has_service { LAST_CALLS } else { Duration::ZERO })?;
    let health = TcpListener::bind(options.health_listen).await.with_context(|| listening(options.health_listen))?;
    tokio::spawn(tls::serve_plain(
        health,
        health::router(readiness.clone(), metrics.clone()),
        tls::Limits::HEALTH,
        shutdown.closing(),
    ));

    let keys = keys::ensure(&client, &options.namespace).await?;
    let reached = reached_at(&client, &options).await?;
    let names = issue::names(&options.namespace, &[reached.ip()])?;
    let certificates = certificates::ensure(&client, &options.namespace, &names, SystemTime::now()).await?;
    readiness.reached("certificates");

    let identity = options.identity.clone().unwrap_or_else(|| "outside".to_owned());
    let own = options.pod_address.map_or(reached, |address| SocketAddr::new(address, options.runs_listen().port()));
    let settings = Settings::new(&options.namespace, format!("{identity}_{:08x}", random()), format!("https://{own}"));
    let elector = Elector::start(client.clone(), settings);
    let leadership = elector.leadership();

    let serving = certificates.serving()?;
    let (tell, trust) = watch::channel(certificates.trust());
    tokio::spawn({
        let (serving, client, namespace) = (serving.clone(), client.clone(), options.namespace.clone());
        async move { certificates::keep_current(&serving, tell, client, namespace, names).await }
    });
    let replica = Arc::new(Replica {
        client: client.clone(),
        server,
        metrics,
        keys,
        trust: trust.clone(),
        address: format!("https://{reached}"),
        operator: whoami(&client).await?,
        run_routes: OnceLock::new(),
        shutdown: shutdown.clone(),
        options,
    });
    // a fallback and no wildcard route: that would leave its own parameter beside those of the routes inside
    let runs = Router::new().fallback(answer_runs).with_state(replica.clone());
    let runs = leader_or_forward(leadership.clone(), Forwarder::new(trust), runs);
    let runs = run::authenticated(replica.keys.token_key.clone(), runs);
    let webhooks = in_turn(admission::router(replica.admission()));
    let listeners = listen(&replica.options, serving, webhooks, runs, &shutdown).await?;
    readiness.reached("listener");
    keep_webhooks(&client, &replica.options, replica.trust.clone(), &replica.operator).await?;

    write_in_turn(replica, elector).await?;
    listeners.join_all().await;
    Ok(())
}

/// Stands for election, and leads when it is won, until the process is told to end.
async fn write_in_turn(replica: Arc<Replica>, elector: Elector) -> anyhow::Result<()> {
    let leadership = elector.leadership();
    tokio::select! {
        () = leadership.acquired() => {}
        // Won, and lost again before anything was done with it: it never comes back to this process.
        () = leadership.lost() => end_at_once(),
        () = replica.shutdown.told() => {
            elector.release().await;
            return Ok(());
        }
    }
    tracing::info!(address = replica.address, "this replica writes from now on");
    replica.metrics.set_leader(true);
    let has_ended = Arc::new(AtomicBool::new(false));
    end_when_lost(leadership.clone(), has_ended.clone());
    let result = tokio::select! {
        result = lead(replica.clone(), leadership.clone()) => result,
        () = leadership.lost() => end_at_once(),
    };
    has_ended.store(true, Ordering::SeqCst);
    elector.release().await;
    replica.metrics.set_leader(false);
    result
}

/// Ends the process, and with it whatever is under way, before another replica can win. Returning would not: a runtime
/// that shuts down waits for its blocking work, which is what writes to the volume.
fn end_at_once() -> ! {
    tracing::error!("the Lease was lost: another replica writes now");
    std::process::exit(1)
}

/// Ends the process in time even where every thread of the runtime hangs in the volume, so that no timer of it fires.
fn end_when_lost(leadership: Leadership, has_ended: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while !has_ended.load(Ordering::SeqCst) {
            if !leadership.is_leader() {
                end_at_once();
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    });
}

/// Runs the controllers until shutdown.
async fn lead(replica: Arc<Replica>, leadership: Leadership) -> anyhow::Result<()> {
    let options = &replica.options;
    let may_write = Arc::new(move || leadership.is_leader());
    let owner = volume::owner(&replica.client, &options.namespace).await?;
    let store = Arc::new(LazyStore::new(&options.store, Some(owner), {
        let may_write = may_write.clone();
        move || may_write()
    }));
    let fetching = options.fetch_options();
    let policy = fetching.allow.clone();
    let context = Arc::new(extension::Context {
        client: replica.client.clone(),
        namespace: options.namespace.clone(),
        may_write,
        store: store.clone(),
        volume: Default::default(),
        fetcher: Fetcher::new(fetching)?,
        // Nothing is fetched before it is known where the API server listens.
        fetches: Semaphore::new(0),
        listings: Semaphore::new(LISTINGS),
        limits: options.limits.limits(),
        contracts: options.contracts(),
        require_verification: options.require_verification,
        events: extension::Events::start(replica.client.clone(), replica.reporter()),
        metrics: replica.metrics.clone(),
        memory: Default::default(),
    });
    let mut helpers = JoinSet::new();
    let (extensions, watching) = extension::watch(&replica.client);
    helpers.spawn(watching);
    let may_fetch = {
        let (context, turns) = (context.clone(), options.extension_concurrency.into());
        move || context.fetches.add_permits(turns)
    };
    let (client, server) = (replica.client.clone(), replica.server.clone());
    helpers.spawn(api_server::keep_closed(client, server, policy, Default::default(), may_fetch));
    let outputs = Outputs::beside(store.clone());
    let (tell_tried, tried) = oneshot::channel();
    helpers.spawn(volume::open(store.clone(), outputs.clone(), tell_tried));
    let runs = start_runs(&replica, store, outputs, (extensions.cache.clone(), extensions.touched)).await?;
    helpers.spawn(run::sweep::run(runs.context.clone()));
    helpers.spawn(run::collect::run(runs.context.clone()));
    helpers.spawn(run::output::sweep_until_dropped(runs.context.clone(), runs.outputs, options.retention()));
    let shutdown = || replica.shutdown.told();
    // All that writes to the volume is waited for: once the Lease is let go, it is another's.
    tokio::join!(
        extension::collect_until(context.clone(), shutdown()),
        async {
            tokio::select! {
                _ = tokio::time::timeout(LONGEST_SWEEP, tried) => {}
                () = shutdown() => {}
            }
            let watched = (extensions.cache, extensions.applied);
            extension::run(context.clone(), watched, options.extension_concurrency, shutdown()).await;
        },
        run::controller::run(runs.context, runs.triggers, shutdown()),
    );
    context.events.published().await;
    Ok(())
}

struct Runs {
    context: Arc<run::Context>,
    outputs: Outputs,
    triggers: run::Triggers,
}

/// Lets claims and reports in, for which nothing of the volume is needed.
async fn start_runs(
    replica: &Replica,
    store: Arc<LazyStore>,
    outputs: Outputs,
    extensions: run::Extensions,
) -> anyhow::Result<Runs> {
    let options = &replica.options;
    let runner = replica.runner()?;
    let subpath = volume::subpath_of_runner(&runner)?;
    let trees = Arc::new(InstalledTrees::new(store, runner));
    let operator = run::job::Operator {
        namespace: options.namespace.clone(),
        claim_name: options.store_claim.clone(),
        default_image: options.action_image.clone(),
        service_account: options.action_service_account.clone(),
        architecture: architecture().to_owned(),
        runner_subpath: subpath,
        address: replica.address.clone(),
        ca_pem: String::new(),
    };
    let settings = run::Settings {
        operator,
        trust: replica.trust.clone(),
        policy: replica.policy(),
        insecure_without_admission: options.insecure_no_admission,
        concurrency: options.run_concurrency,
        max_concurrent_runs: options.max_concurrent_runs(),
        max_concurrent_runs_per_namespace: options.max_concurrent_runs_per_namespace(),
        run_history_limit: Some(options.run_history_limit).filter(|most| *most > 0),
        secret_result_seconds: Some(options.secret_result_seconds).filter(|seconds| *seconds > 0),
        output_bytes: options.output_max_bytes,
        skip_report: options.no_direct_report,
    };
    let (caches, triggers) = run::watches(&replica.client, &options.namespace, extensions);
    let (keys, metrics) = (replica.keys.clone(), Arc::new(replica.metrics.clone()));
    let context = run::Context::new(replica.client.clone(), settings, keys, trees, caches, metrics);
    let routes = run::routes(context.clone()).merge(run::output::routes(context.clone(), outputs.clone()));
    let _ = replica.run_routes.set(routes);
    Ok(Runs { context, outputs, triggers })
}

/// Claims and reports, once the controller that they belong to has started.
async fn answer_runs(State(replica): State<Arc<Replica>>, request: Request) -> Response {
    match replica.run_routes.get() {
        Some(routes) => routes.clone().oneshot(request).await.into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the leader is starting; try again\n").into_response(),
    }
}

/// This machine's architecture, as `kubernetes.io/arch` spells it: the published runner is for it alone.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Replica {
    fn admission(&self) -> Admission {
        let contracts = self.options.contracts();
        Admission {
            stamp_key: self.keys.stamp_key.clone(),
            operator: Some(self.operator.clone()),
            check_run: run::checker(self.client.clone(), self.policy()),
            check_extension: Arc::new(move |extension| {
                let judged = extension::admissible(extension, &contracts);
                let judged = judged.map(|warned| warned.iter().map(ToString::to_string).collect());
                judged.map_err(|refused| refused.iter().map(ToString::to_string).collect())
            }),
        }
    }

    fn policy(&self) -> run::Policy {
        let limits = RunLimits {
            default_timeout_seconds: self.options.default_timeout_seconds,
            max_timeout_seconds: self.options.max_timeout_seconds,
        };
        run::Policy { limits, contracts: self.options.contracts() }
    }

    fn reporter(&self) -> Reporter {
        Reporter { controller: MANAGER.to_owned(), instance: self.options.identity.clone() }
    }

    fn runner(&self) -> anyhow::Result<PathBuf> {
        if let Some(runner) = &self.options.runner {
            return Ok(runner.clone());
        }
        let own = std::env::current_exe().context("finding outrigger-runner beside this executable")?;
        Ok(own.with_file_name("outrigger-runner"))
    }
}

/// A client whose requests are counted, and the URL of the API server that it asks.
async fn client(options: &ControllerOptions, metrics: Metrics) -> anyhow::Result<(Client, Uri)> {
    let mut config = match &options.kubeconfig {
        Some(file) => {
            let config =
                kube::config::Kubeconfig::read_from(file).with_context(|| format!("reading {}", file.display()))?;
            Config::from_custom_kubeconfig(config, &Default::default()).await?
        }
        None => {
            Config::infer().await.context("finding the cluster: neither a service account nor a kubeconfig fits")?
        }
    };
    config.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    let count = MapRequestLayer::new(move |request: axum::http::Request<kube::client::Body>| {
        metrics.requested(request.method(), request.uri());
        request
    });
    let server = config.cluster_url.clone();
    Ok((ClientBuilder::try_from(config)?.with_layer(&count).build(), server))
}

/// The user name under which the API server knows this process.
async fn whoami(client: &Client) -> anyhow::Result<String> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .context("asking the API server who this process is")?;
    review.status.and_then(|status| status.user_info?.username).context("the API server knows no name of this process")
}

/// Tells a restarted process from its predecessor. Without randomness the process id must do.
fn random() -> u32 {
    getrandom::u32().unwrap_or_else(|_| std::process::id())
}
