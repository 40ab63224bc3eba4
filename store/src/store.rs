//! [`Store`]: the shards, and what is counted of all of them.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

use super::clock::{Clock, Now};
use super::hash::{Hash, Hashed};
use super::item;
use super::shard::{Shard, ShardIndex};
use super::stat_counters::{Connections, Count, StatCounters};
use crate::limits::{
    CONNECTIONS_MAX, CRAWL_INTERVAL, CRAWL_PLACES, PREFETCHED_MAX, SHARD_BYTES_MIN,
    SHARDS_PER_THREAD, STEP_INTERVAL,
};

/// What is stored, for all connections of one server.
///
/// Behind an [`Arc`](std::sync::Arc): [`serve`](crate::serve) takes one, and whoever exports
/// metrics another.
#[derive(Debug)]
pub struct Store {
    pub(super) shards: Box<[LockedShard]>,
    hasher: DefaultHashBuilder,
    pub(super) clock: Clock,
    options: Options,
    pub(super) connections: Connections,
    /// The shard that is looked through now.
    crawled: AtomicUsize,
    /// The shard that the next connection holds memory of.
    holding: AtomicUsize,
    pub(super) flushes: AtomicU64,
}

/// On cache lines of its own: workers use different shards at the same time.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct LockedShard(Mutex<Shard>);

/// What a [`Store`] may take.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of items and of what connections hold, counted as [`Counters::bytes`] and
    /// [`Counters::held_bytes`] say. What comes on top is bounded by
    /// [`CONNECTION_BYTES_MAX`](crate::limits::CONNECTION_BYTES_MAX) and
    /// [`THREAD_BYTES_MAX`](crate::limits::THREAD_BYTES_MAX).
    pub memory_bytes_max: usize,
    /// Connections at once.
    pub connections_max: u32,
    /// How long a connection may do nothing, if there is a limit.
    pub idle_timeout: Option<Duration>,
    /// Threads that serve it, each with a listener.
    pub threads: usize,
}

/// What a [`Store`] has done since it began, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Items held, those included that have expired but were not yet come upon.
    pub items: u64,
    /// Bytes these take: key and value, what the allocator rounds these up to, and
    /// [`ITEM_OVERHEAD_BYTES`](crate::ITEM_OVERHEAD_BYTES) each.
    pub bytes: u64,
    /// Bytes that connections hold: requests that have begun and not ended, and answers that nobody
    /// reads, where they are over [`LEFT_BYTES_MAX`](crate::limits::LEFT_BYTES_MAX).
    pub held_bytes: u64,
    /// The limit on [`Counters::bytes`] and [`Counters::held_bytes`] together.
    pub bytes_max: u64,
    /// Items that went because the limit was reached.
    pub evictions: u64,
    /// Items that went because their time, or a `flush_all`, had come.
    pub expired: u64,
    /// Keys asked for that were there.
    pub hits: u64,
    /// Keys asked for that were not.
    pub misses: u64,
    /// Storage commands.
    pub sets: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections that ever were.
    pub connections_total: u64,
    /// Connections closed at once because there were too many.
    pub connections_rejected: u64,
}

impl Options {
    /// So much memory, and the defaults for everything else.
    #[must_use]
    pub fn new(memory_bytes_max: usize) -> Options {
        Options {
            memory_bytes_max,
            connections_max: CONNECTIONS_MAX,
            idle_timeout: None,
            threads: 1,
        }
    }
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(options: Options) -> Store {
        Store::with_clock(options, Clock::start())
    }

    /// An empty store whose wall clock shows `unix_time` now and follows tokio's clock. Items
    /// expire in whole seconds of it, so a simulation repeats itself to the millisecond.
    #[must_use]
    pub fn simulated(options: Options, unix_time: Duration) -> Store {
        Store::with_clock(options, Clock::simulated(unix_time))
    }

    fn with_clock(options: Options, clock: Clock) -> Store {
        let hasher = DefaultHashBuilder::default();
        let of = shards(&options);
        let bytes_max = options.memory_bytes_max / of as usize;
        let shard = |number| {
            let which = ShardIndex { number, of };
            LockedShard(Mutex::new(Shard::new(bytes_max, which, hasher.clone())))
        };
        Store {
            shards: (0..of).map(shard).collect(),
            hasher,
            clock,
            options,
            connections: Connections::default(),
            crawled: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            flushes: AtomicU64::new(0),
        }
    }

    /// What has happened so far, for metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let sum = self.sum();
        let count = |count| sum.counters.of(count);
        Counters {
            items: sum.items,
            bytes: sum.bytes,
            held_bytes: sum.held_bytes,
            bytes_max: self.options.memory_bytes_max as u64,
            evictions: count(Count::Evicted),
            expired: count(Count::Expired),
            hits: count(Count::GetHit) + count(Count::TouchHit),
            misses: count(Count::GetMiss) + count(Count::TouchMiss),
            sets: count(Count::Set),
            connections: self.connections.open.load(Ordering::Relaxed),
            connections_total: self.connections.total.load(Ordering::Relaxed),
            connections_rejected: self.connections.rejected.load(Ordering::Relaxed),
        }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The memory of a shard.
    pub(super) fn shard_bytes_max(&self) -> usize {
        self.options.memory_bytes_max / self.shards.len()
    }

    /// The longest value that may fit.
    pub(super) fn value_bytes_max(&self) -> usize {
        item::data_bytes_max(self.shard_bytes_max()).saturating_sub(1)
    }

