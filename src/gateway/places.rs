//! The places of HTTP connections, as bookkeeping alone: how many are taken, by which peers, and which
//! connection is the next to make room.
//!
//! A connection is *idle* while it neither waits for an answer nor has sent a byte of a request's head. Those
//! that are idle never keep anybody out: when the places are full, the one that has been idle longest leaves
//! for a newcomer whose request has come, and when a peer has its share, one of its own. Only when none is
//! idle for long enough, there is no place.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections in all.
    pub max: usize,
    /// Connections of one peer.
    pub per_peer_max: usize,
    /// Connections that were told to leave, and are still there beside the others.
    pub leaving_max: usize,
    /// How long a connection must be idle until it may be told to leave.
    pub idle_min: Duration,
    /// Whether a newcomer that has sent nothing yet may have one leave for it; if not, only one whose request
    /// has come.
    pub silent_may_evict: bool,
}

/// Why a connection finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its peer has its share, none of it idle.
    Peer,
    /// All places are taken, none of them idle.
    Server,
}

/// A connection's number among all that ever had a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// A newcomer has its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Entered<H> {
    /// The newcomer's number.
    pub id: ConnectionId,
    /// The holder of the place that it has taken over, to be told to leave.
    pub evicted: Option<H>,
}

/// The places, and who holds them. `H` is whatever the caller needs to tell a holder to leave.
#[derive(Debug)]
pub struct Places<H> {
    room: Room,
    connections: HashMap<ConnectionId, Connection<H>>,
    /// How many connections each peer has.
    peers: HashMap<IpAddr, usize>,
    /// Idle connections by the turn in which they became idle: longest first.
    idle: BTreeMap<u64, Idle>,
    /// The same by peer.
    idle_of_peer: BTreeMap<(IpAddr, u64), Idle>,
    /// Told to leave, and not gone yet.
    leaving: HashSet<ConnectionId>,
    /// Grows by one with each event that needs a number.
    turn: u64,
}

#[derive(Debug)]
struct Connection<H> {
    peer: IpAddr,
    /// The turn in which it became idle.
    idle_turn: Option<u64>,
    holder: H,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    id: ConnectionId,
    since: Instant,
}

impl<H> Places<H> {
    /// Empty places.
    pub fn new(room: Room) -> Places<H> {
        Places {
            room,
            connections: HashMap::new(),
            peers: HashMap::new(),
            idle: BTreeMap::new(),
            idle_of_peer: BTreeMap::new(),
            leaving: HashSet::new(),
            turn: 0,
        }
    }

    /// Places that are taken; those who leave have none.
    pub fn taken(&self) -> usize {
        self.connections.len()
    }

    /// Gives a newcomer a place. `now` is a monotonic time, here and below.
    ///
    /// # Errors
    ///
    /// There is none, and nobody who is idle for long enough to leave.
    pub fn enter(
        &mut self,
        address: IpAddr,
        is_idle: bool,
        now: Instant,
        holder: H,
    ) -> Result<Entered<H>, Full> {
        let peer = network(address);
        let may_evict = !is_idle || self.room.silent_may_evict;
        let evicted = self.make_room(peer, self.taken() >= self.room.max, may_evict, now)?;
        let id = ConnectionId(self.next_turn());
        *self.peers.entry(peer).or_default() += 1;
        let connection = Connection {
            peer,
            idle_turn: None,
            holder,
        };
        self.connections.insert(id, connection);
        if is_idle {
            self.idles(id, now);
        }
        Ok(Entered { id, evicted })
    }

    /// Counts a connection among those of another address, which has turned out to be its peer's; returns the
    /// holder that has to leave for it.
    ///
    /// # Errors
    ///
    /// That peer has its share. Nothing is changed.
    pub fn belongs_to(
        &mut self,
        id: ConnectionId,
        address: IpAddr,
        now: Instant,
    ) -> Result<Option<H>, Full> {
        let peer = network(address);
        let Some(old) = self.connections.get(&id).map(|connection| connection.peer) else {
            return Ok(None);
        };
        if old == peer {
            return Ok(None);
        }
        let evicted = self.make_room(peer, false, true, now)?;
        self.count_for(id, old, peer);
        Ok(evicted)
    }

