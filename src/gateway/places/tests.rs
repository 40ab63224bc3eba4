#![allow(
    clippy::disallowed_methods,
    reason = "time is counted from some instant"
)]

use proptest::prelude::*;

use super::Standing::{Awaited, Idle, Served};
use super::*;

const ROOM: Room = Room {
    max: 3,
    per_peer_max: 2,
    leaving_max: 2,
    idle_min: Duration::ZERO,
    awaited_min: Duration::ZERO,
    silent_may_evict: true,
};

fn peer(number: u8) -> IpAddr {
    [127, 0, 0, number].into()
}

/// Places for connections that are their own names, at one moment.
struct Now {
    places: Places<&'static str>,
    now: Instant,
}

impl Now {
    fn new(room: Room) -> Now {
        Now {
            places: Places::new(room),
            now: Instant::now(),
        }
    }

    fn enter(
        &mut self,
        number: u8,
        standing: Standing,
        name: &'static str,
    ) -> Result<Entered<&'static str>, Full> {
        self.now += Duration::from_nanos(1);
        self.places.enter(peer(number), standing, self.now, name)
    }

    fn idle(&mut self, number: u8, name: &'static str) -> ConnectionId {
        self.enter(number, Idle, name).unwrap().id
    }

    /// What is served.
    fn served(&mut self, number: u8, name: &'static str) -> ConnectionId {
        let id = self.enter(number, Awaited, name).unwrap().id;
        self.stands(id, Served);
        id
    }

    fn stands(&mut self, id: ConnectionId, standing: Standing) {
        self.now += Duration::from_nanos(1);
        self.places.stands(id, standing, self.now);
    }

    /// Who has to leave for a newcomer; one whose request has come is served from then on.
    fn evicted_for(&mut self, number: u8, standing: Standing) -> Option<&'static str> {
        let entered = self.enter(number, standing, "new").unwrap();
        if standing == Awaited {
            self.stands(entered.id, Served);
        }
        entered.evicted
    }

    fn belongs_to(&mut self, id: ConnectionId, number: u8) -> Result<Option<&'static str>, Full> {
        self.places.belongs_to(id, peer(number), self.now)
    }
}

#[test]
fn the_one_that_is_idle_longest_makes_room_and_no_other() {
    let mut now = Now::new(ROOM);
    let first = now.idle(1, "first");
    now.idle(2, "second");
    now.idle(3, "third");
    // It was the first to come, but the last to be idle.
    now.stands(first, Served);
    now.stands(first, Idle);
    assert_eq!(now.evicted_for(4, Idle), Some("second"));
    assert_eq!(now.evicted_for(4, Idle), Some("third"));
    assert_eq!(now.places.taken(), 3);
}

#[test]
fn a_peer_with_its_share_makes_room_for_itself() {
    let mut now = Now::new(ROOM);
    now.idle(2, "other");
    let first = now.idle(1, "first");
    let second = now.idle(1, "second");
    assert_eq!(now.evicted_for(1, Awaited), Some("first"));
    now.places.left(first);
    now.stands(second, Served);
    assert_eq!(now.enter(1, Awaited, "new"), Err(Full::Peer));
    // Others lose none by that.
    assert_eq!(now.evicted_for(3, Awaited), Some("other"));
    assert_eq!(now.enter(4, Awaited, "new"), Err(Full::Server));
    now.places.left(second);
    assert_eq!(now.evicted_for(4, Awaited), None);
}

#[test]
fn those_who_leave_are_bounded_until_they_are_gone() {
    let mut now = Now::new(ROOM);
    let ids = [1, 2, 3].map(|number| now.idle(number, "old"));
    assert_eq!(now.evicted_for(4, Idle), Some("old"));
    assert_eq!(now.evicted_for(5, Idle), Some("old"));
    assert_eq!(now.enter(6, Idle, "new"), Err(Full::Server));
    // What it does on its way out changes nothing.
    now.stands(ids[0], Served);
    now.stands(ids[0], Idle);
    now.places.left(ids[0]);
    assert_eq!(now.places.taken(), 3);
    assert!(now.enter(6, Idle, "new").is_ok());
}

#[test]
fn one_that_has_just_come_is_not_told_to_leave() {
    let room = Room {
        max: 1,
        idle_min: Duration::from_millis(100),
        ..ROOM
    };
    let mut now = Now::new(room);
    now.idle(1, "first");
    now.now += Duration::from_millis(99);
    assert_eq!(now.enter(2, Idle, "second"), Err(Full::Server));
    now.now += Duration::from_millis(1);
    assert_eq!(now.evicted_for(2, Idle), Some("first"));
}

