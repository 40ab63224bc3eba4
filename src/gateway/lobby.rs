//! Where new connections wait for a place, for a moment: a burst through a proxy opens more connections than
//! may have a place, and most requests are answered within milliseconds.
//!
//! Those whose request has come are first: a proxy sends one as soon as it is connected, and an attacker who
//! opens connections without a word must not come before anybody. Among them the peer with the fewest places
//! is next, so that one with many connections holds up its own, and nobody else's. When too many wait, the
//! peer with the most of them loses one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::caller::Caller;
use super::introduction::{Introduced, introduce};
use super::places::{Full, Standing, network};
use super::proxies::Proxies;
use super::shared_places::{HttpPlaces, Waiting};
use crate::limits::{AWAITED_MIN, CROWD_PEERS_MIN, IDLE_MIN, LOBBY_LOOK, LOBBY_TIME};

/// A connection that was accepted, and has no place yet.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    /// Whether `peer` is known to be the caller, and not a proxy before it.
    pub(super) introduced: Introduced,
    /// What was read of it.
    pub(super) ahead: Vec<u8>,
    /// Why it had no place when it was asked last.
    pub(super) full: Full,
    /// Lets others know that it wants one of theirs.
    waiting: Option<Waiting>,
    came_at: Instant,
    /// Its end came first.
    pub(super) has_ended: bool,
    /// It comes from a trusted proxy, and begins with something else than the header that belongs there.
    pub(super) is_mistaken: bool,
}

impl Newcomer {
    /// One from `peer`, of which nothing was read.
    pub(super) fn new(stream: TcpStream, peer: IpAddr) -> Newcomer {
        Newcomer {
            stream,
            peer,
            introduced: Introduced::NotYet,
            ahead: Vec::new(),
            full: Full::Server,
            waiting: None,
            came_at: Instant::now(),
            has_ended: false,
            is_mistaken: false,
        }
    }

    /// Reads what has come, unless some of its request has come before, and looks where it comes from, as far as
    /// that can be known by now. Notices when the peer has hung up.
    pub(super) fn listen(&mut self, scratch: &mut [u8], proxies: &Proxies) {
        if !self.is_silent() {
            return self.notice_end();
        }
        match self.stream.read(scratch) {
            Ok(count) if count > 0 => self.ahead.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.has_ended = true,
        }
        if self.introduced == Introduced::NotYet {
            let mut caller = Caller(self.peer);
            match introduce(proxies, &mut caller, &mut self.ahead) {
                Ok(introduced) => self.introduced = introduced,
                Err(_) => self.is_mistaken = true,
            }
            self.peer = caller.0;
        }
    }

    /// Looks whether the end comes next. Nothing is read, so that no more is kept of it than fits one read; an end
    /// behind more of its request is not seen. A peer that has ended its own side only is gone, too: hyper would
    /// not wait for its answer either.
    fn notice_end(&mut self) {
        match self.stream.peek(&mut [0]) {
            Ok(count) => self.has_ended |= count == 0,
            Err(error) => self.has_ended |= error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whether nothing of a request has come. The header of a proxy is none of it.
    pub(super) fn is_silent(&self) -> bool {
        self.introduced == Introduced::NotYet || self.ahead.is_empty()
    }

    /// What it would wait for in a place.
    pub(super) fn standing(&self) -> Standing {
        match self.is_silent() {
            true => Standing::Idle,
            false => Standing::Awaited,
        }
    }

    /// Whether it has waited long enough.
    pub(super) fn has_waited(&self) -> bool {
        self.came_at.elapsed() >= LOBBY_TIME
    }
}

/// Those of whom a request has come, or those of whom none has.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Newcomer>,
    /// Whether all places were taken when one of them asked.
    is_server_full: bool,
    /// Those of whom one came here since the last look.
    peers: HashSet<IpAddr>,
}

impl Queue {
    fn push(&mut self, newcomer: Newcomer) {
        self.is_server_full |= newcomer.full == Full::Server;
        self.peers.insert(network(newcomer.peer));
        self.waiting.push_back(newcomer);
    }

