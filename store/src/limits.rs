//! Every bound of the store that is not a setting, each with its unit in its name and its reason beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// Length of the kernel's queue of connections not yet accepted, for each listener.
pub const BACKLOG: i32 = 4096;

/// Connections to a store at once, unless set otherwise: memcached's default.
pub const CONNECTIONS_MAX: u32 = 1024;

/// Memory of one shard of a store, in bytes, at least: the largest values, of 1 MiB, must fit several
/// times, or a shard would be full of very few.
pub const SHARD_BYTES_MIN: usize = 8 * 1024 * 1024;

/// Shards of a store for each of its threads: two threads seldom want the same. More would be locked
/// more often by a request for many keys, which locks each shard once to look ahead.
pub const SHARDS_PER_THREAD: usize = 4;

/// The store is looked through for what has expired once in this time, in small steps.
pub(crate) const CRAWL_INTERVAL: Duration = Duration::from_secs(60);

/// Places looked at under one lock: some 20 µs.
pub(crate) const CRAWL_PLACES: u32 = 512;

/// How often each listener's thread looks for what has expired; see `Store::step`.
pub(crate) const STEP_INTERVAL: Duration = Duration::from_millis(100);

/// First and longest pause in accepting after an error such as "too many open files"; it doubles in
/// between. Trying again at once would spin: the connection stays in the queue.
pub(crate) const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// See [`ACCEPT_PAUSE_MIN`].
pub(crate) const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
