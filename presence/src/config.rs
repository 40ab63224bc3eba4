//! What an operator may set of presence.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::{FLUSH_INTERVAL, REFILL_RATE, SESSIONS_PER_USER_MAX, TTL_S};
use crate::record::Record;
use crate::users::Hasher;

/// How users are kept and written.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys and values.
    pub record: Record,
    /// Lifetime of an entry, seconds: as the cluster's marker has it.
    pub ttl_s: u32,
    /// Time in which everyone heard from is written once: as the cluster's marker has it.
    pub flush_interval: Duration,
    /// Sessions of one user here; one more replaces the oldest.
    pub sessions_per_user_max: usize,
    /// Users a second that are written again when a node has lost its data.
    pub refill_rate: u32,
    /// How users are spread over shards: at random, so that nobody outside can foresee it. Only a
    /// simulation has a fixed one.
    pub hasher: Hasher,
}

impl Config {
    /// The usual settings, with keys and values as `record` has them.
    pub fn new(record: Record) -> Config {
        Config {
            record,
            ttl_s: TTL_S,
            flush_interval: FLUSH_INTERVAL,
            sessions_per_user_max: SESSIONS_PER_USER_MAX.into(),
            refill_rate: REFILL_RATE,
            hasher: Hasher::random(),
        }
    }
}
