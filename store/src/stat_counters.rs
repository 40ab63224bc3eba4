//! What a shard counts: the names and meanings of memcached's `stats` (`protocol.txt`,
//! *General-purpose statistics*).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// `get_hits`
    GetHit,
    /// `get_misses`
    GetMiss,
    /// `get_expired`: look-ups that came upon an item whose time was over.
    GetExpired,
    /// `get_flushed`: the same of a `flush_all`.
    GetFlushed,
    /// `cmd_set`: storage commands, whatever came of them.
    Set,
    /// `cmd_meta`
    Meta,
    /// `delete_hits`
    DeleteHit,
    /// `delete_misses`
    DeleteMiss,
    /// `incr_hits`
    IncrHit,
    /// `incr_misses`
    IncrMiss,
    /// `decr_hits`
    DecrHit,
    /// `decr_misses`
    DecrMiss,
    /// `cas_hits`
    CasHit,
    /// `cas_badval`
    CasBad,
    /// `cas_misses`
    CasMiss,
    /// `touch_hits`
    TouchHit,
    /// `touch_misses`
    TouchMiss,
    /// `store_too_large`
    TooLarge,
    /// `store_no_memory`
    OutOfMemory,
    /// `total_items`: items stored.
    Stored,
    /// `evictions`: items that went for want of memory.
    Evicted,
    /// `evicted_unfetched`: those of them that nobody had asked for.
    EvictedUnfetched,
    /// `evicted_nonzero`: those of them that would have expired.
    EvictedNonzero,
    /// Dead items dropped, however they were come upon.
    Expired,
    /// `reclaimed`: those of them that no look-up came upon. In memcached they go at the end of its
    /// LRUs, mostly by a thread of its own, which here the crawl stands for. What memcached calls
    /// its crawler is another one, which the store has not.
    Reclaimed,
    /// `expired_unfetched`: those of the reclaimed that nobody had asked for.
    ExpiredUnfetched,
}

const COUNTS: usize = Count::ExpiredUnfetched as usize + 1;

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StatCounters([u64; COUNTS]);

impl StatCounters {
    #[inline]
    pub(super) fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    pub(super) fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Adds what another shard has counted.
    pub(super) fn merge(&mut self, other: &StatCounters) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}

/// Connections are counted apart from the items: they come and go without a lock.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) open: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    /// `conn_yields`: turns after which a connection had more to do, and let others go first.
    pub(super) yields: AtomicU64,
    /// `idle_kicks`: connections closed for the idle timeout.
    pub(super) idle_kicks: AtomicU64,
    /// `response_obj_oom`: connections closed for want of memory for answers that they do not read.
    pub(super) unread: AtomicU64,
    /// `read_buf_oom`: connections closed for want of memory for a line that has begun.
    pub(super) unended: AtomicU64,
}

impl Connections {
    pub(super) fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn written(&self, bytes: usize) {
        self.bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
