//! What all workers share of the flush: the users who are here, what is pending, and how each
//! shard's flushes went.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use presenced_memcached::cluster::Topology;
use presenced_memcached::limits::NODES_MAX;
use presenced_memcached::probe::Writes;
use presenced_memcached::{Cluster, Node, PerNode};
use presenced_session::clock::Clock;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::node_flush::NodeFlush;
use crate::config::Config;
use crate::limits::{FLUSH_AGAIN_AFTER, LATE_BEFORE, RENDER_RUN, SHARDS};
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
    /// What entries are written with.
    ttl_s: AtomicU32,
    /// What they have had before the last flush.
    regular_ttl_s: u32,
    headroom: Duration,
    flush_interval: Duration,
    /// When the last flush began, ms; 0 before.
    last_flush_ms: AtomicU64,
    /// By shard: the topology that its users' nodes are of.
    mapped: [Mutex<Arc<Topology>>; SHARDS],
    /// By shard: when a flush ended of which something was not written, ms; 0 if there is none
    /// since.
    failed_ms: [AtomicU64; SHARDS],
    flushes: Mutex<NodeFlushes>,
    metrics: Arc<FlushMetrics>,
    /// The server stops: no regular flush any more.
    last_flush: CancellationToken,
    /// Nothing is written any more.
    written_off: CancellationToken,
}

/// The flushes of all nodes, and the version of the topology that these are of.
type NodeFlushes = (u64, Arc<PerNode<Arc<NodeFlush>>>);

/// One flush of one shard, over all nodes; it has ended when it is dropped.
#[derive(Debug)]
pub(super) struct Round {
    presence: Arc<Presence>,
    shard: usize,
    began: Duration,
    is_empty: bool,
    /// By node.
    flushes: Arc<PerNode<Arc<NodeFlush>>>,
    /// Nodes for which something is left, one bit each.
    failed: [AtomicU64; 4],
    _guard: SlotGuard,
}

impl Round {
    /// Not all of what is for the node with this number was written.
    pub(super) fn fail(&self, node: u8) {
        self.failed[usize::from(node / 64)].fetch_or(1 << (node % 64), Ordering::Relaxed);
    }