    /// Why one of them comes before another of `peer`.
    fn before(&self, peer: IpAddr) -> Option<Full> {
        if self.is_server_full {
            return Some(Full::Server);
        }
        let is_before = self.peers.contains(&network(peer));
        is_before.then_some(Full::Peer)
    }
}

/// Those who wait. Within each peer they keep the order in which they came.
#[derive(Debug)]
pub(super) struct Lobby {
    max: usize,
    places: Arc<HttpPlaces>,
    speaking: Queue,
    silent: Queue,
    /// How many of each peer wait.
    peers: HashMap<IpAddr, usize>,
    /// When to look again whether there are places.
    look_at: Option<Instant>,
}

impl Lobby {
    /// Nobody waits for one of `places`; at most `max` may.
    pub(super) fn new(max: usize, places: Arc<HttpPlaces>) -> Lobby {
        Lobby {
            max,
            places,
            speaking: Queue::default(),
            silent: Queue::default(),
            peers: HashMap::new(),
            look_at: None,
        }
    }

    /// Why another waits that comes before it: one of its peer, or one for which there was no place at all;
    /// `None` if there is none. Only others who are silent wait behind those who are.
    pub(super) fn before(&self, newcomer: &Newcomer) -> Option<Full> {
        let before = self.speaking.before(newcomer.peer);
        match newcomer.is_silent() {
            true => before.or_else(|| self.silent.before(newcomer.peer)),
            false => before,
        }
    }

    /// Lets it wait; returns the one that may not if too many do.
    pub(super) fn wait(&mut self, mut newcomer: Newcomer) -> Option<Newcomer> {
        if newcomer.full == Full::Server {
            newcomer.waiting.get_or_insert_with(|| self.places.wait());
        }
        *self.peers.entry(network(newcomer.peer)).or_default() += 1;
        match newcomer.is_silent() {
            true => self.silent.push(newcomer),
            false => self.speaking.push(newcomer),
        }
        let next_look = Instant::now() + LOBBY_LOOK;
        self.look_at.get_or_insert(next_look);
        let is_too_full = self.speaking.waiting.len() + self.silent.waiting.len() > self.max;
        is_too_full.then(|| self.send_out()).flatten()
    }

    /// Takes out one of the peer that has the most: the one that has been silent longest, as the others may be
    /// about to speak, or else the last to come.
    fn send_out(&mut self) -> Option<Newcomer> {
        let (peer, count) = self.peers.iter_mut().max_by_key(|(_, count)| **count)?;
        let is_of_peer = |waiting: &Newcomer| network(waiting.peer) == *peer;
        let (silent, speaking) = (&mut self.silent.waiting, &mut self.speaking.waiting);
        let out = match silent.iter().position(is_of_peer) {
            Some(at) => silent.remove(at),
            None => {
                let last = speaking.iter().rposition(is_of_peer)?;
                speaking.remove(last)
            }
        };
        *count -= 1;
        out
    }

    /// Whether it is full, and nobody in it is at fault: none of the peers has much of it, or all places that it may have,
    /// and nobody has been silent, or waited, for long. One more would only push out another: it waits in the kernel's queue
    /// instead.
    pub(super) fn is_crowded(&self) -> bool {
        let (speaking, silent) = (&self.speaking.waiting, &self.silent.waiting);
        let most = || self.peers.values().max().copied().unwrap_or_default();
        let is_of_crowd = |newcomer: &Newcomer, time: Duration| {
            newcomer.full == Full::Server && newcomer.came_at.elapsed() < time
        };
        speaking.len() + silent.len() >= self.max
            && most() * CROWD_PEERS_MIN <= self.max
            && silent
                .iter()
                .all(|newcomer| is_of_crowd(newcomer, IDLE_MIN))
            && speaking
                .iter()
                .all(|newcomer| is_of_crowd(newcomer, AWAITED_MIN))
    }

    /// Returns when it is time to look whether there are places for those who wait; never if nobody does.
    pub(super) async fn look(&mut self) {
        match self.look_at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }

