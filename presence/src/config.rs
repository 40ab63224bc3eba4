//! What an operator may set of presence.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::limits::{REFILL_RATE, SESSIONS_PER_USER_MAX};
use crate::record::Record;
use crate::users::Hasher;

/// How users are kept and written. The lifetime of entries and the flush interval are those of the
/// cluster's marker ([`presenced_memcached::marker::Config`]), on which edges must agree.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys and values.
    pub record: Record,
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
            sessions_per_user_max: SESSIONS_PER_USER_MAX.into(),
            refill_rate: REFILL_RATE,
            hasher: Hasher::random(),
        }
    }
}
