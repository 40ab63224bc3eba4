//! A shard of the directory: its users, who of them has left, and their sessions. No lock is taken
//! here.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::hash_map::Entry::Occupied;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::HashTable;
use presenced_session::slab::SessionKey;

use super::{Arc, Hasher, Live, SessionId, SlotGuard, UserId};

/// On cache lines of its own, as its lock is.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    /// Several small tables: what grows by doubling does so in small steps, at different times.
    tables: [HashTable<u32>; TABLES],
    /// In chunks ([`locate`]), so that a growing shard neither copies its entries nor doubles.
    pub(super) chunks: Vec<Vec<Entry>>,
    /// Entries in all chunks.
    len: u32,
    free: Vec<u32>,
    /// Users without a session, oldest first, each once.
    pub(super) departed: VecDeque<u32>,
    pub(super) users: usize,
    /// Sessions of a slot beside the oldest, in order of connecting; no list is empty. Not in the
    /// entry: most users have one session.
    further: HashMap<u32, Vec<Live>>,
    /// How many sessions of a slot were replaced and have not ended yet: they may still record.
    pub(super) replaced: HashMap<u32, u32>,
    pub(super) guard: SlotGuard,
}

/// Hash tables of a shard.
const TABLES: usize = 4;

/// Chunks of a size, and entries of the first ones: each shard has at least one chunk, so a few.
const CHUNK: usize = 16;

/// The chunk of an index, where in it, and how many the chunk holds: twice [`CHUNK`], then as many
/// of each power of two that follows. So at most a sixteenth is empty, and what a flush reads lies
/// together.
fn locate(index: u32) -> (usize, usize, usize) {
    let doublings = (index | 256).ilog2() - 8;
    let (shift, index) = (doublings + CHUNK.ilog2(), index as usize);
    let chunk = doublings as usize * CHUNK + (index >> shift);
    let size = 1 << shift;
    (chunk, index & (size - 1), size)
}

/// Laid out flat: with `Live` and `State` inside, padding would take 16 bytes more a user.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: UserId,
    /// The oldest session; of a user without one, the last.
    pub(super) connected_at_ms: u64,
    pub(super) key: SessionKey,
    pub(super) worker: u16,
    /// The memcached node that has the user's key.
    pub(super) node: u8,
    pub(super) state: State,
    /// When the user's `set` was last rendered and not known to be lost, 0 for never; of no meaning
    /// for a user who has left.
    pub(super) stamp_s: u32,
}

const _: () = assert!(size_of::<Entry>() <= 48);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Online,
    /// Online, and in the list of departed users from the last time.
    Back,
    Departed,
}

impl Shard {
    /// Whether a guard of the shard is held.
    pub(super) fn has_flight(&mut self) -> bool {
        Arc::get_mut(&mut self.guard.0).is_none()
    }

    pub(super) fn find(&self, hash: u64, id: &UserId) -> Option<u32> {
        let is_it = |&index: &u32| self.entry(index).is_some_and(|entry| entry.id == *id);
        self.tables[table_of(hash)].find(hash, is_it).copied()
    }

    pub(super) fn entry(&self, index: u32) -> Option<&Entry> {
        let (chunk, offset, _) = locate(index);
        self.chunks.get(chunk)?.get(offset)
    }

