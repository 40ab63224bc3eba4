//! What is stored: items by key in order of use, within a memory limit, each with an expiry.
//!
//! Nothing here looks at a clock or takes long. An item that has expired is dropped when it is asked
//! for, when it has come to the end of the order of use, and by [`Items::step`] there; no call
//! looks at more items than it was told to, but for as many as a new value needs evicted.
//! `flush_all` costs nothing at the time: it marks everything stored so far as dead.

use std::fmt;

use lru::LruCache;
use presenced_protocol::Key;

use super::record::{Meta, Now, Record, deadline_s};

/// Items looked at on the way of each `set`, at the end of the order of use. Two, so that what
/// expires is dropped faster than new items come.
const STEP_ITEMS_PER_SET: usize = 2;

/// Everything stored.
pub(super) struct Items {
    /// From the most to the least recently used.
    entries: LruCache<Record, Meta>,
    bytes: usize,
    bytes_max: usize,
    /// The CAS number that was given out last: each store takes the next.
    last_cas: u64,
    /// What has a CAS number up to here is dead: a `flush_all` came after it.
    flushed_cas: u64,
    /// A `flush_all` with a delay: what is stored up to and in this second dies in it.
    flush_through: Option<u32>,
    tally: Tally,
}

/// A value that was found.
pub(super) struct Found<'a> {
    pub(super) value: &'a [u8],
    pub(super) flags: u32,
    pub(super) cas: u64,
}

/// The value is more than an item may have; see [`Items::set`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// What was done, counted as memcached's `stats` does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) get_hits: u64,
    pub(super) get_misses: u64,
    /// Misses because it had expired.
    pub(super) get_expired: u64,
    /// Misses because of a `flush_all`.
    pub(super) get_flushed: u64,
    pub(super) sets: u64,
    pub(super) touch_hits: u64,
    pub(super) touch_misses: u64,
    pub(super) delete_hits: u64,
    pub(super) delete_misses: u64,
    pub(super) flushes: u64,
    pub(super) too_large: u64,
    pub(super) evictions: u64,
    /// Dead items dropped.
    pub(super) reclaimed: u64,
}

impl Items {
    pub(super) fn new(bytes_max: usize) -> Items {
        Items {
            entries: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
            last_cas: 0,
            flushed_cas: 0,
            flush_through: None,
            tally: Tally::default(),
        }
    }

