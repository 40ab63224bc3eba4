//! Every bound of the store that is not a setting, each with its unit in its name and its reason
//! beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use presenced_protocol::limits::VALUE_BYTES_MAX;

/// Connections to a store at once, unless set otherwise: memcached's default.
pub const CONNECTIONS_MAX: u32 = 1024;

/// Memory of one shard of a store, in bytes, at least: the largest values, of 1 MiB, must fit
/// several times, or a shard would be full of very few.
pub const SHARD_BYTES_MIN: usize = 8 * 1024 * 1024;

/// Shards of a store for each of its threads: two threads seldom want the same. More would be
/// locked more often by a request for many keys, which locks each shard once to look ahead.
pub const SHARDS_PER_THREAD: usize = 4;

/// The store is looked through for what has expired once in this time, in small steps.
pub(crate) const CRAWL_INTERVAL: Duration = Duration::from_secs(60);

/// Places looked at under one lock: some 20 µs.
pub(crate) const CRAWL_PLACES: u32 = 512;

/// How often each listener's thread looks for what has expired; see `Store::step`.
pub(crate) const STEP_INTERVAL: Duration = Duration::from_millis(100);

/// Replies are written once there are this many bytes of them. With one value more this is all
/// that a connection holds for a slow reader, and it counts against the memory limit.
pub(crate) const WRITE_BYTES: usize = 64 * 1024;

/// Bytes asked for in one read: some hundred `set`s for one system call.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// What is left of a request of up to this length is put before the next read, which costs less
/// than the read itself, and so many unsent bytes are any connection's own. What is longer counts
/// against the memory limit, and is collected in a buffer that has its length from the beginning.
pub const LEFT_BYTES_MAX: usize = 8 * 1024;

/// The memory of a connection that does not count against the limit, in bytes: a request and unsent
/// answers of [`LEFT_BYTES_MAX`] each, as the allocator rounds them up, and the task with its
/// socket.
pub const CONNECTION_BYTES_MAX: usize = 2 * LEFT_BYTES_MAX + 4 * 1024;

/// The memory of a thread that does not count against the limit, in bytes: the buffers that its
/// connections share, an answer with the largest value in one, and the largest value once more in a
/// connection's buffer while it is stored.
pub const THREAD_BYTES_MAX: usize =
    LEFT_BYTES_MAX + READ_BYTES + WRITE_BYTES + 2 * VALUE_BYTES_MAX + LINE_BYTES_MAX;

/// What connections may hold of the memory of a shard: one part in so many. The rest is for items,
/// so that clients that begin and never end, or ask and never read, keep nobody else from storing.
pub const HELD_PARTS: usize = 2;

/// Greatest length of a line that is no `get`, its end included: memcached's read buffer. memcached
/// answers a line that is whole in it, and closes when there is no end after 2,048 bytes; which of
/// them it is depends on how the bytes came. Here any line of this length is answered.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Full buffers of answers that a connection sends before the others have their turn.
pub(crate) const WRITES_PER_TURN: usize = 4;

/// The shared buffer of answers is given back beyond this: it grew for a large value.
pub(crate) const KEPT_BYTES: usize = 256 * 1024;

/// The most that one request has to be told: each letter once, and what is told unasked.
pub(crate) const ANSWERS_MAX: usize = 24;

/// Dead items looked for at the end of the order of use by each new item. Two, so that what
/// expires there is dropped faster than new items come.
pub(crate) const DEAD_PER_INSERT: usize = 2;

/// Keys that [`Shard::prefetch`] takes at once.
pub(crate) const PREFETCHED_MAX: usize = 64;

/// How many used items at the end of the order of use one new item puts to the front before it
/// takes the next, whatever it is: bounds the time of one command when all are used.
pub(crate) const SECOND_CHANCES: usize = 16;

/// Up to this number of keys, there is no look ahead.
pub(crate) const FEW_KEYS: usize = 3;

/// Windows over which `evicted_time` of `stats items` is the shortest, in seconds: the last two.
/// memcached tells it of the last item alone, which is like those before it, because its LRU evicts
/// in order. CLOCK does not.
pub const EVICTED_WINDOW_S: u32 = 4;
