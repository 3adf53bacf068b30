//! The open connections of one listener: what each is doing, and when it has to end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::budget::{Budget, Id, Peer, Shares};
use super::held::{Held, RequestId};

/// What an open request is charged besides its body, in bytes: the largest head that is read.
pub(super) const HEAD_BYTES: usize = 16 << 10;

/// What peers of one listener may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. A further one takes the place of one that does nothing.
    pub connections: usize,
    /// Connections of one address at a time.
    pub per_peer: usize,
    /// Bytes of requests that are held at a time, over all connections. Beyond that, who holds most is asked to come back.
    pub bytes: usize,
    /// The same for requests that carry an output, which are large and can wait.
    pub output_bytes: usize,
    /// Time for the TLS handshake, for the first request, and for the head of each.
    pub head: Duration,
    /// Time for a request's body.
    pub body: Duration,
    /// Time for a request as a whole.
    pub request: Duration,
    /// How long a connection may be open without a request.
    pub idle: Duration,
}

impl Limits {
    /// For the API server, the runners and other replicas.
    pub const TLS: Self = Self {
        connections: 1024,
        per_peer: 128,
        bytes: 32 << 20,
        output_bytes: 32 << 20,
        head: Duration::from_secs(10),
        body: Duration::from_secs(10),
        request: Duration::from_secs(30),
        idle: Duration::from_secs(120),
    };
    /// For probes and scrapes, which send next to nothing.
    pub const HEALTH: Self = Self { connections: 256, per_peer: 32, bytes: 4 << 20, output_bytes: 0, ..Self::TLS };
}

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    budget: Budget,
    evictions: HashMap<Id, Arc<Notify>>,
    /// By kind: outputs and all else.
    held: [Held; 2],
    /// Wakes requests that have to give way.
    requests: HashMap<RequestId, Arc<Notify>>,
    last_request: RequestId,
}

impl State {
    fn close(&mut self, id: Id) {
        if let Some(eviction) = self.evictions.remove(&id) {
            eviction.notify_one();
        }
    }
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let shares = Shares { connections: limits.connections, per_peer: limits.per_peer };
        let state = State {
            budget: Budget::new(shares),
            evictions: HashMap::new(),
            held: [Held::new(limits.bytes), Held::new(limits.output_bytes)],
            requests: HashMap::new(),
            last_request: 0,
        };
        Arc::new(Self { limits, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, if need be in the place of another.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Connection>> {
        let mut state = self.state();
        let admitted = state.budget.admit(peer.into())?;
        if let Some(victim) = admitted.instead_of {
            state.close(victim);
        }
        let evicted = Arc::new(Notify::new());
        state.evictions.insert(admitted.id, evicted.clone());
        drop(state);
        Some(Arc::new(Connection {
            id: admitted.id,
            peer: peer.into(),
            all: self.clone(),
            evicted,
            open: AtomicUsize::new(0),
            deadline: Mutex::new(Instant::now() + self.limits.head),
        }))
    }

    /// Closes the connection that is missed least.
    pub(super) fn make_room(&self) {
        let mut state = self.state();
        if let Some(victim) = state.budget.evict() {
            state.close(victim);
        }
    }
}

/// One connection; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    id: Id,
    peer: Peer,
    all: Arc<Connections>,
    evicted: Arc<Notify>,
    /// Requests that have begun and not ended.
    open: AtomicUsize,
    /// Until when a request must have begun.
    deadline: Mutex<Instant>,
}

impl Connection {
    /// Who is at its other end.
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// What it may hold.
    pub(super) fn limits(&self) -> &Limits {
        &self.all.limits
    }

    /// Resolves when another connection takes this one's place.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Resolves when no request has come for too long.
    pub(super) async fn idle(&self) {
        loop {
            let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
            let is_busy = self.open.load(Ordering::SeqCst) > 0;
            if !is_busy && deadline <= Instant::now() {
                return;
            }
            // A request that ends sets another deadline.
            let soonest = Instant::now() + self.all.limits.idle / 8;
            tokio::time::sleep_until(if is_busy { soonest.max(deadline) } else { deadline }).await;
        }
    }

    /// A request's head has come. Its body can then be read once, metered.
    pub(super) fn begin(self: &Arc<Self>, body: Body, kind: Kind) -> (Arc<Exchange>, Body) {
        self.open.fetch_add(1, Ordering::SeqCst);
        let gives_way = Arc::new(Notify::new());
        let mut state = self.all.state();
        state.last_request += 1;
        let id = state.last_request;
        state.requests.insert(id, gives_way.clone());
        drop(state);
        let exchange = Arc::new(Exchange {
            connection: self.clone(),
            id,
            kind,
            gives_way,
            is_owed: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
        });
        exchange.hold(HEAD_BYTES);
        if body.is_end_stream() {
            exchange.is_complete();
        }
        let metered = Metered { body, exchange: exchange.clone(), deadline: Box::pin(sleep(self.all.limits.body)) };
        (exchange, Body::new(metered))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.budget.remove(self.id);
        state.evictions.remove(&self.id);
    }
}

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything but an output.
    Any = 0,
    /// What an action printed, in megabytes.
    Output = 1,
}

impl Kind {
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/v1/runs/") && path.ends_with("/output") { Self::Output } else { Self::Any }
    }
}

/// One request and its answer; ends when this is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    connection: Arc<Connection>,
    id: RequestId,
    kind: Kind,
    gives_way: Arc<Notify>,
    is_owed: AtomicBool,
    is_late: AtomicBool,
}

impl Exchange {
    /// Whether the body took too long.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::SeqCst)
    }

    /// Resolves when the request has to be let go: others hold less.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    fn hold(&self, bytes: usize) -> bool {
        let mut state = self.connection.all.state();
        if !state.requests.contains_key(&self.id) {
            return false;
        }
        let victims = state.held[self.kind as usize].hold(self.id, self.connection.peer, bytes);
        for victim in &victims {
            if let Some(gives_way) = state.requests.remove(victim) {
                gives_way.notify_one();
            }
        }
        !victims.contains(&self.id)
    }

    fn is_complete(&self) {
        if !self.is_owed.swap(true, Ordering::SeqCst) {
            self.connection.all.state().budget.owe(self.connection.id);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let connection = &self.connection;
        let mut state = connection.all.state();
        state.held[self.kind as usize].release(self.id);
        state.requests.remove(&self.id);
        if self.is_owed.load(Ordering::SeqCst) {
            state.budget.settle(connection.id);
        }
        drop(state);
        *connection.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + connection.limits().idle;
        connection.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that is charged for what was read of it, and has a deadline.
struct Metered {
    body: Body,
    exchange: Arc<Exchange>,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            if self.deadline.as_mut().poll(context).is_ready() {
                self.exchange.is_late.store(true, Ordering::SeqCst);
                return Poll::Ready(Some(Err("the body took too long".into())));
            }
            return Poll::Pending;
        };
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        if !self.exchange.hold(bytes) {
            return Poll::Ready(Some(Err("too much is held of other requests".into())));
        }
        if frame.is_none() || self.body.is_end_stream() {
            self.exchange.is_complete();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