    /// Looks a key up and gives what was found to `found`.
    pub(super) fn get<R>(
        &mut self,
        key: Key<'_>,
        now: Now,
        found: impl FnOnce(Found<'_>) -> R,
    ) -> Option<R> {
        self.settle_flush(now);
        let Some((record, meta)) = self.entries.get_key_value(key.as_bytes()) else {
            self.tally.get_misses += 1;
            return None;
        };
        if meta.is_live(self.flushed_cas, now) {
            self.tally.get_hits += 1;
            return Some(found(Found {
                value: record.value(),
                flags: meta.flags,
                cas: meta.cas,
            }));
        }
        self.tally.get_misses += 1;
        if meta.cas <= self.flushed_cas {
            self.tally.get_flushed += 1;
        } else {
            self.tally.get_expired += 1;
        }
        self.drop_dead(key);
        None
    }

    /// Stores a value, in place of the key's last.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if memcached would say so, or the value is over the memory limit. The key's last
    /// value is gone then as well: none is better than a stale one.
    pub(super) fn set(
        &mut self,
        key: Key<'_>,
        flags: u32,
        exptime: i64,
        value: &[u8],
        now: Now,
    ) -> Result<(), TooLarge> {
        self.settle_flush(now);
        self.remove(key);
        let record = Record::new(key, value);
        if record.is_too_large(flags) || record.cost() > self.bytes_max {
            self.tally.too_large += 1;
            return Err(TooLarge);
        }
        self.tally.sets += 1;
        self.last_cas += 1;
        let meta = Meta {
            cas: self.last_cas,
            flags,
            deadline_s: deadline_s(exptime, now),
        };
        if !meta.is_live(self.flushed_cas, now) {
            return Ok(());
        }
        self.drop_dead_from_end(STEP_ITEMS_PER_SET, now);
        self.evict(record.cost());
        self.bytes += record.cost();
        self.entries.put(record, meta);
        Ok(())
    }

    /// Does what comes with a value that was refused for its size before it came here.
    pub(super) fn refuse_too_large(&mut self, key: Key<'_>) {
        self.remove(key);
        self.tally.too_large += 1;
    }

    /// Gives an item another expiry; whether there was one.
    pub(super) fn touch(&mut self, key: Key<'_>, exptime: i64, now: Now) -> bool {
        self.settle_flush(now);
        let flushed_cas = self.flushed_cas;
        match self.entries.get_mut(key.as_bytes()) {
            Some(meta) if meta.is_live(flushed_cas, now) => {
                meta.deadline_s = deadline_s(exptime, now);
                self.tally.touch_hits += 1;
                return true;
            }
            Some(_) => self.drop_dead(key),
            None => {}
        }
        self.tally.touch_misses += 1;
        false
    }

    /// Removes an item; whether there was one.
    pub(super) fn delete(&mut self, key: Key<'_>, now: Now) -> bool {
        self.settle_flush(now);
        let live = match self.remove(key) {
            Some(meta) if meta.is_live(self.flushed_cas, now) => true,
            Some(_) => {
                self.tally.reclaimed += 1;
                false
            }
            None => false,
        };
        if live {
            self.tally.delete_hits += 1;
        } else {
            self.tally.delete_misses += 1;
        }
        live
    }

    /// Lets everything that is stored die, now or later; takes the place of a `flush_all` that is
    /// still to come.
    ///
    /// With a delay of n seconds memcached takes effect in the second before the n-th from now,
    /// and what is stored in that second is lost too; so a delay of 1 is at once. So it is here.
    pub(super) fn flush_all(&mut self, delay: Option<u32>, now: Now) {
        self.settle_flush(now);
        self.tally.flushes += 1;
        self.flush_through = None;
        let due_s = delay.map_or(now.uptime_s, |delay| deadline_s(i64::from(delay), now));
        if due_s > now.uptime_s {
            self.flush_through = Some(due_s - 1);
        } else {
            self.flushed_cas = self.last_cas;
        }
    }

    /// Drops up to `items_max` dead items from the end of the order of use, and stops at the first
    /// that is alive.
    pub(super) fn step(&mut self, items_max: usize, now: Now) {
        self.settle_flush(now);
        self.drop_dead_from_end(items_max, now);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Carries out a `flush_all` whose time has come. Every operation begins with it, so all that is
    /// here was stored before.
    fn settle_flush(&mut self, now: Now) {
        let Some(through_s) = self.flush_through else {
            return;
        };
        if now.uptime_s < through_s {
            return;
        }
        self.flushed_cas = self.last_cas;
        if now.uptime_s > through_s {
            self.flush_through = None;
        }
    }

    fn remove(&mut self, key: Key<'_>) -> Option<Meta> {
        let (record, meta) = self.entries.pop_entry(key.as_bytes())?;
        self.bytes -= record.cost();
        Some(meta)
    }

    fn drop_dead(&mut self, key: Key<'_>) {
        if self.remove(key).is_some() {
            self.tally.reclaimed += 1;
        }
    }

    fn drop_dead_from_end(&mut self, items_max: usize, now: Now) {
        for _ in 0..items_max {
            match self.entries.peek_lru() {
                Some((_, meta)) if !meta.is_live(self.flushed_cas, now) => {}
                _ => return,
            }
            self.drop_last();
            self.tally.reclaimed += 1;
        }
    }

    /// Makes room for `bytes`.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.bytes_max && !self.entries.is_empty() {
            self.drop_last();
            self.tally.evictions += 1;
        }
    }

    fn drop_last(&mut self) {
        if let Some((record, _)) = self.entries.pop_lru() {
            self.bytes -= record.cost();
        }
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("items", &self.entries.len())
            .field("bytes", &self.bytes)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}
