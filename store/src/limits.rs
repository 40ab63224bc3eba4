//! Every bound of the store that is not a setting, each with its unit in its name and its reason beside it.

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
