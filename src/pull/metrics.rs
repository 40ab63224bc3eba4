//! What pulls count.

use presenced_session::metrics::{Counter, Histogram};

/// What pulls count.
#[derive(Debug, Default)]
pub struct PullMetrics {
    /// Pulls asked.
    pub pulls: Counter,
    /// Users asked for.
    pub users: Counter,
    /// Users without a session here of whom it was known from a look-up before.
    pub cache_hits: Counter,
    /// Those who were looked up.
    pub cache_misses: Counter,
    /// Users answered `unknown`.
    pub unknown: Counter,
    /// Entries in memcached that are none of ours.
    pub foreign: Counter,
    /// From the question to its answer.
    pub seconds: Histogram,
}
