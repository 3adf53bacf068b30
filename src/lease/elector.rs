//! The edge of the Lease: reads it, writes what [`evaluate`] decides, and tells the process whether it leads.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use super::decide::{ADDRESS, Decision, evaluate, holder, released};

/// How a replica stands for election.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the Lease: the operator's.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Unique to this process: pod name and something random, so that a restarted container is another candidate.
    pub identity: String,
    /// `https://<address>:<port>` of this process's TLS listener, for standbys.
    pub address: String,
    /// How long a record that is not renewed keeps others out.
    pub duration: Duration,
    /// Pause between renewals, and between looks at another's Lease.
    pub renew_every: Duration,
    /// Time after the sending of the last successful renewal at which leadership is lost. Less than `duration`.
    pub give_up_after: Duration,
}

impl Settings {
    /// 15 s, renewed every 2 s, given up after 10 s; the Lease is called `outrigger`.
    pub fn new(namespace: impl Into<String>, identity: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: crate::api::MANAGER.to_owned(),
            identity: identity.into(),
            address: address.into(),
            duration: Duration::from_secs(15),
            renew_every: Duration::from_secs(2),
            give_up_after: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Not leading; the leader's address, where one is known.
    Standby(Option<String>),
    /// Leading until this instant, unless renewed.
    Leader(Instant),
    /// Led once, and never will again in this process.
    Lost,
}

/// Whether this process leads, and who does if not. Clones share one state.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<State>,
    address: String,
}

impl Leadership {
    /// Whether this process leads at this moment. Turns false on time even if nothing else in the process runs.
    pub fn is_leader(&self) -> bool {
        matches!(*self.state.borrow(), State::Leader(until) if Instant::now() < until)
    }

