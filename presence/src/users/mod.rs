//! The directory of users with a session here: who they are, since when, and in which slot.
//!
//! A user is one entry however many sessions they have. A shard's lock is taken by connect,
//! disconnect, look-up and rendering only, for microseconds; a heartbeat never takes it.
//!
//! # Whose is a slot?
//!
//! An entry outlives its last session until no flush holds its bit any more, so that a slot is
//! never given to someone else while a heartbeat of the first is under way. A flush that takes bits
//! out of [`Pending`] takes a [`SlotGuard`] of the shard before, and keeps it until the slots are
//! answered or restored; [`Users::reap`] frees nothing while there is one.
//!
//! A user without a session is never rendered: by now another server may have written them, and the
//! late `set` would replace its entry. Their bit, if there is one, is dropped with the slot.
//!
//! The bits are `Relaxed`. What orders them against a slot's change of hands:
//!
//! - A session records before it disconnects, and disconnects under the lock. So `reap`, under the
//!   same lock, sees the bit of a user who has left and clears it, or a drain has taken it. That
//!   goes for a session that was replaced, too: as long as it has not ended, its slot is kept.
//! - A guard is taken under the lock, before the bits. So a `reap` that comes later sees it, and
//!   one that came before can't have missed a bit that was drained only afterwards.
//! - A slot is restored before its guard is dropped. The drop is a `Release`, and
//!   [`Arc::get_mut`], by which it is seen whether there is a guard, an `Acquire` of it: with no
//!   guard left, `reap` sees all bits that came back. (`Arc::strong_count` would not do: it is
//!   `Relaxed`.)
//! - A slot's next user gets it under the lock that its bit was cleared under.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod shard;

use std::hash::BuildHasher;
use std::hint::black_box;

pub use presenced_session::SessionId;

use self::shard::{Entry, Shard, State};
use super::sync::{Arc, Mutex, MutexGuard, PoisonError};
use super::{Pending, Slot, UserId};
use crate::limits::SHARDS;

/// How users are spread over the shards.
pub type Hasher = foldhash::fast::SeedableRandomState;

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
    /// The user's id.
    pub user: &'a UserId,
    /// The oldest open session.
    pub live: Live,
    /// When it was last shown and not taken back; 0 for never.
    pub written_at_s: u32,
}

/// While one of a shard lives, none of the shard's slots changes hands. See [`Users::slot_guard`].
#[derive(Clone, Debug, Default)]
pub struct SlotGuard(Arc<()>);

/// The directory of users and their slots. Times (`now_s`) are seconds of a monotonic clock.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Mutex<Shard>]>,
    hasher: Hasher,
    pending: Arc<Pending>,
    sessions_per_user_max: usize,
}

impl Users {
    /// An empty directory; slots are reserved in `pending`. `hasher` spreads users over the shards,
    /// and is the directory's secret.
    pub fn new(pending: Arc<Pending>, sessions_per_user_max: usize, hasher: Hasher) -> Users {
        Users {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher,
            pending,
            sessions_per_user_max: sessions_per_user_max.max(1),
        }
    }

    /// How users are spread over the shards; good for any other table of users.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Enters a session. `node_of` is asked for the key's node when the user is new here.
    pub fn connect(
        &self,
        id: &UserId,
        live: Live,
        node_of: impl FnOnce(&UserId) -> u8,
    ) -> Connected {
        let hash = self.hash(id);
        let shard_number = shard_of(hash);
        let mut shard = self.lock(shard_number);
        if let Some(index) = shard.find(hash, id) {
            let replaced = shard.join(index, live, self.sessions_per_user_max);
            return Connected {
                slot: Slot::new(shard_number, index),
                replaced,
            };
        }
        let entry = Entry {
            id: id.clone(),
            connected_at_ms: live.connected_at_ms,
            key: live.session.key,
            worker: live.session.worker,
            node: node_of(id),
            state: State::Online,
            stamp_s: 0,
        };
        let index = shard.insert(hash, entry, &self.hasher);
        let slot = Slot::new(shard_number, index);
        // Under the lock: no one can have the slot before its bit exists.
        self.pending.reserve(slot);
        Connected {
            slot,
            replaced: None,
        }
    }

    /// Takes a session out; to be called once for each that was entered, replaced or not, when it
    /// will record no more.
    pub fn disconnect(&self, slot: Slot, session: SessionId) {
        self.lock(slot.shard()).leave(slot.index(), session);
    }

    /// The same unless a guard of the user's shard is held: what it has rendered may not be
    /// answered yet. Says whether it was done.
    pub fn try_disconnect(&self, slot: Slot, session: SessionId) -> bool {
        let mut shard = self.lock(slot.shard());
        let is_free = !shard.has_flight();
        if is_free {
            shard.leave(slot.index(), session);
        }
        is_free
    }

    /// Since when (Unix ms) the user has had a session here, if there is one now.
    pub fn online_since(&self, id: &UserId) -> Option<u64> {
        self.online_since_by(self.hash(id), id)
    }

    /// The hash by which users are found, for those who look for the same one in several places.
    pub fn hash(&self, id: &UserId) -> u64 {
        self.hasher.hash_one(id.as_str())
    }

    /// The same as [`Users::online_since`], for a user whose hash is known.
    pub fn online_since_by(&self, hash: u64, id: &UserId) -> Option<u64> {
        let shard = self.lock(shard_of(hash));
        let entry = shard.entry(shard.find(hash, id)?)?;
        entry.is_online().then_some(entry.connected_at_ms)
    }

