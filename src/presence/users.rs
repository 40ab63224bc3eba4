//! The directory of users with a session here: who they are, since when, and in which slot.
//!
//! A user is one entry however many sessions they have. An entry outlives its last session until
//! the flush that may still hold its heartbeat has been answered, so that a slot is never given
//! to someone else while a heartbeat of the first is under way ([`Users::reap`]).
//!
//! A shard's lock is taken by connect, disconnect, look-up and rendering only, for microseconds;
//! a heartbeat never takes it.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Pending, Slot, UserId};
use crate::limits::SHARDS;

/// Names a session in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The worker that owns it.
    pub worker: u16,
    /// Its place in the worker's table.
    pub index: u32,
    /// Tells it from earlier sessions in that place.
    pub generation: u32,
}

/// A session that is open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// When it connected, Unix ms.
    pub connected_at_ms: u64,
    /// Which it is.
    pub session: SessionId,
}

/// What [`Users::connect`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The user's slot; valid until the session disconnects.
    pub slot: Slot,
    /// The oldest session, when the user has one more than allowed: the caller ends it.
    pub replaced: Option<SessionId>,
}

/// A user whose `set` is due, as [`Users::render`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// Who.
    pub user: &'a UserId,
    /// The oldest open session, or the last one of a user who has just left.
    pub live: Live,
    /// For how long the entry may live, seconds.
    pub ttl_s: u32,
    /// When it was last shown and not taken back; 0 for never, or of one who has left.
    pub written_at_s: u32,
}

/// See the module's page. Times (`now_s`) are seconds of a monotonic clock.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    pending: Arc<Pending>,
    sessions_per_user_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashTable<u32>,
    /// In chunks, so that a growing shard neither copies its entries nor doubles.
    chunks: Vec<Vec<Entry>>,
    free: Vec<u32>,
    /// Users without a session, oldest first, each once.
    departed: VecDeque<u32>,
    users: usize,
}

/// Entries of a chunk: each shard has at least one, so a few.
const CHUNK: usize = 16;

/// Laid out flat: with `Live` and `State` inside, padding would take 16 bytes more a user.
#[derive(Debug)]
struct Entry {
    id: UserId,
    /// The oldest session; of a user without one, the last.
    connected_at_ms: u64,
    index: u32,
    generation: u32,
    worker: u16,
    /// The memcached node that has the user's key.
    node: u8,
    state: State,
    /// Of a departed user: when the last session ended. Of one who is here: when their `set` was last
    /// rendered and not known to be lost, 0 for never.
    stamp_s: u32,
    /// Further sessions, in order of connecting. Boxed: most users have one session, and a `Vec`
    /// takes 16 bytes more of each entry.
    #[allow(clippy::box_collection)]
    more: Option<Box<Vec<Live>>>,
}

const _: () = assert!(size_of::<Entry>() <= 56);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Online,
    /// Online, and in the list of departed users from the last time.
    Back,
    Departed,
}

impl Entry {
    fn is_online(&self) -> bool {
        matches!(self.state, State::Online | State::Back)
    }

    fn first(&self) -> Live {
        Live {
            connected_at_ms: self.connected_at_ms,
            session: SessionId {
                worker: self.worker,
                index: self.index,
                generation: self.generation,
            },
        }
    }

    fn set_first(&mut self, live: Live) {
        self.connected_at_ms = live.connected_at_ms;
        self.worker = live.session.worker;
        self.index = live.session.index;
        self.generation = live.session.generation;
    }

    /// The TTL with which a `set` is still true: all of `ttl_s` of a user who is here, what is
    /// left of it since the departure of one who is not. Nothing when none is left.
    fn ttl_left_s(&self, now_s: u32, ttl_s: u32) -> Option<u32> {
        let gone_s = match self.state {
            State::Free => return None,
            State::Online | State::Back => 0,
            State::Departed => now_s.saturating_sub(self.stamp_s),
        };
        ttl_s.checked_sub(gone_s).filter(|&left_s| left_s > 0)
    }
}