    /// All who wait, in the order in which they are given a place, or have to [`Lobby::wait`] on.
    pub(super) fn take_all(&mut self, scratch: &mut [u8], proxies: &Proxies) -> VecDeque<Newcomer> {
        self.look_at = None;
        self.peers.clear();
        let mut all = std::mem::take(&mut self.speaking).waiting;
        let mut silent = std::mem::take(&mut self.silent).waiting;
        for newcomer in all.iter_mut().chain(&mut silent) {
            newcomer.listen(scratch, proxies);
        }
        for waiting in [&mut all, &mut silent] {
            waiting.retain(|newcomer| !newcomer.has_ended);
        }
        let (spoke, silent): (VecDeque<_>, VecDeque<_>) = silent
            .into_iter()
            .partition(|newcomer| !newcomer.is_silent());
        all.extend(spoke);
        let held = self.places.held();
        let mut all = in_turns(all, &held);
        all.extend(in_turns(silent, &held));
        all
    }
}

/// Sorts those who wait by how many places their peer would have, with the places that it has (`held`) and one for
/// each of its connections that comes before. The fewest come first; equals keep their order.
fn in_turns(waiting: VecDeque<Newcomer>, held: &HashMap<IpAddr, usize>) -> VecDeque<Newcomer> {
    let mut taken = HashMap::<IpAddr, usize>::new();
    let mut waiting: Vec<_> = waiting
        .into_iter()
        .map(|newcomer| {
            let peer = network(newcomer.peer);
            let has = || held.get(&peer).copied().unwrap_or_default();
            let taken = taken.entry(peer).or_insert_with(has);
            *taken += 1;
            (*taken, newcomer)
        })
        .collect();
    waiting.sort_by_key(|(taken, _)| *taken);
    waiting.into_iter().map(|(_, newcomer)| newcomer).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::gateway::places::Room;

    const ROOM: Room = Room {
        max: 1,
        per_peer_max: 1,
        leaving_max: 1,
        idle_min: Duration::ZERO,
        awaited_min: Duration::ZERO,
        silent_may_evict: false,
    };

    /// A newcomer from 192.0.2.`last`, whose request has come or not.
    fn newcomer(listener: &TcpListener, last: u8, is_silent: bool) -> Newcomer {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut newcomer = Newcomer::new(stream, [192, 0, 2, last].into());
        newcomer.introduced = Introduced::Already;
        if !is_silent {
            newcomer.ahead = b"GET".to_vec();
        }
        newcomer
    }

    fn lasts(newcomers: impl IntoIterator<Item = Newcomer>) -> Vec<u8> {
        let peers = newcomers.into_iter().map(|newcomer| newcomer.peer);
        peers
            .map(|peer| match peer {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(_) => 0,
            })
            .collect()
    }

    #[tokio::test]
    async fn peers_take_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (held, order) in [
            (vec![], [1, 2, 3, 1, 2, 1]),
            // Who has many places waits for those who have none, however late these come.
            (vec![(1, 2)], [2, 3, 2, 1, 1, 1]),
            (vec![(1, 30), (2, 31)], [3, 1, 1, 2, 1, 2]),
            (vec![(3, 9)], [1, 2, 1, 2, 1, 3]),
        ] {
            let held = held.into_iter();
            let held = held.map(|(last, count)| ([192, 0, 2, last].into(), count));
            let come = [1, 1, 1, 2, 2, 3].map(|last| newcomer(&listener, last, false));
            assert_eq!(lasts(in_turns(come.into(), &held.collect())), order);
        }
    }

