//! Which requests a listener holds the bytes of, and who gives way when they are too many. Pure.
//!
//! Of the peer that holds most, the request that holds most gives way, whether it is complete or not: it is answered
//! that it has to come back, and its connection stays. So a peer that floods the listener crowds out itself alone, and
//! one that holds little is not touched while another holds more.

use std::collections::HashMap;

use super::budget::Peer;

/// Number of a request, in the order of arrival.
pub(super) type RequestId = u64;

/// The requests whose bytes are held, of one kind.
#[derive(Debug)]
pub(super) struct Held {
    /// Bytes of all together.
    most: usize,
    total: usize,
    requests: HashMap<RequestId, (Peer, usize)>,
    peers: HashMap<Peer, usize>,
}

impl Held {
    pub(super) fn new(most: usize) -> Self {
        Self { most, total: 0, requests: HashMap::new(), peers: HashMap::new() }
    }

    /// Holds further bytes of a request. Returns the requests that give way for that, which hold nothing from now on: it
    /// may be one of them.
    pub(super) fn hold(&mut self, id: RequestId, peer: Peer, bytes: usize) -> Vec<RequestId> {
        self.requests.entry(id).or_insert((peer, 0)).1 += bytes;
        *self.peers.entry(peer).or_default() += bytes;
        self.total += bytes;
        let mut victims = Vec::new();
        while self.total > self.most {
            let weight = |(id, (peer, bytes)): &(&RequestId, &(Peer, usize))| (self.peers.get(peer), *bytes, **id);
            let Some((victim, _)) = self.requests.iter().max_by_key(weight) else { break };
            let victim = *victim;
            self.release(victim);
            victims.push(victim);
        }
        victims
    }

    /// Lets go what a request holds. One that holds nothing is none.
    pub(super) fn release(&mut self, id: RequestId) {
        let Some((peer, bytes)) = self.requests.remove(&id) else { return };
        self.total -= bytes;
        if let Some(held) = self.peers.get_mut(&peer) {
            *held -= bytes;
            if *held == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::from(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_peer_that_holds_most_gives_way_with_its_largest_or_newest_request() {
        let mut held = Held::new(1000);
        assert!(held.hold(1, peer(1), 300).is_empty());
        for id in 2..=8 {
            assert!(held.hold(id, peer(2), 100).is_empty());
        }
        assert_eq!(held.hold(9, peer(2), 100), [9], "its own newest");
        assert_eq!(held.hold(10, peer(1), 150), [8, 7], "one who holds more gives way to one who holds less");
        assert_eq!(held.hold(10, peer(1), 200), [10], "now that is who holds most");
        held.release(1);
        assert_eq!(held.total, 500);
    }

    #[test]
    fn many_floods_leave_room_for_one_who_holds_little() {
        let mut held = Held::new(1000);
        for id in 0..400 {
            held.hold(id, peer(u8::try_from(id % 20).unwrap()), 10);
        }
        for id in 1000..1003 {
            let victims = held.hold(id, peer(99), 10);
            assert!(!victims.is_empty() && victims.iter().all(|victim| *victim < 400), "{victims:?}");
        }
    }

    proptest! {
        #[test]
        fn no_order_of_events_exceeds_the_bound(events in prop::collection::vec((0_u64..20, 0_u8..4, 0_usize..600), 0..200)) {
            let mut held = Held::new(1000);
            for (id, what, bytes) in events {
                let own = peer(u8::try_from(id % 5).unwrap());
                if what == 0 { held.release(id) } else { drop(held.hold(id, own, bytes)) }
                prop_assert!(held.total <= 1000);
                prop_assert_eq!(held.requests.values().map(|(_, bytes)| bytes).sum::<usize>(), held.total);
                prop_assert_eq!(held.peers.values().sum::<usize>(), held.total);
            }
        }
    }
}