impl Users {
    /// An empty directory; slots are reserved in `pending`.
    pub fn new(pending: Arc<Pending>, sessions_per_user_max: usize) -> Users {
        Users {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            pending,
            sessions_per_user_max: sessions_per_user_max.max(1),
        }
    }

    /// Enters a session. `node_of` is asked for the key's node when the user is new here.
    pub fn connect(
        &self,
        id: &UserId,
        live: Live,
        node_of: impl FnOnce(&UserId) -> u8,
    ) -> Connected {
        let hash = self.hasher.hash_one(id.as_str());
        let shard_number = shard_of(hash);
        let mut shard = self.lock(shard_number);
        if let Some(place) = shard.find(hash, id) {
            let replaced = shard.join(place, live, self.sessions_per_user_max);
            return Connected {
                slot: Slot::new(shard_number, place),
                replaced,
            };
        }
        let entry = Entry {
            id: id.clone(),
            connected_at_ms: live.connected_at_ms,
            index: live.session.index,
            generation: live.session.generation,
            worker: live.session.worker,
            node: node_of(id),
            state: State::Online,
            stamp_s: 0,
            more: None,
        };
        let place = shard.insert(hash, entry, &self.hasher);
        let slot = Slot::new(shard_number, place);
        // Under the lock: no one can have the slot before its bit exists.
        self.pending.reserve(slot);
        Connected {
            slot,
            replaced: None,
        }
    }

    /// Takes a session out. A session that was replaced before may be taken out again.
    pub fn disconnect(&self, slot: Slot, session: SessionId, now_s: u32) {
        let mut shard = self.lock(slot.shard());
        shard.leave(slot.place(), session, now_s);
    }

    /// Since when (Unix ms) the user has had a session here, if there is one now.
    pub fn online_since(&self, id: &UserId) -> Option<u64> {
        let hash = self.hasher.hash_one(id.as_str());
        let shard = self.lock(shard_of(hash));
        let entry = shard.entry(shard.find(hash, id)?)?;
        entry.is_online().then_some(entry.connected_at_ms)
    }

    /// The memcached node of the slot's user.
    pub fn node(&self, slot: Slot) -> Option<u8> {
        let shard = self.lock(slot.shard());
        let entry = shard.entry(slot.place())?;
        (entry.state != State::Free).then_some(entry.node)
    }