    /// Waits until this process leads. Never resolves once leadership was lost.
    pub async fn acquired(&self) {
        let mut state = self.state.clone();
        if state.wait_for(|state| matches!(state, State::Leader(_))).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when leadership that this process had is lost: whatever writes must end at once, before another
    /// replica can win. Does not resolve for a replica that never led.
    pub async fn lost(&self) {
        let mut state = self.state.clone();
        loop {
            let current = state.borrow_and_update().clone();
            match current {
                State::Lost => return,
                State::Standby(_) => {
                    if state.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                State::Leader(until) => tokio::select! {
                    () = sleep_until(until) => if *state.borrow() == State::Leader(until) { return },
                    changed = state.changed() => if changed.is_err() { return },
                },
            }
        }
    }

    /// `https://<address>:<port>` of the leader: this process's own while it leads; `None` while nobody is known to.
    pub fn leader_address(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Standby(address) => address.clone(),
            State::Leader(until) if Instant::now() < *until => Some(self.address.clone()),
            State::Leader(_) | State::Lost => None,
        }
    }

    /// Resolves when leadership, or the leader's address, may have changed.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The leadership of a process that has no rivals: tests and tools.
    #[cfg(test)]
    pub(crate) fn fixed(leads: bool, leader_address: Option<&str>) -> Self {
        let address = leader_address.unwrap_or_default().to_owned();
        let far = Instant::now() + Duration::from_secs(86400);
        let state = if leads { State::Leader(far) } else { State::Standby(leader_address.map(str::to_owned)) };
        Self { state: watch::channel(state).1, address }
    }
}

/// A candidate. Dropping it stops renewing without letting go of the Lease.
pub struct Elector {
    leadership: Leadership,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Elector {
    /// Starts to stand for election.
    pub fn start(client: Client, settings: Settings) -> Self {
        let (sender, state) = watch::channel(State::Standby(None));
        let (stop, stopped) = watch::channel(false);
        let leadership = Leadership { state, address: settings.address.clone() };
        let candidate = Candidate {
            leases: Api::namespaced(client, &settings.namespace),
            settings,
            state: sender,
            seen: None,
            until: None,
        };
        Self { leadership, stop, task: tokio::spawn(candidate.run(stopped)) }
    }

    /// Whether this process leads.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Stops standing; a leader lets go of the Lease, so that the next one need not wait. To be called after
    /// everything that writes has ended.
    pub async fn release(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

struct Candidate {
    leases: Api<Lease>,
    settings: Settings,
    state: watch::Sender<State>,
    /// The Lease as last read, and since when it has had this record.
    seen: Option<(Lease, Instant)>,
    /// While leading: when leadership ends without a renewal.
    until: Option<Instant>,
}

impl Candidate {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        // Requests are never cut short by a stop: a write whose answer is not awaited may still be stored.
        while !*stopped.borrow() {
            if self.step().await {
                break;
            }
            let pause = self.until.map_or(self.settings.renew_every, |until| {
                self.settings.renew_every.min(until.saturating_duration_since(Instant::now()))
            });
            tokio::select! {
                stop = stopped.wait_for(|stopped| *stopped) => if stop.is_err() { break },
                () = sleep(pause) => {}
            }
        }
        if *stopped.borrow() {
            self.let_go().await;
        }
        self.end();
    }

    /// One look at the Lease and one write at most. True when leadership is over.
    async fn step(&mut self) -> bool {
        let deadline = self.until.unwrap_or_else(|| Instant::now() + self.settings.give_up_after);
        let attempt = self.settings.give_up_after / 2;
        match timeout_at(deadline, timeout(attempt, self.look_and_write())).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(lease = self.settings.name, "lease cannot be read or written: {error}"),
            Ok(Err(_)) | Err(_) => warn!(lease = self.settings.name, "lease request got no answer in time"),
        }
        let expired = self.until.is_some_and(|until| Instant::now() >= until);
        let taken = self.until.is_some()
            && holder(self.seen.as_ref().map(|(lease, _)| lease)) != Some(self.settings.identity.as_str());
        if expired || taken {
            warn!(
                lease = self.settings.name,
                "leadership is lost: {}",
                if taken { "another replica holds the lease" } else { "the lease was not renewed in time" }
            );
        }
        expired || taken
    }

    async fn look_and_write(&mut self) -> kube::Result<()> {
        // A leader knows the record that it wrote; anybody else, or a leader after a conflict, reads it.
        if self.until.is_none() || self.seen.is_none() {
            let read = self.leases.get_opt(&self.settings.name).await?;
            self.observe(read);
        }
        let lease = self.seen.as_ref().map(|(lease, _)| lease);
        let unchanged_for = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let settings = &self.settings;
        let spec = match evaluate(lease, &settings.identity, unchanged_for, Timestamp::now(), settings.duration) {
            // A leader never takes back what it has lost: `step` sees it.
            Decision::Acquire(_) | Decision::Wait(_) if self.until.is_some() => return Ok(()),
            Decision::Acquire(spec) | Decision::Renew(spec) => spec,
            Decision::Wait(_) => {
                let address = lease.and_then(|lease| lease.annotations().get(ADDRESS).cloned());
                self.publish(State::Standby(address));
                return Ok(());
            }
        };
        let mut wanted = lease.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(settings.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        wanted.spec = Some(spec);
        wanted.annotations_mut().insert(ADDRESS.to_owned(), settings.address.clone());
        wanted.metadata.managed_fields = None;
        let parameters = PostParams::default();
        let sent = Instant::now();
        let written = match lease {
            None => self.leases.create(&parameters, &wanted).await,
            Some(_) => self.leases.replace(&settings.name, &parameters, &wanted).await,
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                self.lead_until(sent + self.settings.give_up_after);
                Ok(())
            }
            // Somebody else was quicker, or a write whose answer was lost got through: read again.
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                let read = self.leases.get_opt(&self.settings.name).await?;
                self.observe(read);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, read: Option<Lease>) {
        let unchanged = match (&self.seen, &read) {
            (Some((old, since)), Some(new)) if old.spec == new.spec => Some(*since),
            _ => None,
        };
        self.seen = read.map(|lease| (lease, unchanged.unwrap_or_else(Instant::now)));
    }

    fn lead_until(&mut self, until: Instant) {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            // The answer came too late: `lost` has already resolved for those who wait for it.
            return;
        }
        if self.until.is_none() {
            info!(lease = self.settings.name, identity = self.settings.identity, "leadership is won");
        }
        self.until = Some(until);
        self.publish(State::Leader(until));
    }

    fn publish(&self, state: State) {
        self.state.send_if_modified(|current| {
            let modified = *current != state;
            *current = state;
            modified
        });
    }

    /// After this the process does not lead, and never will again.
    fn end(&mut self) {
        if self.until.take().is_some() {
            self.publish(State::Lost);
        }
    }

    async fn let_go(&mut self) {
        let Some(until) = self.until else { return };
        self.publish(State::Lost);
        let Some((mut lease, _)) = self.seen.take() else { return };
        if holder(Some(&lease)) != Some(self.settings.identity.as_str()) {
            return;
        }
        lease.spec = Some(released(lease.spec.as_ref()));
        lease.annotations_mut().remove(ADDRESS);
        lease.metadata.managed_fields = None;
        let parameters = PostParams::default();
        let write = self.leases.replace(&self.settings.name, &parameters, &lease);
        match timeout_at(until, write).await {
            Ok(Ok(_)) => info!(lease = self.settings.name, "leadership is handed over"),
            Ok(Err(error)) => warn!(lease = self.settings.name, "lease cannot be let go: {error}"),
            Err(_) => warn!(lease = self.settings.name, "lease cannot be let go in time"),
        }
    }
}

#[cfg(test)]
#[path = "elector_tests.rs"]
mod tests;