    /// Counts a connection that is idle among those of `address` again, a proxy which it comes
    /// from; also if that has its share: the next that comes from there makes room.
    pub fn back_to(&mut self, id: ConnectionId, address: IpAddr) {
        let old = self.connections.get(&id).map(|connection| connection.peer);
        if let Some(old) = old.filter(|old| *old != network(address)) {
            self.count_for(id, old, network(address));
        }
    }

    fn count_for(&mut self, id: ConnectionId, old: IpAddr, peer: IpAddr) {
        let idle = self.set_busy(id);
        self.forget_peer(old);
        *self.peers.entry(peer).or_default() += 1;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.peer = peer;
        }
        if let Some((turn, since)) = idle {
            self.set_idle(id, turn, since);
        }
    }

    /// A byte of a request has come.
    pub fn begins(&mut self, id: ConnectionId) {
        self.set_busy(id);
    }

    /// The answer is written, and no byte of the next request has come.
    pub fn idles(&mut self, id: ConnectionId, now: Instant) {
        self.set_busy(id);
        let turn = self.next_turn();
        self.set_idle(id, turn, now);
    }

    /// The connection has ended.
    pub fn left(&mut self, id: ConnectionId) {
        if !self.leaving.remove(&id) {
            self.remove(id);
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Has one leave if the peer has its share, or if the places `are_full`.
    fn make_room(
        &mut self,
        peer: IpAddr,
        are_full: bool,
        may_evict: bool,
        now: Instant,
    ) -> Result<Option<H>, Full> {
        let has_share =
            self.peers.get(&peer).copied().unwrap_or_default() >= self.room.per_peer_max;
        let (longest, full) = if has_share {
            let mut of_peer = self.idle_of_peer.range((peer, 0)..=(peer, u64::MAX));
            (of_peer.next().map(|(_, idle)| *idle), Full::Peer)
        } else if are_full {
            (self.idle.values().next().copied(), Full::Server)
        } else {
            return Ok(None);
        };
        // Those who leave have descriptors as well: there must not be any number of them.
        let may_evict = may_evict && self.leaving.len() < self.room.leaving_max;
        let is_long = |idle: &Idle| now.saturating_duration_since(idle.since) >= self.room.idle_min;
        let idle = longest
            .filter(|idle| may_evict && is_long(idle))
            .ok_or(full)?;
        let evicted = self.remove(idle.id);
        self.leaving.insert(idle.id);
        Ok(evicted)
    }

    fn remove(&mut self, id: ConnectionId) -> Option<H> {
        self.set_busy(id);
        let connection = self.connections.remove(&id)?;
        self.forget_peer(connection.peer);
        Some(connection.holder)
    }

    fn forget_peer(&mut self, peer: IpAddr) {
        if let Some(count) = self.peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    fn set_idle(&mut self, id: ConnectionId, turn: u64, since: Instant) {
        // One that leaves is waited for no more.
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.idle_turn = Some(turn);
        let idle = Idle { id, since };
        self.idle.insert(turn, idle);
        self.idle_of_peer.insert((connection.peer, turn), idle);
    }

    /// Returns since when it was idle.
    fn set_busy(&mut self, id: ConnectionId) -> Option<(u64, Instant)> {
        let connection = self.connections.get_mut(&id)?;
        let turn = connection.idle_turn.take()?;
        self.idle_of_peer.remove(&(connection.peer, turn));
        let idle = self.idle.remove(&turn)?;
        Some((turn, idle.since))
    }
}

/// What counts as one peer: an IPv4 address, or a /64 of IPv6, which is what one customer has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
