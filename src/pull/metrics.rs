//! What pulls count.

use presenced_session::metrics::{Counter, Histogram};

/// What pulls count.
#[derive(Debug, Default)]
pub struct PullMetrics {
    /// Pulls asked.
    pub pulls: Counter,
    /// Users asked for.
    pub users: Counter,
    /// Users answered `unknown`.
    pub unknown: Counter,
    /// Entries in memcached that are none of ours.
    pub foreign: Counter,
    /// From the question to its answer.
    pub seconds: Histogram,
}
