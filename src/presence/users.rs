//! The directory of users with a session here: who they are, since when, and in which slot.
//!
//! A user is one entry however many sessions they have. A shard's lock is taken by connect,
//! disconnect, look-up and rendering only, for microseconds; a heartbeat never takes it.
//!
//! # Whose is a slot?
//!
//! An entry outlives its last session until the flush that may still hold its heartbeat has been
//! answered, so that a slot is never given to someone else while a heartbeat of the first is under
//! way. Who takes bits out of [`Pending`] takes a [`Flight`] of the shard before, and keeps it
//! until the slots are answered or restored; [`Users::reap`] frees nothing while there is one.
//!
//! The bits are `Relaxed`. What orders them against a slot's change of hands:
//!
//! - A session records before it disconnects, and disconnects under the lock. So `reap`, under the
//!   same lock, sees the bit of who has left, or what came after it: a drain. That goes for a
//!   session that was replaced, too: as long as it has not ended, its slot is kept.
//! - A flight is taken under the lock, before the bits. So a `reap` that comes later sees it, and
//!   one that came before can't have missed a bit that was drained only afterwards.
//! - A slot is restored before its flight is dropped. The drop is a `Release`, and
//!   [`Arc::get_mut`], by which `reap` looks whether there is a flight, an `Acquire` of it: with
//!   no flight left, `reap` sees all bits that came back. (`Arc::strong_count` would not do: it
//!   is `Relaxed`.)
//! - A slot's next user gets it under the lock that its bit was cleared under.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// While one of a shard lives, none of the shard's slots changes hands. See [`Users::flight`].
#[derive(Clone, Debug, Default)]
pub struct Flight(Arc<()>);

/// See the module's page. Times (`now_s`) are seconds of a monotonic clock.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    pending: Arc<Pending>,
    sessions_per_user_max: usize,
}

/// On cache lines of its own, as its lock is.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    /// Several small tables: what grows by doubling does so in small steps, at different times.
    tables: [HashTable<u32>; TABLES],
    /// In chunks, so that a growing shard neither copies its entries nor doubles.
    chunks: Vec<Vec<Entry>>,
    free: Vec<u32>,
    /// Users without a session, oldest first, each once.
    departed: VecDeque<u32>,
    users: usize,
    /// How many sessions of a place were replaced and have not ended yet: they may still record.
    replaced: HashMap<u32, u32>,
    flight: Flight,
}

/// Hash tables of a shard.
const TABLES: usize = 4;

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

    /// Takes a session out; to be called once for each that was entered, replaced or not, when it
    /// will record no more.
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

    /// To be taken before slots of the shard are drained or handed on, and kept until they are
    /// answered or restored.
    pub fn flight(&self, shard: usize) -> Flight {
        self.lock(shard).flight.clone()
    }

    /// Frees the slots of users who left, unless a flight of the shard is under way: those who are
    /// not pending go; so do those who left `ttl_s` ago or more, pending or not, as a `set` would
    /// claim that they are here still. Who has a replaced session that has not ended stays.
    pub fn reap(&self, number: usize, now_s: u32, ttl_s: u32) {
        let mut shard = self.lock(number);
        if Arc::get_mut(&mut shard.flight.0).is_none() {
            return;
        }
        for _ in 0..shard.departed.len() {
            let Some(place) = shard.departed.pop_front() else {
                return;
            };
            let slot = Slot::new(number, place);
            let may_record = shard.replaced.contains_key(&place);
            let Some(entry) = shard.entry_mut(place) else {
                continue;
            };
            let is_due = || self.pending.contains(slot) && entry.ttl_left_s(now_s, ttl_s).is_some();
            if entry.state == State::Back {
                entry.state = State::Online;
            } else if may_record || is_due() {
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

/// Bits that hashbrown does not use inside a table: it takes the lowest for the bucket, and the top
/// seven to tell the entries near it apart.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

fn table_of(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

impl Shard {
    fn find(&self, hash: u64, id: &UserId) -> Option<u32> {
        let is_it = |&place: &u32| self.entry(place).is_some_and(|entry| entry.id == *id);
        self.tables[table_of(hash)].find(hash, is_it).copied()
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
        self.tables[table_of(hash)].insert_unique(hash, place, |&place| {
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
        let table = &mut self.tables[table_of(hash)];
        if let Ok(found) = table.find_entry(hash, |&found| found == place) {
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
        *self.replaced.entry(place).or_default() += 1;
        Some(oldest)
    }

    fn leave(&mut self, place: u32, session: SessionId, now_s: u32) {
        let Some(entry) = self.entry_mut(place) else {
            return;
        };
        if entry.is_online() && entry.first().session == session {
            if !entry.next_becomes_first() {
                self.depart(place, now_s);
            }
        } else if !entry.remove_further(session) {
            self.replaced_has_ended(place);
        }
    }

    fn depart(&mut self, place: u32, now_s: u32) {
        let Some(entry) = self.entry_mut(place) else {
            return;
        };
        let is_listed = entry.state == State::Back;
        entry.state = State::Departed;
        entry.stamp_s = now_s;
        self.users -= 1;
        if !is_listed {
            self.departed.push_back(place);
        }
    }

    fn replaced_has_ended(&mut self, place: u32) {
        if let Some(count) = self.replaced.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.replaced.remove(&place);
            }
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
        self.drop_empty();
        true
    }

    /// False if `session` is none of the further ones.
    fn remove_further(&mut self, session: SessionId) -> bool {
        let Some(more) = &mut self.more else {
            return false;
        };
        let count = more.len();
        more.retain(|live| live.session != session);
        let is_removed = more.len() < count;
        self.drop_empty();
        is_removed
    }

    fn drop_empty(&mut self) {
        if self.more.as_ref().is_some_and(|more| more.is_empty()) {
            self.more = None;
        }
    }
}