    /// Shows each of one shard's `places` whose user is here, or left at most `ttl_s` ago, to
    /// `show` under the shard's lock; the others are passed over. `show` gets the item's number
    /// and must be quick. Returns how many were shown.
    pub fn render(
        &self,
        shard: usize,
        places: &[u32],
        now_s: u32,
        ttl_s: u32,
        mut show: impl FnMut(u32, Due<'_>),
    ) -> usize {
        let mut shard = self.lock(shard);
        let mut shown = 0;
        for &place in places {
            let Some(entry) = shard.entry_mut(place) else {
                continue;
            };
            if let Some(ttl_s) = entry.ttl_left_s(now_s, ttl_s) {
                shown += 1;
                let mut written_at_s = 0;
                if entry.is_online() {
                    written_at_s = std::mem::replace(&mut entry.stamp_s, now_s.max(1));
                }
                show(
                    place,
                    Due {
                        user: &entry.id,
                        live: entry.first(),
                        ttl_s,
                        written_at_s,
                    },
                );
            }
        }
        shown
    }

    /// Splits pending places of one shard by the node of their user.
    pub fn by_node(&self, shard: usize, places: &[u32], mut take: impl FnMut(u8, u32)) {
        let shard = self.lock(shard);
        for &place in places {
            if let Some(entry) = shard.entry(place) {
                take(entry.node, place);
            }
        }
    }

    /// Shows up to `count` users of one shard from place `from` on to `see`, under the shard's lock: the
    /// place, who, their memcached node, which may be changed, and whether they are here now. Returns
    /// where to go on; nothing at the end.
    pub fn visit(
        &self,
        shard: usize,
        from: u32,
        count: u32,
        mut see: impl FnMut(u32, &UserId, &mut u8, bool),
    ) -> Option<u32> {
        let mut shard = self.lock(shard);
        let to = from + count;
        for place in from..to {
            let entry = shard.entry_mut(place)?;
            let online = entry.is_online();
            if entry.state != State::Free {
                see(place, &entry.id, &mut entry.node, online);
            }
        }
        Some(to)
    }

    /// The `set` of the slot's user, shown by [`Users::render`], was not acknowledged: the last that was
    /// is of `written_at_s`.
    pub fn not_written(&self, slot: Slot, written_at_s: u32) {
        let mut shard = self.lock(slot.shard());
        if let Some(entry) = shard
            .entry_mut(slot.place())
            .filter(|entry| entry.is_online())
        {
            entry.stamp_s = written_at_s;
        }
    }

    /// Marks everyone who is here as pending: the last flush before the server stops.
    pub fn mark_all(&self) {
        for number in 0..SHARDS {
            let shard = self.lock(number);
            let entries = shard.chunks.iter().flatten();
            for (place, entry) in (0u32..).zip(entries) {
                if entry.is_online() {
                    self.pending.record(Slot::new(number, place));
                }
            }
        }
    }

    /// Frees the slots of users who left. Call it for a shard when no flush of it is under way:
    /// those who are not pending go; so do those who left `ttl_s` ago or more, pending or not, as
    /// a `set` would claim that they are here still.
    pub fn reap(&self, number: usize, now_s: u32, ttl_s: u32) {
        let mut shard = self.lock(number);
        for _ in 0..shard.departed.len() {
            let Some(place) = shard.departed.pop_front() else {
                return;
            };
            let slot = Slot::new(number, place);
            let Some(entry) = shard.entry_mut(place) else {
                continue;
            };
            if entry.state == State::Back {
                entry.state = State::Online;
            } else if self.pending.contains(slot) && entry.ttl_left_s(now_s, ttl_s).is_some() {
                shard.departed.push_back(place);
            } else {
                self.pending.forget(slot);
                shard.remove(place, &self.hasher);
            }
        }
    }

    /// Users with at least one session here.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).users).sum()
    }

    /// Whether no one is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        // A panic under the lock would have left at worst one entry half made.
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The top bits: the table inside the shard uses the others.
fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

impl Shard {
    fn find(&self, hash: u64, id: &UserId) -> Option<u32> {
        let is_it = |&place: &u32| self.entry(place).is_some_and(|entry| entry.id == *id);
        self.places.find(hash, is_it).copied()
    }

    fn entry(&self, place: u32) -> Option<&Entry> {
        self.chunks
            .get(place as usize / CHUNK)?
            .get(place as usize % CHUNK)
    }

    fn entry_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.chunks
            .get_mut(place as usize / CHUNK)?
            .get_mut(place as usize % CHUNK)
    }

    fn insert(&mut self, hash: u64, entry: Entry, hasher: &DefaultHashBuilder) -> u32 {
        self.users += 1;
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(freed) = self.entry_mut(place) {
                    *freed = entry;
                }
                place
            }
            None => self.push(entry),
        };
        let chunks = &self.chunks;
        self.places.insert_unique(hash, place, |&place| {
            let (chunk, offset) = (place as usize / CHUNK, place as usize % CHUNK);
            hasher.hash_one(chunks[chunk][offset].id.as_str())
        });
        place
    }

    fn push(&mut self, entry: Entry) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(entry);
        // 2^26 places a shard are more than memory holds: an entry has some 70 bytes.
        (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
    }

    fn remove(&mut self, place: u32, hasher: &DefaultHashBuilder) {
        let Some(entry) = self.entry_mut(place) else {
            return;
        };
        entry.state = State::Free;
        let hash = hasher.hash_one(entry.id.as_str());
        if let Ok(found) = self.places.find_entry(hash, |&found| found == place) {
            found.remove();
        }
        self.free.push(place);
    }

    /// Adds a session to a user who is known; returns the one that is too many.
    fn join(&mut self, place: u32, live: Live, sessions_max: usize) -> Option<SessionId> {
        let entry = self.entry_mut(place)?;
        if entry.state == State::Departed {
            entry.set_first(live);
            entry.state = State::Back;
            entry.stamp_s = 0;
            self.users += 1;
            return None;
        }
        let more = entry.more.get_or_insert_default();
        more.push(live);
        if more.len() < sessions_max {
            return None;
        }
        let oldest = entry.first().session;
        entry.next_becomes_first();
        Some(oldest)
    }

    fn leave(&mut self, place: u32, session: SessionId, now_s: u32) {
        let Some(entry) = self.entry_mut(place).filter(|entry| entry.is_online()) else {
            return;
        };
        if entry.first().session != session {
            if let Some(more) = &mut entry.more {
                more.retain(|live| live.session != session);
            }
        } else if !entry.next_becomes_first() {
            let is_listed = entry.state == State::Back;
            entry.state = State::Departed;
            entry.stamp_s = now_s;
            self.users -= 1;
            if !is_listed {
                self.departed.push_back(place);
            }
            return;
        }
        if entry.more.as_ref().is_some_and(|more| more.is_empty()) {
            entry.more = None;
        }
    }
}

