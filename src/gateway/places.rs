//! The places of HTTP connections, as bookkeeping alone: how many are taken, by which peers, and which
//! connection is the next to make room.
//!
//! A connection whose request is being answered keeps its place. All others wait for their peers: for a
//! request, the rest of one, or until an answer is taken. Each of these may take its time, but not at the
//! expense of others: when the places are full, the one that has overstayed longest leaves for a newcomer
//! whose request has come, and when a peer has its share, one of its own. There is no place only if all
//! are being answered, or have just come.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// How long a connection may be [`Standing::Idle`] before it can be told to leave.
    pub idle_min: Duration,
    /// How long it may be [`Standing::Awaited`] before it can be told to leave.
    pub awaited_min: Duration,
    /// Whether a newcomer that has sent nothing yet may have one leave for it; if not, only one whose request
    /// has come.
    pub silent_may_evict: bool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// For a request: its peer has sent nothing yet, or nothing since the last answer.
    Idle,
    /// For the rest of a request that its peer has begun, or until its peer has taken the answer.
    Awaited,
    /// For the server's answer.
    Served,
}

/// Why a connection finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its peer has its share, and no connection of it can be told to leave.
    Peer,
    /// All places are taken, and no connection can be told to leave.
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
    peers: HashMap<IpAddr, Peer>,
    /// Connections that wait for their peers: the first is the next that may be told to leave.
    waiting: BTreeSet<Turn>,
    /// Told to leave, and not gone yet.
    leaving: HashSet<ConnectionId>,
    /// Connections that ever had a place.
    entered: u64,
}

/// What a peer has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Peer {
    connections: usize,
    /// Those of them that wait for it, as in [`Places::waiting`].
    waiting: BTreeSet<Turn>,
}

#[derive(Debug)]
struct Connection<H> {
    peer: IpAddr,
    /// `None` while it is served.
    turn: Option<Turn>,
    holder: H,
}

/// When a connection may be told to leave.
type Turn = (Instant, ConnectionId);

impl<H> Places<H> {
    /// Empty places.
    pub fn new(room: Room) -> Places<H> {
        Places {
            room,
            connections: HashMap::new(),
            peers: HashMap::new(),
            waiting: BTreeSet::new(),
            leaving: HashSet::new(),
            entered: 0,
        }
    }

    /// Places that are taken; those who leave have none.
    pub fn taken(&self) -> usize {
        self.connections.len()
    }

    /// How many of them each peer has ([`network`]).
    pub fn held(&self) -> HashMap<IpAddr, usize> {
        let peers = self.peers.iter();
        peers.map(|(peer, has)| (*peer, has.connections)).collect()
    }

    /// Gives a newcomer a place. `now` is a monotonic time, here and below.
    ///
    /// # Errors
    ///
    /// There is none, and no connection can be told to leave.
    pub fn enter(
        &mut self,
        address: IpAddr,
        standing: Standing,
        now: Instant,
        holder: H,
    ) -> Result<Entered<H>, Full> {
        let peer = network(address);
        let may_evict = standing != Standing::Idle || self.room.silent_may_evict;
        let is_full = self.taken() >= self.room.max;
        let evicted = self.make_room(peer, is_full, may_evict, now)?;
        self.entered += 1;
        let id = ConnectionId(self.entered);
        self.peers.entry(peer).or_default().connections += 1;
        let connection = Connection {
            peer,
            turn: None,
            holder,
        };
        self.connections.insert(id, connection);
        self.stands(id, standing, now);
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

    /// Counts a connection among those of `address` again, a proxy which it comes from; also if that has
    /// its share: the next that comes from there makes room.
    pub fn back_to(&mut self, id: ConnectionId, address: IpAddr) {
        let old = self.connections.get(&id).map(|connection| connection.peer);
        if let Some(old) = old.filter(|old| *old != network(address)) {
            self.count_for(id, old, network(address));
        }
    }

    fn count_for(&mut self, id: ConnectionId, old: IpAddr, peer: IpAddr) {
        let turn = self.take_turn(id);
        self.forget_peer(old);
        self.peers.entry(peer).or_default().connections += 1;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.peer = peer;
        }
        if let Some(turn) = turn {
            self.give_turn(turn);
        }
    }

    /// The connection has had this standing since then.
    pub fn stands(&mut self, id: ConnectionId, standing: Standing, since: Instant) {
        self.take_turn(id);
        let stay = match standing {
            Standing::Idle => self.room.idle_min,
            Standing::Awaited => self.room.awaited_min,
            Standing::Served => return,
        };
        self.give_turn((since + stay, id));
    }

    /// The connection has ended.
    pub fn left(&mut self, id: ConnectionId) {
        if !self.leaving.remove(&id) {
            self.remove(id);
        }
    }

    /// Has one leave if the peer has its share, or if the places `are_full`.
    fn make_room(
        &mut self,
        peer: IpAddr,
        are_full: bool,
        may_evict: bool,
        now: Instant,
    ) -> Result<Option<H>, Full> {
        let of_peer = self.peers.get(&peer);
        let of_peer = of_peer.filter(|of_peer| of_peer.connections >= self.room.per_peer_max);
        let (next, full) = match of_peer {
            Some(of_peer) => (of_peer.waiting.first(), Full::Peer),
            None if are_full => (self.waiting.first(), Full::Server),
            None => return Ok(None),
        };
        // Those who leave have descriptors as well: there must not be any number of them.
        let may_evict = may_evict && self.leaving.len() < self.room.leaving_max;
        let (_, id) = *next
            .filter(|(may_leave_at, _)| may_evict && *may_leave_at <= now)
            .ok_or(full)?;
        let evicted = self.remove(id);
        self.leaving.insert(id);
        Ok(evicted)
    }

    fn remove(&mut self, id: ConnectionId) -> Option<H> {
        self.take_turn(id);
        let connection = self.connections.remove(&id)?;
        self.forget_peer(connection.peer);
        Some(connection.holder)
    }

    fn forget_peer(&mut self, address: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&address) {
            peer.connections -= 1;
            if peer.connections == 0 {
                self.peers.remove(&address);
            }
        }
    }

    fn give_turn(&mut self, turn: Turn) {
        // One that leaves is waited for no more.
        let Some(connection) = self.connections.get_mut(&turn.1) else {
            return;
        };
        connection.turn = Some(turn);
        self.waiting.insert(turn);
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.waiting.insert(turn);
        }
    }

    fn take_turn(&mut self, id: ConnectionId) -> Option<Turn> {
        let connection = self.connections.get_mut(&id)?;
        let turn = connection.turn.take()?;
        self.waiting.remove(&turn);
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.waiting.remove(&turn);
        }
        Some(turn)
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