    /// The shard that a new connection holds memory of: they take turns.
    pub(super) fn next_holding_shard(&self) -> usize {
        self.holding.fetch_add(1, Ordering::Relaxed) % self.shards.len()
    }

    /// See [`Shard::hold`].
    pub(super) fn hold(&self, shard: usize, bytes: usize) -> bool {
        self.shards[shard].lock().hold(bytes, self.now())
    }

    /// See [`Shard::release`].
    pub(super) fn release(&self, shard: usize, bytes: usize) {
        self.shards[shard].lock().release(bytes);
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(super) fn traffic(&self) -> &Connections {
        &self.connections
    }

    /// The shard of a key, locked, and the key with its hash.
    #[inline]
    pub(super) fn shard<'k>(&self, key: &'k [u8]) -> (MutexGuard<'_, Shard>, Hashed<'k>) {
        let (number, hashed) = self.hashed(key);
        (self.shards[number].lock(), hashed)
    }

    /// The number of a key's shard, and the key with its hash.
    #[inline]
    fn hashed<'k>(&self, key: &'k [u8]) -> (usize, Hashed<'k>) {
        let hash = self.hasher.hash_one(key);
        // There is a power of two of shards.
        let number = hash as usize & (self.shards.len() - 1);
        let hash = Hash::new(hash);
        (number, Hashed { key, hash })
    }

    /// See [`Shard::prefetch`]: of the first [`PREFETCHED_MAX`] keys, under one lock a shard.
    pub(super) fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let mut all = [(0, Hashed::default()); PREFETCHED_MAX];
        let mut count = 0;
        for (place, key) in all.iter_mut().zip(keys) {
            *place = self.hashed(key);
            count += 1;
        }
        let all = &mut all[..count];
        all.sort_unstable_by_key(|(number, _)| *number);
        for of_shard in all.chunk_by(|(one, _), (other, _)| one == other) {
            let mut keys = [Hashed::default(); PREFETCHED_MAX];
            for (to, (_, key)) in keys.iter_mut().zip(of_shard) {
                *to = *key;
            }
            self.shards[of_shard[0].0]
                .lock()
                .prefetch(&keys[..of_shard.len()]);
        }
    }

    pub(super) fn flush_all(&self, delay: Option<u32>, now: Now) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        for shard in &self.shards {
            shard.lock().flush_all(delay, now);
        }
    }

    /// Looks at some places for what has expired: enough for all to be looked at in
    /// [`CRAWL_INTERVAL`], if each thread calls it each [`STEP_INTERVAL`].
    pub(super) fn step(&self) {
        let now = self.now();
        let steps = CRAWL_INTERVAL.as_millis() / STEP_INTERVAL.as_millis();
        let steps = steps as usize * self.options.threads;
        let mut places = 0;
        loop {
            let number = self.crawled.load(Ordering::Relaxed);
            let mut items = self.shards[number % self.shards.len()].lock();
            let ended = items.crawl(CRAWL_PLACES, now);
            // Shards are equal, nearly.
            let due = items.places() as usize * self.shards.len() / steps;
            drop(items);
            if ended {
                // Another thread may have gone on already.
                let next = number.wrapping_add(1);
                let _ = self.crawled.compare_exchange(
                    number,
                    next,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            places += CRAWL_PLACES as usize;
            if places >= due {
                return;
            }
        }
    }

    /// All shards together.
    pub(super) fn sum(&self) -> Sum {
        let (mut sum, mut evicted) = (Sum::default(), Vec::new());
        for shard in &self.shards {
            let items = shard.lock();
            sum.counters.merge(&items.counters);
            sum.items += items.len() as u64;
            sum.bytes += items.bytes() as u64;
            sum.held_bytes += items.held_bytes() as u64;
            evicted.extend(items.evicted());
            sum.oldest_used_s = sum
                .oldest_used_s
                .into_iter()
                .chain(items.oldest_used_s())
                .min();
        }
        let last = evicted.iter().map(|evicted| evicted.window).max();
        let recent = evicted
            .iter()
            .filter(|evicted| Some(evicted.window + 1) >= last);
        sum.evicted_idle_s = recent.map(|evicted| evicted.idle_s).min();
        sum
    }

    /// Counts from 0 again, but for what is there.
    pub(super) fn reset(&self) {
        for shard in &self.shards {
            shard.lock().counters = StatCounters::default();
        }
        self.flushes.store(0, Ordering::Relaxed);
        let Connections {
            open: _,
            total,
            rejected,
            bytes_read,
            bytes_written,
            yields,
            idle_kicks,
            unread,
            unended,
        } = &self.connections;
        let traffic = [total, rejected, bytes_read, bytes_written];
        let ends = [yields, idle_kicks, unread, unended];
        for count in traffic.into_iter().chain(ends) {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// What all shards have and did.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) counters: StatCounters,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) held_bytes: u64,
    pub(super) oldest_used_s: Option<u32>,
    /// The shortest time that an item had not been used which was evicted in the last two windows.
    pub(super) evicted_idle_s: Option<u32>,
}

impl LockedShard {
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Shard> {
        // No code under the lock panics; if it did, losing the whole shard would be worse than
        // one wrong item.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many shards there are: a power of two.
fn shards(options: &Options) -> u32 {
    let wanted = (options.threads * SHARDS_PER_THREAD).next_power_of_two();
    let most = (options.memory_bytes_max / SHARD_BYTES_MIN).max(1);
    1 << wanted.min(most).ilog2()
}