    /// The user's sessions here, those that were replaced left out.
    pub fn sessions_of(&self, id: &UserId) -> Vec<SessionId> {
        let hash = self.hash(id);
        let shard = self.lock(shard_of(hash));
        let index = shard.find(hash, id);
        index
            .into_iter()
            .flat_map(|index| shard.sessions(index))
            .collect()
    }

    /// The sessions of everybody here, those that were replaced left out. It takes twelve bytes for
    /// each.
    pub fn sessions(&self) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        for number in 0..SHARDS {
            let shard = self.lock(number);
            let indexes = 0..shard.slots();
            sessions.extend(indexes.flat_map(|index| shard.sessions(index)));
        }
        sessions
    }

    /// The slot's user, who may have left.
    pub fn user(&self, slot: Slot) -> Option<UserId> {
        let shard = self.lock(slot.shard());
        let entry = shard.entry(slot.index())?;
        (entry.state != State::Free).then(|| entry.id.clone())
    }

    /// The memcached node of the slot's user.
    pub fn node(&self, slot: Slot) -> Option<u8> {
        let shard = self.lock(slot.shard());
        let entry = shard.entry(slot.index())?;
        (entry.state != State::Free).then_some(entry.node)
    }

    /// Shows to `show` those users of a shard, given by their `indexes`, who have a session here;
    /// the others are passed over. `show` runs under the shard's lock, so it must be quick. Returns
    /// how many were shown.
    pub fn render(
        &self,
        shard: usize,
        indexes: &[u32],
        now_s: u32,
        mut show: impl FnMut(u32, Due<'_>),
    ) -> usize {
        let mut shard = self.lock(shard);
        // The entries are seldom in the cache: looked at first, many are on their way at once.
        let entries = indexes.iter().filter_map(|&index| shard.entry(index));
        black_box(entries.fold(0, |sum, entry| sum ^ entry.connected_at_ms));
        let mut shown = 0;
        for &index in indexes {
            let entry = shard.entry_mut(index).filter(|entry| entry.is_online());
            let Some(entry) = entry else {
                continue;
            };
            shown += 1;
            let written_at_s = std::mem::replace(&mut entry.stamp_s, now_s.max(1));
            let (user, live) = (&entry.id, entry.first());
            show(
                index,
                Due {
                    user,
                    live,
                    written_at_s,
                },
            );
        }
        shown
    }

    /// Those users of a shard, given by their `indexes`, who were not shown by [`Users::render`]
    /// since `since_s`, or were taken back.
    pub fn unwritten(&self, shard: usize, indexes: &[u32], since_s: u32) -> Vec<u32> {
        let shard = self.lock(shard);
        let is_unwritten = |index: &u32| {
            let entry = shard.entry(*index);
            entry.is_some_and(|entry| entry.stamp_s <= since_s)
        };
        indexes.iter().copied().filter(is_unwritten).collect()
    }

    /// Splits pending users of one shard, given by their index, by the node of their user.
    pub fn by_node(&self, shard: usize, indexes: &[u32], mut take: impl FnMut(u8, u32)) {
        let shard = self.lock(shard);
        for &index in indexes {
            if let Some(entry) = shard.entry(index) {
                take(entry.node, index);
            }
        }
    }

    /// Shows up to `count` users of one shard from index `from` on to `see`, under the shard's
    /// lock: the index, who, their memcached node, which may be changed, and whether they are here
    /// now. Returns where to go on; nothing at the end.
    pub fn visit(
        &self,
        shard: usize,
        from: u32,
        count: u32,
        mut see: impl FnMut(u32, &UserId, &mut u8, bool),
    ) -> Option<u32> {
        let mut shard = self.lock(shard);
        let to = from + count;
        for index in from..to {
            let entry = shard.entry_mut(index)?;
            let online = entry.is_online();
            if entry.state != State::Free {
                see(index, &entry.id, &mut entry.node, online);
            }
        }
        Some(to)
    }

    /// The `set` of the slot's user, shown by [`Users::render`], was not acknowledged: the last
    /// that was is of `written_at_s`.
    pub fn not_written(&self, slot: Slot, written_at_s: u32) {
        let mut shard = self.lock(slot.shard());
        if let Some(entry) = shard
            .entry_mut(slot.index())
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
            for (index, entry) in (0u32..).zip(entries) {
                if entry.is_online() {
                    self.pending.record(Slot::new(number, index));
                }
            }
        }
    }

    /// To be taken before slots of the shard are drained or handed on, and kept until they are
    /// answered or restored.
    pub fn slot_guard(&self, shard: usize) -> SlotGuard {
        self.lock(shard).guard.clone()
    }

    /// Frees the slots of users who left, with their bits, unless a guard of the shard is held.
    /// The slot of a user with a replaced session that has not ended stays.
    pub fn reap(&self, number: usize) {
        let mut shard = self.lock(number);
        if shard.has_flight() {
            return;
        }
        for _ in 0..shard.departed.len() {
            let Some(index) = shard.departed.pop_front() else {
                return;
            };
            let may_record = shard.replaced.contains_key(&index);
            let Some(entry) = shard.entry_mut(index) else {
                continue;
            };
            if entry.state == State::Back {
                entry.state = State::Online;
            } else if may_record {
                shard.departed.push_back(index);
            } else {
                self.pending.forget(Slot::new(number, index));
                shard.remove(index, &self.hasher);
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
