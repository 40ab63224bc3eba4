#![allow(
    clippy::disallowed_methods,
    reason = "time is counted from some instant"
)]

use proptest::prelude::*;

use super::*;

const ROOM: Room = Room {
    max: 3,
    per_peer_max: 2,
    leaving_max: 2,
    idle_min: Duration::ZERO,
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
        is_idle: bool,
        name: &'static str,
    ) -> Result<Entered<&'static str>, Full> {
        self.places.enter(peer(number), is_idle, self.now, name)
    }

    fn idle(&mut self, number: u8, name: &'static str) -> ConnectionId {
        self.enter(number, true, name).unwrap().id
    }

    fn evicted_for(&mut self, number: u8, is_idle: bool) -> Option<&'static str> {
        self.enter(number, is_idle, "new").unwrap().evicted
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
    now.places.begins(first);
    now.places.idles(first, now.now);
    assert_eq!(now.evicted_for(4, true), Some("second"));
    assert_eq!(now.evicted_for(4, true), Some("third"));
    assert_eq!(now.places.taken(), 3);
}

#[test]
fn a_peer_with_its_share_makes_room_for_itself() {
    let mut now = Now::new(ROOM);
    now.idle(2, "other");
    let first = now.idle(1, "first");
    let second = now.idle(1, "second");
    assert_eq!(now.evicted_for(1, false), Some("first"));
    now.places.left(first);
    now.places.begins(second);
    assert_eq!(now.enter(1, false, "new"), Err(Full::Peer));
    // Others lose none by that.
    assert_eq!(now.evicted_for(3, false), Some("other"));
    assert_eq!(now.enter(4, false, "new"), Err(Full::Server));
    now.places.left(second);
    assert_eq!(now.evicted_for(4, false), None);
}

#[test]
fn those_who_leave_are_bounded_until_they_are_gone() {
    let mut now = Now::new(ROOM);
    let ids = [1, 2, 3].map(|number| now.idle(number, "old"));
    assert_eq!(now.evicted_for(4, true), Some("old"));
    assert_eq!(now.evicted_for(5, true), Some("old"));
    assert_eq!(now.enter(6, true, "new"), Err(Full::Server));
    // What it does on its way out changes nothing.
    now.places.begins(ids[0]);
    now.places.idles(ids[0], now.now);
    now.places.left(ids[0]);
    assert_eq!(now.places.taken(), 3);
    assert!(now.enter(6, true, "new").is_ok());
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
    assert_eq!(now.enter(2, true, "second"), Err(Full::Server));
    now.now += Duration::from_millis(1);
    assert_eq!(now.evicted_for(2, true), Some("first"));
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
    assert_eq!(now.enter(2, true, "silent"), Err(Full::Server));
    assert_eq!(now.evicted_for(2, false), Some("first"));
}

#[test]
fn a_connection_may_turn_out_to_be_of_another_peer() {
    let mut now = Now::new(Room { max: 9, ..ROOM });
    let of_proxy = now.idle(9, "of proxy");
    now.idle(1, "old");
    let busy = now.enter(1, false, "busy").unwrap().id;
    assert_eq!(now.belongs_to(of_proxy, 1), Ok(Some("old")));
    now.places.begins(of_proxy);
    let other = now.idle(9, "other of proxy");
    assert_eq!(now.belongs_to(other, 1), Err(Full::Peer));
    // It is where it was.
    assert_eq!(now.belongs_to(other, 9), Ok(None));
    now.places.left(busy);
    assert_eq!(now.belongs_to(other, 1), Ok(None));
    assert_eq!(now.places.peers, HashMap::from([(peer(1), 2)]));
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
    Begin(usize),
    Idle(usize),
    Leave(usize),
    Move(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4u8, any::<bool>()).prop_map(|(peer, is_idle)| Step::Enter(peer, is_idle)),
        1 => any::<usize>().prop_map(Step::Begin),
        1 => any::<usize>().prop_map(Step::Idle),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => (any::<usize>(), 0..4u8).prop_map(|(which, peer)| Step::Move(which, peer)),
    ]
}

/// What is known of a connection without any bookkeeping.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: ConnectionId,
    peer: u8,
    /// When, and in which order.
    idle_since: Option<(Instant, usize)>,
    is_leaving: bool,
}

