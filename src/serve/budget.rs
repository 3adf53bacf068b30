//! Which connections a listener keeps: a budget per peer and in all. Pure.
//!
//! Whoever reaches the port can connect before it is known who that is. So a new connection is never refused because
//! others do nothing: it takes the place of one that is owed no answer, of its own peer where that has its share, else
//! of the peer that has most. Where all are owed one, a peer that has fewer takes the place of one that has more. One peer can thus crowd out itself alone, and a client that has a few connections, as
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
    /// How many connections each has.
    peers: HashMap<Peer, usize>,
    /// Counts arrivals and answers: the order in which connections were last of use.
    clock: u64,
}

#[derive(Debug)]
struct Open {
    peer: Peer,
    last_use: u64,
    /// Requests that are complete and not answered.
    owed: usize,
}

impl Budget {
    pub(super) fn new(shares: Shares) -> Self {
        Self { shares, connections: BTreeMap::new(), peers: HashMap::new(), clock: 0 }
    }

    /// Lets a connection in. `None`: every connection that could make room is owed an answer.
    pub(super) fn admit(&mut self, peer: Peer) -> Option<Admitted> {
        let own = self.peers.get(&peer).copied().unwrap_or_default();
        let instead_of = if own >= self.shares.per_peer {
            Some(self.least_useful(Some(peer))?)
        } else if self.connections.len() >= self.shares.connections {
            Some(self.least_useful(None).or_else(|| self.owed_to_one_with_more_than(own + 1))?)
        } else {
            None
        };
        if let Some(id) = instead_of {
            self.remove(id);
        }
        self.clock += 1;
        let id = self.clock;
        self.connections.insert(id, Open { peer, last_use: id, owed: 0 });
        *self.peers.entry(peer).or_default() += 1;
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
        if let Some(connections) = self.peers.get_mut(&open.peer) {
            *connections -= 1;
            if *connections == 0 {
                self.peers.remove(&open.peer);
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
        let rank = |(_, open): &(&Id, &Open)| (std::cmp::Reverse(self.peers.get(&open.peer)), open.last_use);
        candidates.min_by_key(rank).map(|(id, _)| *id)
    }

    /// Of the peer that has most connections, and more than `connections`: the one that was of use longest ago.
    fn owed_to_one_with_more_than(&self, connections: usize) -> Option<Id> {
        let share = |open: &Open| self.peers.get(&open.peer).copied().unwrap_or_default();
        let candidates = self.connections.iter().filter(|(_, open)| share(open) > connections);
        candidates.min_by_key(|(_, open)| (std::cmp::Reverse(share(open)), open.last_use)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARES: Shares = Shares { connections: 6, per_peer: 4 };

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
    fn a_connection_that_is_owed_an_answer_stays_within_its_peer() {
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
    fn a_listener_full_of_owed_answers_still_lets_in_who_has_fewer() {
        let mut budget = Budget::new(SHARES);
        let many: Vec<_> = [2, 2, 2, 3, 3, 3].map(|last| admit(&mut budget, last).0).into();
        for id in &many {
            budget.owe(*id);
        }
        let (api_server, instead_of) = admit(&mut budget, 1);
        assert_eq!(instead_of, Some(many[0]));
        budget.owe(api_server);
        let (another, instead_of) = admit(&mut budget, 1);
        assert_eq!(instead_of, Some(many[3]));
        budget.owe(another);
        assert_eq!(budget.admit(peer(2)), None, "it has as many as the others");
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
        fn no_order_of_events_exceeds_a_share(events in prop::collection::vec((0_u8..6, 0_u8..5), 0..200)) {
            let mut budget = Budget::new(SHARES);
            for (what, last) in events {
                let id = budget.connections.keys().nth(usize::from(last)).copied().unwrap_or(0);
                match what {
                    0 | 1 => { budget.admit(peer(last)); }
                    2 | 3 => budget.owe(id),
                    4 => budget.settle(id),
                    _ => budget.remove(id),
                }
                prop_assert!(budget.connections.len() <= SHARES.connections);
                prop_assert!(budget.peers.values().all(|connections| *connections <= SHARES.per_peer));
                prop_assert_eq!(budget.peers.values().sum::<usize>(), budget.connections.len());
            }
        }
    }
}
