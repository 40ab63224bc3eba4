//! What the flush counts.

use presenced_session::metrics::{Counter, Histogram, Shares};

/// What the flush counts.
#[derive(Debug, Default)]
pub struct FlushMetrics {
    /// Entries that memcached has acknowledged.
    pub flushed: Counter,
    /// Entries not acknowledged and pending again.
    pub restored: Counter,
    /// From the drain of a shard to its last answer.
    pub seconds: Histogram,
    /// What was left of an entry's TTL when it was renewed.
    pub ttl_left: Shares,
    /// Users written again because a node had lost its data.
    pub refilled: Counter,
}