/// A plain list of connections, which is searched each time.
struct List {
    room: Room,
    known: Vec<Known>,
    now: Instant,
    step: usize,
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
            let since = known.idle_since.map(|(since, _)| since);
            let is_long = since.is_some_and(|since| self.now - since >= self.room.idle_min);
            is_long && (!has_share || known.peer == peer)
        });
        let longest = candidates.min_by_key(|known| known.idle_since.map(|(_, order)| order));
        let leaving = self.known.len() - self.staying().count();
        let full = if has_share { Full::Peer } else { Full::Server };
        let may_evict = !is_silent || self.room.silent_may_evict;
        let longest = longest.filter(|_| may_evict && leaving < self.room.leaving_max);
        longest.map(|known| Some(known.id)).ok_or(full)
    }

    fn leaves(&mut self, id: Option<ConnectionId>) {
        let known = self.known.iter_mut().find(|known| Some(known.id) == id);
        known.into_iter().for_each(|known| known.is_leaving = true);
    }

    /// Takes a step with both; what they return must be the same.
    fn step(&mut self, places: &mut Places<usize>, step: Step) -> Result<(), TestCaseError> {
        let at = |which: usize| which.checked_rem(self.known.len());
        let idle_since = Some((self.now, self.step));
        match step {
            Step::Enter(of, is_idle) => {
                let expected = self.to_leave(of, is_idle, self.staying().count() >= self.room.max);
                let entered = places.enter(peer(of), is_idle, self.now, self.step);
                prop_assert_eq!(entered.as_ref().err(), expected.as_ref().err());
                if let (Ok(entered), Ok(expected)) = (entered, expected) {
                    prop_assert_eq!(entered.evicted.is_some(), expected.is_some());
                    self.leaves(expected);
                    self.known.push(Known {
                        id: entered.id,
                        peer: of,
                        idle_since: idle_since.filter(|_| is_idle),
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
            Step::Begin(which) => {
                let Some(at) = at(which) else { return Ok(()) };
                places.begins(self.known[at].id);
                self.known[at].idle_since = None;
            }
            Step::Idle(which) => {
                let Some(at) = at(which) else { return Ok(()) };
                places.idles(self.known[at].id, self.now);
                self.known[at].idle_since = idle_since;
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
        silent_may_evict: bool,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let idle_min = Duration::from_secs(idle_min_s);
        let room = Room { max, per_peer_max, leaving_max, idle_min, silent_may_evict };
        let mut places = Places::new(room);
        let mut list = List { room, known: Vec::new(), now: Instant::now(), step: 0 };
        for step in steps {
            list.step(&mut places, step)?;
            list.step += 1;
            list.now += Duration::from_secs(1);
            let staying = list.staying().count();
            prop_assert_eq!(places.taken(), staying);
            prop_assert!(staying <= max);
            prop_assert_eq!(places.leaving.len(), list.known.len() - staying);
            let idle = list.staying().filter(|known| known.idle_since.is_some()).count();
            prop_assert_eq!(places.idle.len(), idle);
            prop_assert_eq!(places.idle_of_peer.len(), idle);
            prop_assert_eq!(places.peers.values().sum::<usize>(), staying);
            let share = 1..=per_peer_max;
            prop_assert!(places.peers.values().all(|count| share.contains(count)));
        }
    }
}

#[test]
fn what_is_idle_is_the_proxys_again_whatever_its_share() {
    let mut now = Now::new(Room { max: 9, ..ROOM });
    let mut of_one = Vec::new();
    for _ in 0..2 {
        let id = now.enter(1, false, "through the proxy").unwrap().id;
        now.belongs_to(id, 2).unwrap();
        of_one.push(id);
    }
    assert_eq!(now.enter(2, false, "third"), Err(Full::Peer));
    let own = [now.idle(1, "own"), now.idle(1, "own")];
    for id in of_one {
        now.places.idles(id, now.now);
        now.places.back_to(id, peer(1));
    }
    assert_eq!(now.enter(2, false, "third").unwrap().evicted, None);
    // The proxy has more than its share now, all of it idle.
    assert_eq!(now.evicted_for(1, false), Some("own"));
    // One that has left comes back nowhere.
    now.places.left(own[1]);
    now.places.back_to(own[1], peer(3));
    assert_eq!(now.places.taken(), 4);
}