#[test]
fn whoever_has_overstayed_longest_makes_room() {
    let room = Room {
        max: 4,
        per_peer_max: 4,
        leaving_max: 4,
        idle_min: Duration::from_secs(2),
        awaited_min: Duration::from_secs(5),
        ..ROOM
    };
    let mut now = Now::new(room);
    let slow = now.idle(1, "slow");
    now.idle(2, "idle");
    now.served(3, "served");
    let other = now.idle(1, "other");
    now.stands(slow, Awaited);
    now.now += Duration::from_secs(3);
    now.stands(other, Idle);
    // For one second too long; `slow` has two seconds left.
    assert_eq!(now.evicted_for(4, Awaited), Some("idle"));
    assert_eq!(now.enter(4, Awaited, "new"), Err(Full::Server));
    now.now += Duration::from_secs(60);
    // For 58 s and 61 s too long.
    assert_eq!(now.evicted_for(4, Awaited), Some("slow"));
    assert_eq!(now.evicted_for(4, Awaited), Some("other"));
    assert_eq!(now.enter(4, Awaited, "new"), Err(Full::Server));
}

#[test]
fn one_that_is_silent_takes_nobodys_place() {
    let room = Room {
        max: 1,
        silent_may_evict: false,
        ..ROOM
    };
    let mut now = Now::new(room);
    now.idle(1, "first");
    assert_eq!(now.enter(2, Idle, "silent"), Err(Full::Server));
    assert_eq!(now.evicted_for(2, Awaited), Some("first"));
}

#[test]
fn a_connection_may_turn_out_to_be_of_another_peer() {
    let mut now = Now::new(Room { max: 9, ..ROOM });
    let of_proxy = now.idle(9, "of proxy");
    now.idle(1, "old");
    let busy = now.served(1, "busy");
    assert_eq!(now.belongs_to(of_proxy, 1), Ok(Some("old")));
    now.stands(of_proxy, Served);
    let other = now.idle(9, "other of proxy");
    assert_eq!(now.belongs_to(other, 1), Err(Full::Peer));
    // It is where it was.
    assert_eq!(now.belongs_to(other, 9), Ok(None));
    now.places.left(busy);
    assert_eq!(now.belongs_to(other, 1), Ok(None));
    let counts = now.places.peers.iter();
    let counts: Vec<_> = counts.map(|(peer, of)| (*peer, of.connections)).collect();
    assert_eq!(counts, [(peer(1), 2)]);
}

#[test]
fn a_peer_is_an_address_or_a_customers_network() {
    let network = |text: &str| network(text.parse().unwrap()).to_string();
    assert_eq!(network("192.0.2.7"), "192.0.2.7");
    assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(u8, bool),
    Stand(usize, Standing),
    Leave(usize),
    Move(usize, u8),
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![Just(Idle), Just(Awaited), Just(Served)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4u8, any::<bool>()).prop_map(|(peer, is_idle)| Step::Enter(peer, is_idle)),
        3 => (any::<usize>(), standing()).prop_map(|(which, standing)| Step::Stand(which, standing)),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => (any::<usize>(), 0..4u8).prop_map(|(which, peer)| Step::Move(which, peer)),
    ]
}

/// What is known of a connection without any bookkeeping.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: ConnectionId,
    peer: u8,
    /// When it may be told to leave; `None` while it is served.
    may_leave_at: Option<Instant>,
    is_leaving: bool,
}

/// A plain list of connections, which is searched each time.
struct List {
    room: Room,
    known: Vec<Known>,
    now: Instant,
}

