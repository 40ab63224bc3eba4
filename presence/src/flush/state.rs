//! What all workers share of the flush: the users who are here, what is pending, and how each shard's
//! flushes went.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use presenced_memcached::Cluster;
use presenced_session::clock::Clock;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::limits::{RENDER_RUN, SHARDS};
use crate::metrics::FlushMetrics;
use crate::pending::Pending;
use crate::record::Record;
use crate::slot::Slot;
use crate::user_id::UserId;
use crate::users::{Connected, Live, SlotGuard, Users};

/// The users who are here and what is to be written of them; shared by all workers.
#[derive(Debug)]
pub struct Presence {
    users: Users,
    pending: Arc<Pending>,
    record: Record,
    cluster: Arc<Cluster>,
    clock: Clock,
    ttl_s: AtomicU32,
    shards: Box<[ShardFlush]>,
    metrics: Arc<FlushMetrics>,
    /// The server stops: no regular flush any more.
    last_flush: CancellationToken,
    /// Nothing is written any more.
    written_off: CancellationToken,
}

/// What is known of the flushes of one shard.
#[derive(Debug, Default)]
struct ShardFlush {
    /// When the last flush began after which nothing was left, ms.
    settled_ms: AtomicU64,
    /// The version of the topology that the users' nodes are of.
    version: AtomicU64,
}

/// One flush of one shard, over all nodes; it has ended when it is dropped.
#[derive(Debug)]
pub(super) struct Round {
    presence: Arc<Presence>,
    shard: usize,
    began: Duration,
    is_empty: bool,
    failed: AtomicBool,
    _guard: SlotGuard,
}

impl Round {
    /// Not all of it was written.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if self.has_failed() {
            return;
        }
        let presence = &self.presence;
        let began_ms = self.began.as_millis() as u64;
        let settled_ms = &presence.shards[self.shard].settled_ms;
        settled_ms.fetch_max(began_ms, Ordering::Relaxed);
        if !self.is_empty {
            let took = presence.clock.now() - self.began;
            presence.metrics.seconds.observe(took);
        }
    }
}

impl Presence {
    /// No one yet. Entries are written to `cluster`.
    pub fn new(
        config: &Config,
        cluster: Arc<Cluster>,
        clock: Clock,
        metrics: Arc<FlushMetrics>,
    ) -> Presence {
        let pending = Arc::new(Pending::new());
        let command = cluster.config().connect.write_command;
        Presence {
            users: Users::new(
                pending.clone(),
                config.sessions_per_user_max,
                config.hasher.clone(),
            ),
            pending,
            record: config.record.clone().written_by(command),
            cluster,
            clock,
            ttl_s: AtomicU32::new(config.ttl_s),
            shards: (0..SHARDS).map(|_| ShardFlush::default()).collect(),
            metrics,
            last_flush: CancellationToken::new(),
            written_off: CancellationToken::new(),
        }
    }

    /// The directory of users with a session here.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The set of users heard from since their last flush.
    pub fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// Keys and values.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The memcached nodes.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Enters a session; [`super::Flusher::write_now`] makes it known to others.
    pub fn connect(&self, user: &UserId, live: Live) -> Connected {
        self.users.connect(user, live, |user| {
            let mut key = Vec::new();
            self.record.key(&mut key, user);
            self.cluster.node_of(&key)
        })
    }

    /// The server is about to stop: everyone who is here is pending, everything written from now on has a
    /// TTL that is longer by `longer_s`, and there is no regular flush any more, as it would keep `set`s
    /// under way. [`super::Flusher::flush_all`] is what is left to do.
    pub fn begin_last_flush(&self, longer_s: u32) {
        self.last_flush.cancel();
        self.ttl_s.fetch_add(longer_s, Ordering::Relaxed);
        self.users.mark_all();
    }

    /// Ends all connections that write. What is under way is given up, so that it does not arrive later.
    pub fn stop_writing(&self) {
        self.written_off.cancel();
    }

    /// How long ago the last flush began after which nothing was left, of the shard where that is
    /// longest: up to a flush interval and what one takes, when all is well.
    pub fn flush_lag(&self) -> Duration {
        let settled = |shard: &ShardFlush| shard.settled_ms.load(Ordering::Relaxed);
        let oldest_ms = self.shards.iter().map(settled).min().unwrap_or_default();
        self.clock
            .now()
            .saturating_sub(Duration::from_millis(oldest_ms))
    }

    /// What time it is here.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Takes what is pending in a shard: the indexes, and the flush that they are part of.
    pub(super) fn begin(self: &Arc<Presence>, shard: usize) -> (Arc<Round>, Vec<u32>) {
        self.users.reap(shard);
        // Taken before the bits, so that no slot is freed in between.
        let guard = self.users.slot_guard(shard);
        let mut indexes = Vec::new();
        self.pending.drain(shard, |slot| indexes.push(slot.index()));
        let round = Arc::new(Round {
            presence: self.clone(),
            shard,
            began: self.clock.now(),
            is_empty: indexes.is_empty(),
            failed: AtomicBool::new(false),
            _guard: guard,
        });
        (round, indexes)
    }

    /// Cancelled when the regular flush ends.
    pub(super) fn last_flush(&self) -> &CancellationToken {
        &self.last_flush
    }

    /// Cancelled when connections that write end.
    pub(super) fn written_off(&self) -> &CancellationToken {
        &self.written_off
    }

    pub(super) fn now_s(&self) -> u32 {
        self.clock.now_s()
    }

    pub(super) fn metrics(&self) -> &FlushMetrics {
        &self.metrics
    }

    pub(super) fn ttl_s(&self) -> u32 {
        self.ttl_s.load(Ordering::Relaxed)
    }

    pub(super) fn give_back(&self, slots: impl IntoIterator<Item = Slot>) {
        self.pending.restore(slots.into_iter().inspect(|_| {
            self.metrics.restored.add(1);
        }));
    }

    /// Gives a shard's users their nodes anew if the topology has changed; those who have moved become
    /// pending.
    /// A `connect` at the same time sees the new topology or is seen by the walk: both are under the
    /// shard's lock.
    pub(super) async fn remap(&self, shard: usize) {
        let topology = self.cluster.topology();
        let version = &self.shards[shard].version;
        if version.load(Ordering::Relaxed) == topology.version() {
            return;
        }
        let (mut key, mut from) = (Vec::new(), Some(0));
        while let Some(index) = from {
            let run = RENDER_RUN as u32;
            from = self
                .users
                .visit(shard, index, run, |index, user, node, online| {
                    self.record.key(&mut key, user);
                    let now = topology.node_of(&key);
                    if std::mem::replace(node, now) != now && online {
                        self.pending.record(Slot::new(shard, index));
                    }
                });
            yield_now().await;
        }
        version.store(topology.version(), Ordering::Relaxed);
    }
}