    #[tokio::test]
    async fn nobody_comes_before_those_for_whom_there_is_no_place() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = HttpPlaces::new("gateway", ROOM);
        let (server, peer) = (Some(Full::Server), Some(Full::Peer));
        // Of the first of them, whom another follows: who it is, whether it is silent, and why it waits; of the other
        // the same, but whether it has to wait, too.
        for (first, other) in [
            ((1, false, Full::Server), (1, false, server)),
            ((1, false, Full::Server), (2, false, server)),
            ((1, false, Full::Server), (2, true, server)),
            ((1, false, Full::Peer), (1, false, peer)),
            ((1, false, Full::Peer), (1, true, peer)),
            ((1, false, Full::Peer), (2, false, None)),
            // One that has sent nothing waits for nothing but a free place.
            ((1, true, Full::Server), (2, false, None)),
            ((1, true, Full::Server), (2, true, server)),
            ((1, true, Full::Peer), (1, true, peer)),
            ((1, true, Full::Peer), (2, true, None)),
        ] {
            let mut lobby = Lobby::new(9, places.clone());
            let mut waits = newcomer(&listener, first.0, first.1);
            waits.stream.set_nonblocking(true).unwrap();
            waits.full = first.2;
            assert!(lobby.wait(waits).is_none());
            let comes = newcomer(&listener, other.0, other.1);
            assert_eq!(lobby.before(&comes), other.2, "{first:?} {other:?}");
            // At the next look, who is first is asked first.
            lobby.take_all(&mut [0; 64], &Proxies::default());
            assert_eq!(lobby.before(&comes), None);
        }
    }

    #[tokio::test]
    async fn one_that_has_hung_up_loses_its_turn_whether_it_has_spoken_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = HttpPlaces::new("gateway", ROOM);
        let mut lobby = Lobby::new(9, places.clone());
        let mut peers = Vec::new();
        for (last, is_silent, more, hangs_up) in [
            (1, false, "", true),
            (2, false, "", false),
            (3, true, "", true),
            (4, true, "", false),
            (5, false, " / HTTP/1.1", false),
            // What it has said besides may be all of a request.
            (6, false, " / HTTP/1.1", true),
            (7, true, "GET", false),
        ] {
            let newcomer = newcomer(&listener, last, is_silent);
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(more.as_bytes()).unwrap();
            if hangs_up {
                drop(peer);
            } else {
                peers.push(peer);
            }
            if hangs_up || !more.is_empty() {
                // It blocks until that has come.
                newcomer.stream.peek(&mut [0]).unwrap();
            }
            newcomer.stream.set_nonblocking(true).unwrap();
            assert!(lobby.wait(newcomer).is_none());
        }
        let all = lobby.take_all(&mut [0; 64], &Proxies::default());
        assert_eq!(lasts(all), [2, 5, 6, 7, 4]);
        assert!(!places.are_wanted(), "nobody waits meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lobby_is_crowded_by_many_peers_and_not_by_few_or_those_who_stay_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = HttpPlaces::new("gateway", ROOM);
        // How many peers wait, how many connections of each, and how many of the peers are silent; whether it is crowded
        // at first, and later.
        for (peers, each, silent, is_crowded, stays_so) in [
            (15, 1, 0, false, false),
            (16, 1, 0, true, true),
            (16, 1, 1, true, false),
            (16, 1, 16, true, false),
            (8, 2, 0, false, false),
            (4, 4, 0, false, false),
        ] {
            let mut lobby = Lobby::new(16, places.clone());
            for last in 0..peers {
                for _ in 0..each {
                    let comes = newcomer(&listener, last, last < silent);
                    assert!(lobby.wait(comes).is_none());
                }
            }
            let place = (peers, each, silent);
            assert_eq!(lobby.is_crowded(), is_crowded, "{place:?}");
            tokio::time::advance(IDLE_MIN).await;
            assert_eq!(lobby.is_crowded(), stays_so, "{place:?}");
            tokio::time::advance(AWAITED_MIN).await;
            assert!(!lobby.is_crowded(), "{place:?}");
        }
    }

    #[tokio::test]
    async fn a_full_lobby_is_taken_from_the_peer_that_has_most_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = HttpPlaces::new("gateway", ROOM);
        let mut lobby = Lobby::new(4, places.clone());
        for (last, is_silent) in [(1, false), (1, true), (1, false), (2, true)] {
            assert!(lobby.wait(newcomer(&listener, last, is_silent)).is_none());
        }
        // The silent one first, then the one that has come last.
        for (last, speaking, silent) in [(3, 3, 1), (4, 3, 1)] {
            let out = lobby.wait(newcomer(&listener, last, false));
            assert_eq!(lasts(out), [1]);
            assert_eq!(
                (lobby.speaking.waiting.len(), lobby.silent.waiting.len()),
                (speaking, silent)
            );
        }
        assert_eq!(lasts(lobby.speaking.waiting.drain(..)), [1, 3, 4]);
        assert!(places.are_wanted(), "by the silent one");
        lobby.silent = Queue::default();
        assert!(!places.are_wanted());
    }
}
