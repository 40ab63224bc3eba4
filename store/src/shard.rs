//! What one shard of the store holds: items by key in order of use, within a memory limit, each
//! with an expiry.
//!
//! Nothing here looks at a clock or takes long. An item that has expired is dropped when it is
//! asked for, when it has come to the end of the order of use, and when [`Shard::crawl`] comes by;
//! no call looks at more items than it was told to, but for as many as a new value needs evicted.
//! `flush_all` costs nothing at the time: it marks everything stored so far as dead.
//!
//! The order of use is a list of numbers. Using an item does not move it, which would touch the
//! memory of four others: it is marked, and when it comes to the end it is put to the front once
//! more instead of being evicted.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::hash::BuildHasher;
use std::hint::black_box;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::clock::Now;
use super::evicted::{Evicted, EvictedIdle};
use super::flush_all::FlushAll;
use super::hash::{Hash, Hashed, Place};
use super::item::{self, ITEM_OVERHEAD_BYTES, Item, Marks, NEVER, NewItem};
use super::no_room::NoRoom;
use super::slab::{NONE, Slab};
use super::stat_counters::{Count, StatCounters};
use crate::limits::{DEAD_PER_INSERT, HELD_PARTS, PREFETCHED_MAX, SECOND_CHANCES};

/// The index of a shard, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardIndex {
    pub(super) number: u32,
    pub(super) of: u32,
}

/// The items of a shard.
pub(super) struct Shard {
    table: HashTable<Place>,
    slab: Slab,
    hasher: DefaultHashBuilder,
    bytes: usize,
    bytes_max: usize,
    /// What connections keep to themselves, of the same memory: see [`Hold`](super::hold::Hold).
    held_bytes: usize,
    /// The CAS number that was given out last. Shards take turns, so that none is there twice.
    last_cas: u64,
    cas_step: u64,
    flush: FlushAll,
    /// Where the crawl goes on.
    crawl_at: u32,
    evicted: Evicted,
    pub(super) counters: StatCounters,
}

impl Shard {
    /// None yet. Keys come with their hash by `hasher`.
    pub(super) fn new(bytes_max: usize, which: ShardIndex, hasher: DefaultHashBuilder) -> Shard {
        Shard {
            table: HashTable::new(),
            slab: Slab::new(),
            hasher,
            bytes: 0,
            bytes_max,
            held_bytes: 0,
            last_cas: which.number.into(),
            cas_step: which.of.into(),
            flush: FlushAll::default(),
            crawl_at: 0,
            evicted: Evicted::default(),
            counters: StatCounters::default(),
        }
    }

    /// The number of the live item with this key. A dead one is dropped.
    #[inline]
    pub(super) fn find(&mut self, key: Hashed<'_>, now: Now) -> Option<u32> {
        self.flush.settle(self.last_cas, now);
        let slab = &self.slab;
        let number = self.place(key.hash, |number| slab.at(number).key() == key.key)?;
        let item = self.slab.at(number);
        if item.is_live(self.flush.cas(), now) {
            return Some(number);
        }
        self.counters.add(if item.cas <= self.flush.cas() {
            Count::GetFlushed
        } else {
            Count::GetExpired
        });
        self.counters.add(Count::Expired);
        self.remove(number);
        None
    }

