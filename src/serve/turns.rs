//! Few requests at a time, and in turn: peer after peer, so that one who sends many waits for himself alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::budget::Peer;
use crate::protocol::REQUEST_BYTES;

/// Requests that are worked on at a time: each may take tens of megabytes.
const PLACES: usize = 8;
/// Of them, those of one peer.
const OF_ONE_PEER: usize = 4;
/// Time for a request that has come in whole, waiting included: shorter than the API server waits for a webhook.
const PATIENCE: Duration = Duration::from_millis(4500);

/// `routes`, whose requests are worked on in turn once they have come in whole. Who waits for too long is told so (503).
pub fn in_turn(routes: Router) -> Router {
    routes.route_layer(from_fn_with_state(Turns::new(PLACES, OF_ONE_PEER), wait))
}

async fn wait(State(turns): State<Arc<Turns>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_BYTES).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or did not come in whole\n").into_response();
    };
    let answer = async {
        let _turn = turns.turn(peer).await;
        next.run(Request::from_parts(parts, Body::from(body))).await
    };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator has too many requests to judge; try again\n").into_response()
    })
}

/// Who is asked for by `None` is one peer, too: tests, mostly.
type Who = Option<Peer>;

#[derive(Debug)]
struct Turns {
    of_one_peer: usize,
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    free: usize,
    busy: HashMap<Who, usize>,
    /// Peers that wait, whose turn comes in this order, each with its requests.
    queues: VecDeque<(Who, VecDeque<oneshot::Sender<Turn>>)>,
}

impl Turns {
    fn new(places: usize, of_one_peer: usize) -> Arc<Self> {
        Arc::new(Self { of_one_peer, state: Mutex::new(Waiting { free: places, ..Waiting::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place; it is free again when what is returned is dropped.
    async fn turn(self: &Arc<Self>, who: Who) -> Option<Turn> {
        let turn = self.queue(who);
        self.hand_out();
        turn.await.ok()
    }

    fn queue(&self, who: Who) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let queues = &mut self.state().queues;
        match queues.iter_mut().find(|(waiting, _)| *waiting == who) {
            Some((_, queue)) => queue.push_back(sender),
            None => queues.push_back((who, VecDeque::from([sender]))),
        }
        receiver
    }

    fn hand_out(self: &Arc<Self>) {
        while let Some((who, sender)) = self.next() {
            // One that no longer waits drops its turn, and with it gives the place back.
            if let Err(turn) = sender.send(Turn { turns: self.clone(), who, is_used: true }) {
                turn.give_back();
            }
        }
    }

    /// Takes a place for the first request of the first peer that may have one; that peer comes last from then on.
    fn next(&self) -> Option<(Who, oneshot::Sender<Turn>)> {
        let mut state = self.state();
        if state.free == 0 {
            return None;
        }
        let may = |who: &Who| state.busy.get(who).copied().unwrap_or_default() < self.of_one_peer;
        let position = state.queues.iter().position(|(who, _)| may(who))?;
        let (who, mut queue) = state.queues.remove(position)?;
        let sender = queue.pop_front()?;
        if !queue.is_empty() {
            state.queues.push_back((who, queue));
        }
        state.free -= 1;
        *state.busy.entry(who).or_default() += 1;
        Some((who, sender))
    }

    fn give_back(&self, who: Who) {
        let mut state = self.state();
        state.free += 1;
        if let Some(busy) = state.busy.get_mut(&who) {
            *busy -= 1;
            if *busy == 0 {
                state.busy.remove(&who);
            }
        }
    }
}

/// A place, while it is held.
#[derive(Debug)]
struct Turn {
    turns: Arc<Turns>,
    who: Who,
    is_used: bool,
}

impl Turn {
    /// Gives the place back without handing it on: the caller does.
    fn give_back(mut self) {
        self.is_used = false;
        self.turns.give_back(self.who);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_used {
            self.turns.give_back(self.who);
            self.turns.hand_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt as _;

    use super::*;

    fn who(last: u8) -> Who {
        Some(Peer::from(IpAddr::from([192, 0, 2, last])))
    }

    #[tokio::test]
    async fn one_who_sends_many_waits_for_himself_alone() {
        let turns = Turns::new(3, 2);
        let _first = turns.turn(who(1)).await.unwrap();
        let second = turns.turn(who(1)).await.unwrap();
        let mut many: Vec<_> = (0..100).map(|_| Box::pin(turns.turn(who(1)))).collect();
        assert!(many.iter_mut().all(|turn| turn.now_or_never().is_none()), "it has its share");
        let honest = turns.turn(who(2)).now_or_never().unwrap();
        let mut next = Box::pin(turns.turn(who(2)));
        assert!(next.as_mut().now_or_never().is_none());
        drop(second);
        let third = many[0].as_mut().now_or_never().flatten().unwrap();
        drop(third);
        assert!(next.as_mut().now_or_never().is_some(), "peers take turns");
        drop(honest);
    }

    #[tokio::test]
    async fn those_that_gave_up_waiting_take_no_place() {
        let turns = Turns::new(1, 1);
        let turn = turns.turn(who(1)).await.unwrap();
        for _ in 0..100 {
            assert!(turns.turn(who(1)).now_or_never().is_none());
        }
        drop(turn);
        assert!(turns.turn(who(2)).now_or_never().is_some());
        assert_eq!(turns.state().free, 1);
    }
}
