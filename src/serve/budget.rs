//! Which connections a listener keeps, and how much of requests it holds: a budget per peer and in all. Pure.
//!
//! Whoever reaches the port can connect before it is known who that is. So a new connection is never refused because
//! others do nothing: it takes the place of one that is owed no answer, of its own peer where that has its share, else
//! of the peer that has most. One peer can thus crowd out itself alone, and a client that has a few connections, as
//! the API server does, loses them last, and gets a new one at once.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// Number of a connection, in the order of arrival.
pub(super) type Id = u64;

/// Who connects: an IPv4 address, or an IPv6 network of 64 bits, of which one host can have every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }
}

/// How much there is to share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Connections of one peer at a time.
    pub(super) per_peer: usize,
    /// Bytes of requests that are held at a time.
    pub(super) bytes: usize,
}

/// A connection that may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Its number.
    pub(super) id: Id,
    /// The connection to close in its place.
    pub(super) instead_of: Option<Id>,
}

/// What is open.
#[derive(Debug)]
pub(super) struct Budget {
    shares: Shares,
    connections: BTreeMap<Id, Open>,
    peers: HashMap<Peer, Held>,
    bytes: usize,
    /// Counts arrivals and answers: the order in which connections were last of use.
    clock: u64,
}

#[derive(Debug)]
struct Open {
    peer: Peer,
    last_use: u64,
    /// Requests that are complete and not answered.
    owed: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(shares: Shares) -> Self {
        Self { shares, connections: BTreeMap::new(), peers: HashMap::new(), bytes: 0, clock: 0 }
    }

    /// Lets a connection in. `None`: every connection that could make room is owed an answer.
    pub(super) fn admit(&mut self, peer: Peer) -> Option<Admitted> {
        let own = self.peers.get(&peer).map_or(0, |held| held.connections);
        let instead_of = if own >= self.shares.per_peer {
            Some(self.least_useful(Some(peer))?)
        } else if self.connections.len() >= self.shares.connections {
            Some(self.least_useful(None)?)
        } else {
            None
        };
        if let Some(id) = instead_of {
            self.remove(id);
        }
        self.clock += 1;
        let id = self.clock;
        self.connections.insert(id, Open { peer, last_use: id, owed: 0, bytes: 0 });
        self.peers.entry(peer).or_default().connections += 1;
        Some(Admitted { id, instead_of })
    }

    /// Takes out the connection that is missed least, if any may be closed.
    pub(super) fn evict(&mut self) -> Option<Id> {
        let id = self.least_useful(None)?;
        self.remove(id);
        Some(id)
    }