impl Entry {
    /// False if there is no further session.
    fn next_becomes_first(&mut self) -> bool {
        let Some(more) = self.more.as_mut().filter(|more| !more.is_empty()) else {
            return false;
        };
        let next = more.remove(0);
        self.set_first(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_S: u32 = 60;

    fn id(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    fn live(number: u32) -> Live {
        Live {
            connected_at_ms: u64::from(number),
            session: SessionId {
                worker: 0,
                index: number,
                generation: 0,
            },
        }
    }

    fn users(sessions_max: usize) -> (Arc<Pending>, Users) {
        let pending = Arc::new(Pending::new());
        (pending.clone(), Users::new(pending, sessions_max))
    }

    fn rendered(users: &Users, slot: Slot, now_s: u32) -> Option<(String, u64)> {
        let mut seen = None;
        users.render(slot.shard(), &[slot.place()], now_s, TTL_S, |_, due| {
            seen = Some((due.user.to_string(), due.live.connected_at_ms));
        });
        seen
    }

    #[test]
    fn sessions_of_a_user_share_a_slot_and_the_oldest_counts() {
        let (_, users) = users(10);
        let first = users.connect(&id("a"), live(1), |_| 7);
        let second = users.connect(&id("a"), live(2), |_| panic!("known already"));
        assert_eq!(first.slot, second.slot);
        assert_ne!(users.connect(&id("b"), live(3), |_| 0).slot, first.slot);
        assert_eq!(users.node(first.slot), Some(7));
        assert_eq!(users.len(), 2);
        assert_eq!(users.online_since(&id("a")), Some(1));
        users.disconnect(first.slot, live(1).session, 0);
        assert_eq!(users.online_since(&id("a")), Some(2));
        assert_eq!(rendered(&users, first.slot, 0), Some(("a".into(), 2)));
        users.disconnect(first.slot, live(2).session, 0);
        assert_eq!(users.online_since(&id("a")), None);
        assert_eq!(users.len(), 1);
    }

    #[test]
    fn one_session_too_many_replaces_the_oldest() {
        let (_, users) = users(2);
        users.connect(&id("a"), live(1), |_| 0);
        assert_eq!(users.connect(&id("a"), live(2), |_| 0).replaced, None);
        let third = users.connect(&id("a"), live(3), |_| 0);
        assert_eq!(third.replaced, Some(live(1).session));
        assert_eq!(users.online_since(&id("a")), Some(2));
        // The replaced session reports its end later; that takes nothing from the others.
        users.disconnect(third.slot, live(1).session, 0);
        users.disconnect(third.slot, live(2).session, 0);
        assert_eq!(users.online_since(&id("a")), Some(3));
    }

    #[test]
    fn a_slot_is_kept_until_its_heartbeat_is_flushed_or_too_old() {
        let (pending, users) = users(2);
        let slot = users.connect(&id("a"), live(1), |_| 0).slot;
        pending.record(slot);
        users.disconnect(slot, live(1).session, 100);
        users.reap(slot.shard(), 101, TTL_S);
        assert_eq!(
            rendered(&users, slot, 101),
            Some(("a".into(), 1)),
            "pending still"
        );
        pending.drain(slot.shard(), drop);
        users.reap(slot.shard(), 106, TTL_S);
        assert_eq!(rendered(&users, slot, 106), None, "freed");

        let slot = users.connect(&id("b"), live(2), |_| 0).slot;
        pending.record(slot);
        users.disconnect(slot, live(2).session, 200);
        assert_eq!(rendered(&users, slot, 259), Some(("b".into(), 2)));
        assert_eq!(rendered(&users, slot, 260), None, "a set would be a lie");
        users.reap(slot.shard(), 260, TTL_S);
        assert!(!pending.contains(slot));
    }

    #[test]
    fn who_has_left_is_written_for_what_is_left_of_the_ttl() {
        let (pending, users) = users(2);
        let slot = users.connect(&id("a"), live(1), |_| 0).slot;
        pending.record(slot);
        let ttl_s = |now_s, ttl_s| {
            let mut seen = None;
            let places = [slot.place()];
            users.render(slot.shard(), &places, now_s, ttl_s, |_, due| {
                seen = Some(due.ttl_s);
            });
            seen
        };
        assert_eq!(ttl_s(1000, 60), Some(60), "all of it while here");
        users.disconnect(slot, live(1).session, 1000);
        assert_eq!(ttl_s(1000, 60), Some(60));
        assert_eq!(ttl_s(1001, 60), Some(59));
        assert_eq!(ttl_s(1059, 60), Some(1));
        assert_eq!(ttl_s(1060, 60), None, "0 would be for ever");
        assert_eq!(ttl_s(5000, 60), None);
        assert_eq!(ttl_s(1060, 70), Some(10), "a TTL lengthened meanwhile");
        assert_eq!(users.connect(&id("a"), live(2), |_| 0).slot, slot);
        assert_eq!(ttl_s(5000, 60), Some(60), "all of it when back");
    }

    #[test]
    fn who_comes_back_keeps_the_slot_and_is_reaped_once() {
        let (pending, users) = users(2);
        let slot = users.connect(&id("a"), live(1), |_| 0).slot;
        users.disconnect(slot, live(1).session, 0);
        assert_eq!(users.connect(&id("a"), live(2), |_| 0).slot, slot);
        users.disconnect(slot, live(2).session, 0);
        assert_eq!(users.connect(&id("a"), live(3), |_| 0).slot, slot);
        users.reap(slot.shard(), 1, TTL_S);
        assert_eq!(users.online_since(&id("a")), Some(3));
        users.disconnect(slot, live(3).session, 2);
        users.reap(slot.shard(), 3, TTL_S);
        assert_eq!(rendered(&users, slot, 3), None);
        assert!(users.is_empty() && pending.is_empty());
    }

    #[test]
    fn freed_slots_are_used_again() {
        let (_, users) = users(1);
        for round in 0..3 {
            let slots: Vec<_> = (0..1000)
                .map(|n| {
                    users
                        .connect(&id(&format!("u{round}-{n}")), live(n), |_| 0)
                        .slot
                })
                .collect();
            assert_eq!(users.len(), 1000);
            for (n, slot) in (0..).zip(slots) {
                users.disconnect(slot, live(n).session, 0);
            }
            for shard in 0..SHARDS {
                users.reap(shard, 0, TTL_S);
            }
        }
        let places: usize = (0..SHARDS)
            .map(|shard| users.lock(shard).chunks.iter().map(Vec::len).sum::<usize>())
            .sum();
        assert!(places < 1500, "{places} places for 1000 users at a time");
    }

    #[test]
    fn mark_all_marks_who_is_here() {
        let (pending, users) = users(1);
        let here = users.connect(&id("here"), live(1), |_| 0).slot;
        let gone = users.connect(&id("gone"), live(2), |_| 0).slot;
        users.disconnect(gone, live(2).session, 0);
        users.mark_all();
        assert!(pending.contains(here) && !pending.contains(gone));
    }
}
