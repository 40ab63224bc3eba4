//! Every bound of presence that is not a setting, each with its unit in its name and its reason
//! beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// How much of the headroom is left when an edge is late: time for a look of the probe, and for
/// what it then writes.
pub const LATE_BEFORE: Duration = Duration::from_secs(2);

/// How long the `set` of a user who has just connected may wait for its answer until the edge is
/// late.
pub const CONNECT_LATE_AFTER: Duration = Duration::from_millis(500);

/// Connects that wait are counted by when they came, in parts of this length, …
pub(crate) const WAITING_PART: Duration = Duration::from_millis(125);

/// … and in so many of them, which is 8 s. One that waits for longer is taken for one that has just
/// come, for half a second in 8.
pub(crate) const WAITING_PARTS: usize = 64;

/// How little of its TTL may be left to an entry that is written again until the edge is late:
/// memcached is exact to a second, and so are we.
pub(crate) const TTL_LEFT_LATE_S: u32 = 1;

/// For how long it is late then: until the next looks of the probe.
pub(crate) const TTL_LEFT_LATE_FOR: Duration = Duration::from_secs(2);

/// How long a shard of which something was not written waits until it is flushed again, beside its
/// turn: one connection that failed must not make the edge late.
pub(crate) const FLUSH_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Sessions of one user, unless set otherwise: tabs and devices of a person, and no more.
pub const SESSIONS_PER_USER_MAX: u16 = 32;

/// Users a second that are written again when a node has lost its data, unless set otherwise: a
/// quarter of what memcached takes on one core.
pub const REFILL_RATE: u32 = 100_000;

/// Parts that users and pending heartbeats are cut into. Enough that two workers seldom meet on a
/// lock or a cache line and that a flush is spread evenly over its interval (1.6 % each), few
/// enough that an idle server is small. From 16 to 256 neither heartbeats nor drains nor look-ups
/// changed measurably on two cores. A power of two: a slot carries its shard in its low bits.
pub const SHARDS: usize = 64;

/// Users that can be here at once. Descriptors and memory end before: they would take 16 GB, and
/// their sockets dozens of times that.
pub const SLOTS_MAX: u64 = 1 << 28;

/// Slots whose pending bits are allocated together, 8 KiB of them: a server with few users has them
/// too. Fewer would make the list of blocks longer, which an idle server has (64 KiB).
pub const PENDING_BLOCK_SLOTS: usize = 1 << 16;

/// Longest user id in bytes: with the key template it must fit memcached's 250-byte key.
pub const USER_ID_BYTES_MAX: usize = 200;

/// Users handled under one lock of their shard: some microseconds.
pub const RENDER_RUN: usize = 128;

/// Users that a refill hands over and waits for at once: some milliseconds of memcached, and a
/// smooth stream at the default rate.
pub const REFILL_RUN: u32 = 1024;

/// Users who have just connected and wait for one connection to memcached; others become pending.
pub(crate) const CONNECT_QUEUE: usize = 8192;

/// Batches of the flush that wait for one connection: a node writer has one of each shard at most.
pub(crate) const BATCH_QUEUE: usize = SHARDS;

/// Batches of the refill that wait for one connection, and barriers: there is one of each at a
/// time, but for a drain, which waits for its turn.
pub(crate) const REFILL_QUEUE: usize = 2;

/// Time between two warnings that the flush is behind.
pub const BEHIND_WARNING_PAUSE: Duration = Duration::from_secs(60);

/// How long replies are left to gather where much is in flight: reading in bulk is nearly free, and
/// memcached needs longer for half a window.
pub(crate) const REPLY_PAUSE: Duration = Duration::from_millis(1);

/// With fewer commands in flight replies are read as they come: those of users who have just
/// connected, and the last of a flush.
pub(crate) const GATHERED_MIN: usize = 256;

/// How long users who connect are left to gather after a write; one who connects later is written at once. When many connect, a
/// write and a wake for each would cost more than all else that is done for a session.
pub(crate) const CONNECT_GATHER_TIME: Duration = Duration::from_millis(1);

/// How long a connection must have held for its end, with nothing in flight, to be dialled again at
/// once: the shortest idle time-out that memcached can have is 1 s, and a node that hangs up at
/// once is not dialled without pause.
pub(crate) const IDLE_END_AFTER: Duration = Duration::from_secs(1);

/// How often a refill checks whether a node writer is connected.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Longest value that is read as a record, in bytes; ours are some 120.
pub const RECORD_BYTES_MAX: usize = 4096;

const _: () = assert!(SHARDS.is_power_of_two());
// Look-ups show what may be a record.
const _: () = assert!(RECORD_BYTES_MAX <= presenced_memcached::limits::VALUE_BYTES_MAX);