    /// Takes a connection out: it has ended. One that is out already is none.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(open) = self.connections.remove(&id) else { return };
        self.bytes -= open.bytes;
        if let Some(held) = self.peers.get_mut(&open.peer) {
            held.connections -= 1;
            held.bytes -= open.bytes;
            if held.connections == 0 {
                self.peers.remove(&open.peer);
            }
        }
    }

    /// Holds bytes of a request. Returns the connections to close for that, which are out from now on: of the peer that
    /// holds most the one that holds most, and at last `id` itself.
    pub(super) fn hold(&mut self, id: Id, bytes: usize) -> Vec<Id> {
        let mut victims = Vec::new();
        self.add(id, bytes);
        while self.bytes > self.shares.bytes && self.connections.contains_key(&id) {
            let weight =
                |(id, open): &(&Id, &Open)| (self.peers.get(&open.peer).map(|held| held.bytes), open.bytes, **id);
            let holders = self.connections.iter().filter(|(_, open)| open.owed == 0 && open.bytes > 0);
            let victim = holders.max_by_key(weight).map_or(id, |(victim, _)| *victim);
            self.remove(victim);
            victims.push(victim);
        }
        victims
    }

    /// Lets bytes go that were held.
    pub(super) fn release(&mut self, id: Id, bytes: usize) {
        if let Some(open) = self.connections.get_mut(&id) {
            open.bytes -= bytes;
            self.bytes -= bytes;
            if let Some(held) = self.peers.get_mut(&open.peer) {
                held.bytes -= bytes;
            }
        }
    }

    fn add(&mut self, id: Id, bytes: usize) {
        if let Some(open) = self.connections.get_mut(&id) {
            open.bytes += bytes;
            self.bytes += bytes;
            if let Some(held) = self.peers.get_mut(&open.peer) {
                held.bytes += bytes;
            }
        }
    }

    /// A request has come in whole: its connection is not closed before the answer.
    pub(super) fn owe(&mut self, id: Id) {
        if let Some(open) = self.connections.get_mut(&id) {
            open.owed += 1;
        }
    }

    /// The answer that was owed is given, or nobody waits for it any more.
    pub(super) fn settle(&mut self, id: Id) {
        self.clock += 1;
        if let Some(open) = self.connections.get_mut(&id) {
            open.owed = open.owed.saturating_sub(1);
            open.last_use = self.clock;
        }
    }

    /// Of `peer`, or of the peer that has most: the connection that was of use longest ago, and is owed nothing.
    fn least_useful(&self, peer: Option<Peer>) -> Option<Id> {
        let candidates =
            self.connections.iter().filter(|(_, open)| open.owed == 0 && peer.is_none_or(|peer| peer == open.peer));
        let rank = |(_, open): &(&Id, &Open)| {
            let share = self.peers.get(&open.peer).map_or(0, |held| held.connections);
            (std::cmp::Reverse(share), open.last_use)
        };
        candidates.min_by_key(rank).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARES: Shares = Shares { connections: 6, per_peer: 4, bytes: 1000 };

    fn peer(last: u8) -> Peer {
        Peer::from(IpAddr::from([192, 0, 2, last]))
    }

    fn admit(budget: &mut Budget, last: u8) -> (Id, Option<Id>) {
        let admitted = budget.admit(peer(last)).unwrap();
        (admitted.id, admitted.instead_of)
    }

    #[test]
    fn a_peer_that_has_its_share_crowds_out_itself() {
        let mut budget = Budget::new(SHARES);
        let (other, _) = admit(&mut budget, 1);
        let own: Vec<_> = (0..4).map(|_| admit(&mut budget, 2).0).collect();
        assert_eq!(admit(&mut budget, 2).1, Some(own[0]));
        assert_eq!(admit(&mut budget, 2).1, Some(own[1]));
        assert!(budget.connections.contains_key(&other));
    }

    #[test]
    fn a_full_listener_takes_from_the_peer_that_has_most() {
        let mut budget = Budget::new(SHARES);
        let (api_server, _) = admit(&mut budget, 1);
        let many: Vec<_> = (0..4).map(|_| admit(&mut budget, 2).0).collect();
        admit(&mut budget, 3);
        assert_eq!(admit(&mut budget, 4).1, Some(many[0]));
        assert_eq!(admit(&mut budget, 5).1, Some(many[1]));
        assert!(budget.connections.contains_key(&api_server));
    }

    #[test]
    fn of_equals_the_one_that_was_of_use_longest_ago_goes() {
        let mut budget = Budget::new(SHARES);
        let ids: Vec<_> = (0..6).map(|last| admit(&mut budget, last).0).collect();
        budget.owe(ids[0]);
        budget.settle(ids[0]);
        assert_eq!(admit(&mut budget, 9).1, Some(ids[1]));
    }

    #[test]
    fn a_connection_that_is_owed_an_answer_stays() {
        let mut budget = Budget::new(SHARES);
        let own: Vec<_> = (0..4).map(|_| admit(&mut budget, 2).0).collect();
        for id in &own {
            budget.owe(*id);
        }
        assert_eq!(budget.admit(peer(2)), None);
        assert!(budget.admit(peer(3)).is_some());
        budget.settle(own[2]);
        assert_eq!(admit(&mut budget, 2).1, Some(own[2]));
    }

    #[test]
    fn who_holds_most_bytes_makes_room() {
        let mut budget = Budget::new(SHARES);
        let [small, large, new] = [1, 2, 3].map(|last| admit(&mut budget, last).0);
        assert!(budget.hold(small, 100).is_empty());
        assert!(budget.hold(large, 850).is_empty());
        assert_eq!(budget.hold(new, 60), [large]);
        assert_eq!(budget.hold(new, 1000), [new]);
        assert_eq!(budget.bytes, 100);
        budget.owe(small);
        let (another, _) = admit(&mut budget, 3);
        assert_eq!(budget.hold(another, 950), [another], "what is owed an answer keeps its request");
        budget.release(small, 100);
        assert_eq!(budget.bytes, 0);
    }

    #[test]
    fn a_peer_is_an_address_or_an_ipv6_network() {
        let parse = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
        assert_ne!(parse("192.0.2.1"), parse("192.0.2.2"));
    }

    proptest! {
        #[test]
        fn no_order_of_events_exceeds_a_share(events in prop::collection::vec((0_u8..6, 0_u8..5, 0_usize..600), 0..200)) {
            let mut budget = Budget::new(SHARES);
            for (what, last, bytes) in events {
                let id = budget.connections.keys().nth(usize::from(last)).copied().unwrap_or(0);
                match what {
                    0 | 1 => { budget.admit(peer(last)); }
                    2 => { budget.hold(id, bytes); }
                    3 => budget.owe(id),
                    4 => budget.settle(id),
                    _ => budget.remove(id),
                }
                prop_assert!(budget.connections.len() <= SHARES.connections);
                prop_assert!(budget.bytes <= SHARES.bytes);
                prop_assert!(budget.peers.values().all(|held| held.connections <= SHARES.per_peer));
                let held: usize = budget.connections.values().map(|open| open.bytes).sum();
                prop_assert_eq!(held, budget.bytes);
                prop_assert_eq!(budget.peers.values().map(|held| held.connections).sum::<usize>(), budget.connections.len());
            }
        }
    }
}