    /// Looks keys up without doing anything, so that what is needed of them is in the processor's
    /// cache when they are asked for.
    ///
    /// Each look-up waits for memory four times, one after another: for the table twice, the item,
    /// its key. Step by step for all keys, the processor waits for many of them together.
    pub(super) fn prefetch(&self, keys: &[Hashed<'_>]) {
        let mut numbers = [NONE; PREFETCHED_MAX];
        for (number, key) in numbers.iter_mut().zip(keys) {
            *number = self.place(key.hash, |_| true).unwrap_or(NONE);
        }
        let found = || numbers.iter().filter(|&&number| number != NONE);
        let bytes: usize = found()
            .map(|&number| self.slab.at(number).key_bytes())
            .sum();
        let firsts = found().map(|&number| self.slab.at(number).key()[0]);
        let firsts: usize = firsts.map(usize::from).sum();
        // Nobody wants to know: it is for having looked.
        black_box(bytes + firsts);
    }

    /// The number of the item with this hash that `is` the one.
    #[inline]
    fn place(&self, hash: Hash, is: impl Fn(u32) -> bool) -> Option<u32> {
        let is = |place: &Place| place.hash == hash && is(place.number);
        Some(self.table.find(hash.spread(), is)?.number)
    }

    #[inline]
    pub(super) fn at(&self, number: u32) -> &Item {
        self.slab.at(number)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, number: u32) -> &mut Item {
        self.slab.at_mut(number)
    }

    /// Stores under a key, in place of `old`, which [`Shard::find`] has found for it, and gives the
    /// item's number.
    ///
    /// # Errors
    ///
    /// [`NoRoom::TooLarge`] if memcached would say so, or it is over the memory limit by itself;
    /// [`NoRoom::OutOfMemory`] if it is so with what connections hold. `old` is as it was then.
    pub(super) fn store(
        &mut self,
        key: Hashed<'_>,
        old: Option<u32>,
        new: NewItem<'_>,
        now: Now,
    ) -> Result<u32, NoRoom> {
        let bytes = key.key.len() + new.value[0].len() + new.value[1].len();
        let cost = item::cost(bytes);
        if item::is_too_large(bytes, new.flags) || cost > self.bytes_max {
            return Err(NoRoom::TooLarge);
        }
        let old_cost = old.map_or(0, |number| self.slab.at(number).cost());
        self.bytes -= old_cost;
        if !self.make_room(cost, old, now) {
            self.bytes += old_cost;
            return Err(NoRoom::OutOfMemory);
        }
        self.bytes += cost;
        let number = old.unwrap_or_else(|| self.slab.take());
        let cas = self.next_cas();
        let item = self.slab.at_mut(number);
        item.write(key.key, new.value);
        item.cas = cas;
        item.flags = new.flags;
        item.deadline_s = new.deadline_s;
        item.used_s = now.uptime_s;
        item.marks = new.marks;
        if old.is_some() {
            item.marks.add(Marks::USED);
        } else {
            self.slab.link(number);
            self.enter(key.hash, number);
        }
        self.counters.add(Count::Stored);
        Ok(number)
    }

    /// Writes a number into an item in place of its value. Returns whether that is the same item
    /// still: a number with more digits takes a new one, as it does in memcached, which is not
    /// marked any more.
    pub(super) fn write_number(
        &mut self,
        key: Hashed<'_>,
        number: u32,
        digits: &[u8],
        now: Now,
    ) -> Result<bool, NoRoom> {
        let item = self.slab.at_mut(number);
        if digits.len() <= item.value().len() {
            item.overwrite(digits);
            item.bump(now);
            self.renew_cas(number);
            return Ok(true);
        }
        let new = NewItem {
            value: [digits, b""],
            flags: item.flags,
            deadline_s: item.deadline_s,
            marks: Marks::default(),
        };
        self.store(key, Some(number), new, now)?;
        Ok(false)
    }

    /// Gives an item a new CAS number.
    pub(super) fn renew_cas(&mut self, number: u32) {
        let cas = self.next_cas();
        self.slab.at_mut(number).cas = cas;
    }

    pub(super) fn remove(&mut self, number: u32) {
        let item = self.slab.at(number);
        let cost = item.cost();
        let hash = Hash::new(self.hasher.hash_one(item.key()));
        let entry = self
            .table
            .find_entry(hash.spread(), |place| place.number == number);
        if let Ok(entry) = entry {
            entry.remove();
        }
        self.slab.unlink(number);
        self.slab.give_back(number);
        self.bytes -= cost;
    }

    /// Sets bytes aside for a connection, evicting for them as for an item. Returns whether it has.
    pub(super) fn hold(&mut self, bytes: usize, now: Now) -> bool {
        let within = self.held_bytes + bytes <= self.bytes_max / HELD_PARTS;
        let room = within && self.make_room(bytes, None, now);
        self.held_bytes += if room { bytes } else { 0 };
        room
    }

    /// Gives back what [`Shard::hold`] has set aside.
    pub(super) fn release(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
    }

    /// See [`FlushAll::order`].
    pub(super) fn flush_all(&mut self, delay: Option<u32>, now: Now) {
        self.flush.order(delay, self.last_cas, now);
    }

    /// Looks at the next `places_max` places, drops what is dead there, gives places back that are
    /// not needed any more, and returns whether it has come to the end.
    pub(super) fn crawl(&mut self, places_max: u32, now: Now) -> bool {
        self.flush.settle(self.last_cas, now);
        self.shrink(now);
        let end = self.slab.places();
        for _ in 0..places_max {
            if self.crawl_at >= end {
                self.crawl_at = 0;
                return true;
            }
            let number = self.crawl_at;
            self.crawl_at += 1;
            self.look_at(number, now);
        }
        false
    }

    /// Drops what is at a place, if it is dead.
    fn look_at(&mut self, number: u32, now: Now) {
        let item = self.slab.at(number);
        if !item.is_vacant() && !item.is_live(self.flush.cas(), now) {
            self.reclaim(number);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Places that [`Shard::crawl`] has to look at.
    pub(super) fn places(&self) -> u32 {
        self.slab.places()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// When the item was last used that is to go next.
    pub(super) fn oldest_used_s(&self) -> Option<u32> {
        (self.slab.oldest() != NONE).then(|| self.slab.at(self.slab.oldest()).used_s)
    }

    /// The shortest time that an evicted item had not been used, by window.
    pub(super) fn evicted(&self) -> impl Iterator<Item = EvictedIdle> {
        self.evicted.iter()
    }

    /// Gives back a chunk of places, if a quarter of them is free, and of the hash table what is
    /// too much.
    fn shrink(&mut self, now: Now) {
        if self.slab.spare() * 4 <= self.slab.places() as usize {
            return;
        }
        // What is dead would be moved to where the crawl has been, and stay for another round.
        for number in self.slab.last_chunk() {
            self.look_at(number, now);
        }
        let (table, hasher) = (&mut self.table, &self.hasher);
        self.slab.shrink(|item, from, to| {
            let hash = Hash::new(hasher.hash_one(item.key()));
            if let Some(place) = table.find_mut(hash.spread(), |place| place.number == from) {
                place.number = to;
            }
        });
        if table.capacity() > 4 * table.len() {
            table.shrink_to(2 * table.len(), |place| place.hash.spread());
        }
    }

    fn next_cas(&mut self) -> u64 {
        self.last_cas += self.cas_step;
        self.last_cas
    }

    /// Drops a dead item that no look-up came upon.
    fn reclaim(&mut self, number: u32) {
        self.counters.add(Count::Expired);
        self.counters.add(Count::Reclaimed);
        if !self.slab.at(number).marks.has(Marks::FETCHED) {
            self.counters.add(Count::ExpiredUnfetched);
        }
        self.remove(number);
    }

    /// Makes room for a number of bytes, and leaves `kept` alone. Returns whether there is.
    fn make_room(&mut self, bytes: usize, kept: Option<u32>, now: Now) -> bool {
        if self.held_bytes + self.left_bytes() + bytes > self.bytes_max {
            return false;
        }
        let mut dead = DEAD_PER_INSERT;
        let mut chances = SECOND_CHANCES;
        loop {
            let number = self.slab.oldest();
            let taken = self.bytes + self.held_bytes + self.left_bytes();
            let full = taken + bytes > self.bytes_max;
            if number == NONE || (full && self.slab.len() == usize::from(kept.is_some())) {
                return !full;
            }
            if Some(number) != kept && !self.slab.at(number).is_live(self.flush.cas(), now) {
                if !full && dead == 0 {
                    return true;
                }
                dead = dead.saturating_sub(1);
                self.reclaim(number);
            } else if !full {
                return true;
            } else if Some(number) == kept {
                self.move_to_front(number);
            } else if self.slab.at(number).marks.has(Marks::USED) && chances > 0 {
                chances -= 1;
                self.move_to_front(number);
            } else {
                self.evict(number, now);
            }
        }
    }

    /// What many small items have left behind: it is memory too, until it is given back.
    fn left_bytes(&self) -> usize {
        self.slab.spare() * ITEM_OVERHEAD_BYTES
    }

    fn evict(&mut self, number: u32, now: Now) {
        let item = self.slab.at(number);
        self.evicted.note(item.used_s, now);
        self.counters.add(Count::Evicted);
        if !item.marks.has(Marks::FETCHED) {
            self.counters.add(Count::EvictedUnfetched);
        }
        if item.deadline_s != NEVER {
            self.counters.add(Count::EvictedNonzero);
        }
        self.remove(number);
    }

    fn enter(&mut self, hash: Hash, number: u32) {
        let place = Place { hash, number };
        let rehash = |place: &Place| place.hash.spread();
        self.table.insert_unique(hash.spread(), place, rehash);
    }

    fn move_to_front(&mut self, number: u32) {
        self.slab.unlink(number);
        self.slab.at_mut(number).marks.remove(Marks::USED);
        self.slab.link(number);
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("items", &self.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
