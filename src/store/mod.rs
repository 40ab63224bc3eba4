//! The embedded store: a server of memcached's text protocol, for one machine.
//!
//! Without `--memcached` the server starts one and reaches it through the same client as a real
//! memcached, over TCP; any other memcached client can connect too. It keeps what memcached
//! promises and clients can see: replies byte for byte, expiry to the second, a memory limit with
//! least-recently-used eviction. It persists nothing and knows nothing of sessions or users.
//!
//! # Layout
//!
//! * `record`: one item: its bytes, its expiry, what it costs. Pure: time is an argument.
//! * `items`: all that is stored, in order of use, within the memory limit. Pure.
//! * `execute`: a request on the items, its reply into a buffer. Pure.
//! * `stats`: the answer to `stats`. Pure.
//! * `connection`: one client, over any stream.
//! * `serve`: listener, connection limit, the small periodic step.
//!
//! # What a client sees differently from memcached 1.6.18
//!
//! Beside the differences that [`presenced_protocol`] lists:
//!
//! * Expiry times are not cut to 32 bits: a time after 2038 is in the future.
//! * `stats` takes no argument, and leaves out what would not be true here.
//! * `stats` and `flush_all` are refused to clients that aren't on this machine.
//! * Values of nearly 1 MiB fit or don't as in memcached with its default `-I 1m`, and never if
//!   they are over the memory limit.

mod connection;
mod execute;
mod items;
mod record;
mod serve;
mod stats;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::{items::Items, record::Now};

pub use self::{record::ITEM_OVERHEAD_BYTES, serve::serve};

/// What is stored, for all connections of one server.
///
/// Behind an [`Arc`](std::sync::Arc): [`serve`] takes one, and whoever exports metrics another. The
/// lock inside is held for one request at a time and never while anything waits.
#[derive(Debug)]
pub struct Store {
    items: Mutex<Items>,
    clock: Clock,
    bytes_max: usize,
    connections: Connections,
}

/// Connections are counted apart from the items: they come and go without the lock.
#[derive(Debug, Default)]
struct Connections {
    open: AtomicU64,
    total: AtomicU64,
    rejected: AtomicU64,
}

/// What a [`Store`] has done since it began, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Items held, those included that have expired but were not yet come upon.
    pub items: u64,
    /// Bytes these take: key, value and [`ITEM_OVERHEAD_BYTES`] each.
    pub bytes: u64,
    /// The limit on [`Counters::bytes`].
    pub bytes_max: u64,
    /// Items that went because the limit was reached.
    pub evictions: u64,
    /// Items that went because their time, or a `flush_all`, had come.
    pub expired: u64,
    /// Keys asked for by `get` and `gets` that were there.
    pub hits: u64,
    /// Keys asked for that were not.
    pub misses: u64,
    /// Items stored.
    pub sets: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections that ever were.
    pub connections_total: u64,
    /// Connections closed at once because there were too many.
    pub connections_rejected: u64,
}

impl Store {
    /// An empty store that keeps at most `memory_bytes_max` bytes of items, counted as
    /// [`Counters::bytes`] says. Buffers of connections come on top.
    #[must_use]
    pub fn new(memory_bytes_max: usize) -> Store {
        Store {
            items: Mutex::new(Items::new(memory_bytes_max)),
            clock: Clock::start(),
            bytes_max: memory_bytes_max,
            connections: Connections::default(),
        }
    }

    /// What has happened so far, for metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let items = self.lock();
        let tally = items.tally();
        Counters {
            items: items.len() as u64,
            bytes: items.bytes() as u64,
            bytes_max: self.bytes_max as u64,
            evictions: tally.evictions,
            expired: tally.reclaimed,
            hits: tally.get_hits,
            misses: tally.get_misses,
            sets: tally.sets,
            connections: self.connections.open.load(Ordering::Relaxed),
            connections_total: self.connections.total.load(Ordering::Relaxed),
            connections_rejected: self.connections.rejected.load(Ordering::Relaxed),
        }
    }

    /// Drops some of what has expired; see [`Items::step`].
    fn step(&self, items_max: usize) {
        let now = self.clock.now();
        self.lock().step(items_max, now);
    }

    fn lock(&self) -> MutexGuard<'_, Items> {
        // No code under the lock panics; if it did, losing the whole store would be worse than
        // one wrong item.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of a store.
///
/// Expiry follows the monotonic clock, so a wall clock that is set neither kills nor revives
/// items. Both clocks turn their second at the same moment, so that an absolute expiry time is
/// exact to the second too.
#[derive(Debug)]
struct Clock {
    start: Instant,
    /// How far into its second the wall clock was at `start`.
    offset: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock {
            start: Instant::now(),
            offset: Duration::from_nanos(u64::from(unix().subsec_nanos())),
        }
    }

    fn now(&self) -> Now {
        let uptime = self.start.elapsed() + self.offset;
        Now {
            uptime_s: u32::try_from(uptime.as_secs()).unwrap_or(u32::MAX),
            unix_s: unix().as_secs(),
        }
    }
}

fn unix() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