    fn has_failed_for(&self, node: u8) -> bool {
        self.failed[usize::from(node / 64)].load(Ordering::Relaxed) & 1 << (node % 64) != 0
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
            .iter()
            .any(|nodes| nodes.load(Ordering::Relaxed) != 0)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if thread::panicking() {
            // Whoever had it has not done its work.
            self.failed = [const { AtomicU64::new(u64::MAX) }; 4];
        }
        for (node, flush) in self.flushes.iter() {
            if !self.has_failed_for(node.id()) {
                flush.settled(self.shard, self.began);
            }
        }
        if self.has_failed() {
            let now_ms = self.presence.clock.now().as_millis() as u64;
            self.presence.failed_ms[self.shard].store(now_ms.max(1), Ordering::Relaxed);
        } else if !self.is_empty {
            let took = self.presence.clock.now() - self.began;
            self.presence.metrics.seconds.observe(took);
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
        let promised = &cluster.config().marker;
        let ttl_s = u32::try_from(promised.entry_ttl.as_secs()).unwrap_or(u32::MAX);
        let (headroom, flush_interval) = (promised.headroom, promised.flush_interval);
        Presence {
            users: Users::new(
                pending.clone(),
                config.sessions_per_user_max,
                config.hasher.clone(),
            ),
            pending,
            record: config.record.clone().written_by(command),
            mapped: std::array::from_fn(|_| Mutex::new(cluster.topology())),
            cluster,
            clock,
            ttl_s: AtomicU32::new(ttl_s),
            regular_ttl_s: ttl_s,
            headroom,
            flush_interval,
            last_flush_ms: AtomicU64::new(0),
            failed_ms: std::array::from_fn(|_| AtomicU64::default()),
            flushes: Mutex::new((u64::MAX, Arc::default())),
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

    /// The server is about to stop: everyone who is here is pending, everything written from now on
    /// has a TTL that is longer by `longer_s`, and there is no regular flush any more, as it would
    /// keep `set`s under way. [`super::Flusher::flush_all`] is what is left to do.
    pub fn begin_last_flush(&self, longer_s: u32) {
        self.last_flush.cancel();
        self.ttl_s.fetch_add(longer_s, Ordering::Relaxed);
        self.users.mark_all();
        let now_ms = self.clock.now().as_millis() as u64;
        self.last_flush_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// Ends all connections that write. What is under way is given up, so that it does not arrive
    /// later.
    pub fn stop_writing(&self) {
        self.written_off.cancel();
    }

    /// For each node: how long ago the last flush began after which nothing was left for it, of the
    /// shard where that is longest. Up to a flush interval and what one takes, when all is well.
    pub fn flush_lags(&self) -> Vec<(Arc<Node>, Duration)> {
        let now = self.clock.now();
        let flushes = self.flushes();
        let lags = flushes
            .iter()
            .map(|(node, flush)| (node.clone(), flush.lag(now)));
        lags.collect()
    }

    /// The longest of [`Presence::flush_lags`].
    pub fn flush_lag(&self) -> Duration {
        let lags = self.flush_lags().into_iter().map(|(_, lag)| lag);
        lags.max().unwrap_or_default()
    }

    /// The flushes of the nodes that there are now.
    fn flushes(&self) -> Arc<PerNode<Arc<NodeFlush>>> {
        let mut flushes = lock(&self.flushes);
        // Under the lock: another worker may have seen a later one.
        let topology = self.cluster.topology();
        if flushes.0 != topology.version() {
            let mut next = (*flushes.1).clone();
            let now = self.clock.now();
            next.follow(&topology, |node| {
                Arc::new(NodeFlush::new(now, node.doubts()))
            });
            *flushes = (topology.version(), Arc::new(next));
        }
        flushes.1.clone()
    }

    /// One of `shards` of which something was not written a while ago. It is not told again.
    pub(super) fn take_failed(&self, mut shards: impl Iterator<Item = usize>) -> Option<usize> {
        let now = self.clock.now();
        shards.find(|&shard| {
            let failed_ms = &self.failed_ms[shard];
            let at = Duration::from_millis(failed_ms.load(Ordering::Relaxed));
            let is_due = !at.is_zero() && now >= at + FLUSH_AGAIN_AFTER;
            if is_due {
                failed_ms.store(0, Ordering::Relaxed);
            }
            is_due
        })
    }

    /// The flush to the node with this number, if there is such a node.
    pub(super) fn flush_of(&self, node: u8) -> Option<Arc<NodeFlush>> {
        self.flushes().get(node).cloned()
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
        // What comes later may not be drained.
        let began = self.clock.now();
        let mut indexes = Vec::new();
        self.pending.drain(shard, |slot| indexes.push(slot.index()));
        let round = Arc::new(Round {
            presence: self.clone(),
            shard,
            began,
            is_empty: indexes.is_empty(),
            flushes: self.flushes(),
            failed: Default::default(),
            _guard: guard,
        });
        (round, indexes)
    }

    /// Time in which everyone heard from is written once.
    pub fn flush_interval(&self) -> Duration {
        self.flush_interval
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

    /// A user has no entry on the node whose `flush` this is, because it could not be written: the
    /// user is pending.
    pub(super) fn owe(&self, slot: Slot, flush: Option<&NodeFlush>) {
        self.give_back([slot]);
        if let Some(flush) = flush {
            flush.owes(slot.shard(), self.clock.now());
        }
    }

    pub(super) fn give_back(&self, slots: impl IntoIterator<Item = Slot>) {
        self.pending.restore(slots.into_iter().inspect(|_| {
            self.metrics.restored.add(1);
        }));
    }

    /// Gives a shard's users their nodes anew if the topology has changed; those who have moved
    /// become pending. A node's number may be another node's by now. A `connect` at the same time sees the new topology or is seen by the walk:
    /// both are under the shard's lock.
    pub(super) async fn remap(&self, shard: usize) {
        let topology = self.cluster.topology();
        let mapped = &self.mapped[shard];
        let before = lock(mapped).clone();
        if before.version() == topology.version() {
            return;
        }
        let mut is_new = [false; NODES_MAX + 1];
        for node in topology.nodes() {
            is_new[usize::from(node.id())] = !before.has(node);
        }
        let (mut key, mut from) = (Vec::new(), Some(0));
        while let Some(index) = from {
            let run = RENDER_RUN as u32;
            from = self
                .users
                .visit(shard, index, run, |index, user, node, online| {
                    self.record.key(&mut key, user);
                    let now = topology.node_of(&key);
                    let is_other = std::mem::replace(node, now) != now || is_new[usize::from(now)];
                    if is_other && online {
                        self.pending.record(Slot::new(shard, index));
                    }
                });
            yield_now().await;
        }
        *lock(mapped) = topology;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writes for Presence {
    fn has_any(&self) -> bool {
        !self.users.is_empty()
    }

    fn are_late(&self, node: &Node) -> bool {
        let has_debts = |flush: Arc<NodeFlush>| flush.has_debts(self.clock.now(), node.doubts());
        self.overdue(node).is_some()
            || self.flush_of(node.id()).is_some_and(has_debts) && self.has_any()
    }

    /// A heartbeat that came before the last flush that left nothing is stored. So the lag bounds the age of
    /// what is not; it also grows while the process is stopped, when nobody's heartbeat is recorded.
    fn overdue(&self, node: &Node) -> Option<Duration> {
        let flush = self.flush_of(node.id())?;
        let last_flush = Duration::from_millis(self.last_flush_ms.load(Ordering::Relaxed));
        // After the last flush nothing more is written, and entries live for longer.
        let longer = if !last_flush.is_zero() && flush.all_settled() >= last_flush {
            Duration::from_secs((self.ttl_s() - self.regular_ttl_s).into())
        } else {
            Duration::ZERO
        };
        let lag = flush.lag(self.clock.now());
        let in_time = longer + self.headroom.saturating_sub(LATE_BEFORE);
        (lag > in_time && self.has_any()).then_some(lag)
    }
}