    pub(super) fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        let (chunk, offset, _) = locate(index);
        self.chunks.get_mut(chunk)?.get_mut(offset)
    }

    pub(super) fn insert(&mut self, hash: u64, entry: Entry, hasher: &Hasher) -> u32 {
        self.users += 1;
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(freed) = self.entry_mut(index) {
                    *freed = entry;
                }
                index
            }
            None => self.push(entry),
        };
        let chunks = &self.chunks;
        self.tables[table_of(hash)].insert_unique(hash, index, |&index| {
            let (chunk, offset, _) = locate(index);
            hasher.hash_one(chunks[chunk][offset].id.as_str())
        });
        index
    }

    fn push(&mut self, entry: Entry) -> u32 {
        // Slots are as many as `SLOTS_MAX`; descriptors end before.
        let index = self.len;
        self.len += 1;
        let (chunk, offset, size) = locate(index);
        if offset == 0 {
            self.chunks.push(Vec::with_capacity(size));
        }
        self.chunks[chunk].push(entry);
        index
    }

    pub(super) fn remove(&mut self, index: u32, hasher: &Hasher) {
        let Some(entry) = self.entry_mut(index) else {
            return;
        };
        entry.state = State::Free;
        let hash = hasher.hash_one(entry.id.as_str());
        let table = &mut self.tables[table_of(hash)];
        if let Ok(found) = table.find_entry(hash, |&found| found == index) {
            found.remove();
        }
        self.free.push(index);
    }

    /// Adds a session to a user who is known; returns the one that is too many.
    pub(super) fn join(
        &mut self,
        index: u32,
        live: Live,
        sessions_max: usize,
    ) -> Option<SessionId> {
        let entry = self.entry_mut(index)?;
        if entry.state == State::Departed {
            entry.set_first(live);
            entry.state = State::Back;
            entry.stamp_s = 0;
            self.users += 1;
            return None;
        }
        let oldest = entry.first().session;
        let further = self.further.entry(index).or_default();
        further.push(live);
        if further.len() < sessions_max {
            return None;
        }
        self.next_becomes_first(index);
        *self.replaced.entry(index).or_default() += 1;
        Some(oldest)
    }

    /// Entries that there are, free ones included.
    pub(super) fn slots(&self) -> u32 {
        self.len
    }

    /// The sessions of a user.
    pub(super) fn sessions(&self, index: u32) -> impl Iterator<Item = SessionId> {
        let online = self.entry(index).filter(|entry| entry.is_online());
        let further = self.further.get(&index).into_iter().flatten();
        let further = further.filter(move |_| online.is_some());
        let first = online.map(|entry| entry.first().session);
        first.into_iter().chain(further.map(|live| live.session))
    }

    pub(super) fn leave(&mut self, index: u32, session: SessionId) {
        let Some(entry) = self.entry_mut(index) else {
            return;
        };
        if entry.is_online() && entry.first().session == session {
            if !self.next_becomes_first(index) {
                self.depart(index);
            }
        } else if !self.remove_further(index, session) {
            self.replaced_has_ended(index);
        }
    }

    fn depart(&mut self, index: u32) {
        let Some(entry) = self.entry_mut(index) else {
            return;
        };
        let is_listed = entry.state == State::Back;
        entry.state = State::Departed;
        self.users -= 1;
        if !is_listed {
            self.departed.push_back(index);
        }
    }

    /// False if there is no further session.
    fn next_becomes_first(&mut self, index: u32) -> bool {
        let Occupied(mut further) = self.further.entry(index) else {
            return false;
        };
        let next = further.get_mut().remove(0);
        if further.get().is_empty() {
            further.remove();
        }
        if let Some(entry) = self.entry_mut(index) {
            entry.set_first(next);
        }
        true
    }

    /// False if `session` is none of the further ones.
    fn remove_further(&mut self, index: u32, session: SessionId) -> bool {
        let Occupied(mut further) = self.further.entry(index) else {
            return false;
        };
        let count = further.get().len();
        further.get_mut().retain(|live| live.session != session);
        let is_removed = further.get().len() < count;
        if further.get().is_empty() {
            further.remove();
        }
        is_removed
    }

    fn replaced_has_ended(&mut self, index: u32) {
        if let Some(count) = self.replaced.get_mut(&index) {
            *count -= 1;
            if *count == 0 {
                self.replaced.remove(&index);
            }
        }
    }
}

impl Entry {
    pub(super) fn is_online(&self) -> bool {
        matches!(self.state, State::Online | State::Back)
    }

    pub(super) fn first(&self) -> Live {
        Live {
            connected_at_ms: self.connected_at_ms,
            session: SessionId {
                worker: self.worker,
                key: self.key,
            },
        }
    }

    fn set_first(&mut self, live: Live) {
        self.connected_at_ms = live.connected_at_ms;
        self.worker = live.session.worker;
        self.key = live.session.key;
    }
}

/// As [`shard_of`](super::shard_of): bits that hashbrown does not use inside a table.
fn table_of(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fill_one_chunk_after_another() {
        let (mut chunk, mut next, mut size) = (0, 0, CHUNK);
        for index in 0..1_000_000 {
            if next == size {
                (chunk, next) = (chunk + 1, 0);
                size = locate(index).2;
                assert!(size == CHUNK || size * 16 <= index as usize);
            }
            assert_eq!(locate(index), (chunk, next, size));
            next += 1;
        }
        assert_eq!(size, 32_768);
    }
}