impl List {
    fn staying(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| !known.is_leaving)
    }

    /// The connection that has to make room for one of `peer`, or why there is none.
    fn to_leave(
        &self,
        peer: u8,
        is_silent: bool,
        are_full: bool,
    ) -> Result<Option<ConnectionId>, Full> {
        let of_peer = self.staying().filter(|known| known.peer == peer).count();
        let has_share = of_peer >= self.room.per_peer_max;
        if !has_share && !are_full {
            return Ok(None);
        }
        let candidates = self.staying().filter(|known| {
            let may_leave = known.may_leave_at.is_some_and(|at| at <= self.now);
            may_leave && (!has_share || known.peer == peer)
        });
        let longest = candidates.min_by_key(|known| (known.may_leave_at, known.id));
        let leaving = self.known.len() - self.staying().count();
        let full = if has_share { Full::Peer } else { Full::Server };
        let may_evict = !is_silent || self.room.silent_may_evict;
        let longest = longest.filter(|_| may_evict && leaving < self.room.leaving_max);
        longest.map(|known| Some(known.id)).ok_or(full)
    }

    fn may_leave_at(&self, standing: Standing) -> Option<Instant> {
        match standing {
            Idle => Some(self.now + self.room.idle_min),
            Awaited => Some(self.now + self.room.awaited_min),
            Served => None,
        }
    }

    fn leaves(&mut self, id: Option<ConnectionId>) {
        let known = self.known.iter_mut().find(|known| Some(known.id) == id);
        known.into_iter().for_each(|known| known.is_leaving = true);
    }

    /// Takes a step with both; what they return must be the same.
    fn step(&mut self, places: &mut Places<()>, step: Step) -> Result<(), TestCaseError> {
        let at = |which: usize| which.checked_rem(self.known.len());
        match step {
            Step::Enter(of, is_idle) => {
                let expected = self.to_leave(of, is_idle, self.staying().count() >= self.room.max);
                let standing = if is_idle { Idle } else { Awaited };
                let entered = places.enter(peer(of), standing, self.now, ());
                prop_assert_eq!(entered.as_ref().err(), expected.as_ref().err());
                if let (Ok(entered), Ok(expected)) = (entered, expected) {
                    prop_assert_eq!(entered.evicted.is_some(), expected.is_some());
                    self.leaves(expected);
                    self.known.push(Known {
                        id: entered.id,
                        peer: of,
                        may_leave_at: self.may_leave_at(standing),
                        is_leaving: false,
                    });
                }
            }
            Step::Move(which, to) => {
                let Some(at) = at(which) else { return Ok(()) };
                let one = self.known[at];
                let expected = match one.is_leaving || one.peer == to {
                    true => Ok(None),
                    false => self.to_leave(to, false, false),
                };
                let moved = places.belongs_to(one.id, peer(to), self.now);
                prop_assert_eq!(
                    moved.map(|one| one.is_some()),
                    expected.map(|one| one.is_some())
                );
                if let Ok(evicted) = expected
                    && !one.is_leaving
                {
                    self.known[at].peer = to;
                    self.leaves(evicted);
                }
            }
            Step::Stand(which, standing) => {
                let Some(at) = at(which) else { return Ok(()) };
                places.stands(self.known[at].id, standing, self.now);
                self.known[at].may_leave_at = self.may_leave_at(standing);
            }
            Step::Leave(which) => {
                let Some(at) = at(which) else { return Ok(()) };
                places.left(self.known.remove(at).id);
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn as_a_plain_list(
        max in 1..6usize,
        per_peer_max in 1..6usize,
        leaving_max in 1..4usize,
        idle_min_s in 0..8u64,
        awaited_min_s in 0..8u64,
        silent_may_evict: bool,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let idle_min = Duration::from_secs(idle_min_s);
        let awaited_min = Duration::from_secs(awaited_min_s);
        let room = Room { max, per_peer_max, leaving_max, idle_min, awaited_min, silent_may_evict };
        let mut places = Places::new(room);
        let mut list = List { room, known: Vec::new(), now: Instant::now() };
        for step in steps {
            list.step(&mut places, step)?;
            list.now += Duration::from_secs(1);
            let staying = list.staying().count();
            prop_assert_eq!(places.taken(), staying);
            prop_assert!(staying <= max);
            prop_assert_eq!(places.leaving.len(), list.known.len() - staying);
            let waiting = list.staying().filter(|known| known.may_leave_at.is_some()).count();
            prop_assert_eq!(places.waiting.len(), waiting);
            let of_peers = places.peers.values();
            let of_peers = of_peers.map(|peer| (peer.connections, peer.waiting.len()));
            let sum = of_peers.fold((0, 0), |sum, peer| (sum.0 + peer.0, sum.1 + peer.1));
            prop_assert_eq!(sum, (staying, waiting));
            let share = 1..=per_peer_max;
            prop_assert!(places.peers.values().all(|peer| share.contains(&peer.connections)));
        }
    }
}

#[test]
fn what_is_idle_is_the_proxys_again_whatever_its_share() {
    let mut now = Now::new(Room { max: 9, ..ROOM });
    let mut of_one = Vec::new();
    for _ in 0..2 {
        let id = now.served(1, "through the proxy");
        now.belongs_to(id, 2).unwrap();
        of_one.push(id);
    }
    assert_eq!(now.enter(2, Awaited, "third"), Err(Full::Peer));
    let own = [now.idle(1, "own"), now.idle(1, "own")];
    for id in of_one {
        now.stands(id, Idle);
        now.places.back_to(id, peer(1));
    }
    assert_eq!(now.enter(2, Awaited, "third").unwrap().evicted, None);
    // The proxy has more than its share now, all of it idle.
    assert_eq!(now.evicted_for(1, Awaited), Some("own"));
    // One that has left comes back nowhere.
    now.places.left(own[1]);
    now.places.back_to(own[1], peer(3));
    assert_eq!(now.places.taken(), 4);
}
