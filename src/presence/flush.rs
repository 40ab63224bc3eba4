//! Pending users written to memcached.
//!
//! Each worker flushes its share of the shards, one after another through the flush interval, so
//! that memcached sees a steady stream. A drained shard goes to the *lane* of each node: a task
//! that owns one connection, renders as the window allows, and settles with each answer: stored,
//! or pending again. What was not answered when a connection ends is pending again too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, Sender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::lane::{Batch, Lane, Work};
pub(super) use super::users::Flight;
use super::users::{Connected, Live};
use super::{Pending, Record, Slot, UserId, Users};
use crate::clock::Clock;
use crate::counters::FlushMetrics;
use crate::limits::{LANE_QUEUE, SHARDS};
use crate::memcached::{Cluster, Node};

/// Users handled under one lock of their shard: some microseconds.
pub(super) const RENDER_RUN: usize = 128;

/// Who is here and what is to be written of them; shared by all workers.
#[derive(Debug)]
pub struct Presence {
    users: Users,
    pending: Arc<Pending>,
    record: Record,
    cluster: Arc<Cluster>,
    clock: Clock,
    ttl_s: AtomicU32,
    metrics: Arc<FlushMetrics>,
}

impl Presence {
    /// No one yet. Entries are written to `cluster` as `record` renders them, with a TTL of
    /// `ttl_s` seconds.
    pub fn new(
        record: Record,
        cluster: Arc<Cluster>,
        clock: Clock,
        ttl_s: u32,
        sessions_per_user_max: usize,
        metrics: Arc<FlushMetrics>,
    ) -> Presence {
        let pending = Arc::new(Pending::new());
        Presence {
            users: Users::new(pending.clone(), sessions_per_user_max),
            pending,
            record,
            cluster,
            clock,
            ttl_s: AtomicU32::new(ttl_s),
            metrics,
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

    /// Enters a session; [`Flusher::write_now`] makes it known to others.
    pub fn connect(&self, user: &UserId, live: Live) -> Connected {
        self.users.connect(user, live, |user| {
            let mut key = Vec::new();
            self.record.key(&mut key, user);
            self.cluster.node_of(&key)
        })
    }

    /// Lengthens the TTL of everything written from now on: the server is about to stop.
    pub fn lengthen_ttl(&self, by_s: u32) {
        self.ttl_s.fetch_add(by_s, Ordering::Relaxed);
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
}

/// One worker's way to memcached.
#[derive(Clone, Debug)]
pub struct Flusher {
    presence: Arc<Presence>,
    /// By node.
    lanes: Arc<[Sender<Work>]>,
    /// Shards that this worker flushes.
    shards: Arc<[usize]>,
}

impl Flusher {
    /// Starts the lanes of worker number `worker` of `workers`, one of `tasks` each. They end with
    /// the last clone of the flusher.
    pub fn start(
        presence: &Arc<Presence>,
        worker: usize,
        workers: usize,
        tasks: &mut JoinSet<()>,
    ) -> Flusher {
        let mut start_lane = |node: &Arc<Node>| {
            let (sender, queue) = mpsc::channel(LANE_QUEUE);
            tasks.spawn(Lane::new(presence, node, queue).run());
            sender
        };
        Flusher {
            lanes: presence
                .cluster
                .nodes()
                .iter()
                .map(&mut start_lane)
                .collect(),
            shards: (worker..SHARDS).step_by(workers.max(1)).collect(),
            presence: presence.clone(),
        }
    }

    /// Writes the `set` of a user who has just connected. If it can't be written now, the next
    /// flush does it.
    pub fn write_now(&self, slot: Slot) {
        let node = self.presence.users.node(slot).unwrap_or_default();
        let flight = self.presence.users.flight(slot.shard());
        let sent = self.lanes[usize::from(node)].try_send(Work::Connect(slot, flight));
        if sent.is_err() {
            self.presence.give_back([slot]);
        }
    }

    /// Flushes this worker's shards one after another, each once in `period`, for ever.
    pub async fn run(self, period: Duration) {
        // Late ticks are made up for, so that a round takes no longer than the period.
        let mut ticks = interval(period / self.shards.len().max(1) as u32);
        loop {
            for &shard in &*self.shards {
                ticks.tick().await;
                for (lane, batch) in self.drain(shard) {
                    // A lane that can't keep up must not hold up the others.
                    if let Err(error) = lane.try_send(Work::Shard(batch))
                        && let Work::Shard(batch) = error.into_inner()
                    {
                        self.presence.give_back(batch.rest());
                    }
                }
            }
        }
    }

    /// Flushes this worker's shards now and waits for the answers. False if a node did not take
    /// all of it; that is pending still.
    pub async fn flush_all(&self) -> bool {
        let mut barriers = Vec::new();
        for &shard in &*self.shards {
            for (lane, batch) in self.drain(shard) {
                if let Err(error) = lane.send(Work::Shard(batch)).await
                    && let Work::Shard(batch) = error.0
                {
                    self.presence.give_back(batch.rest());
                }
            }
        }
        for lane in &*self.lanes {
            let (settled, barrier) = oneshot::channel();
            // A lane that is gone drops the barrier, which then says so.
            let _ = lane.send(Work::Barrier(settled)).await;
            barriers.push(barrier);
        }
        let mut all = true;
        for barrier in barriers {
            all &= barrier.await.is_ok();
        }
        all
    }

    /// Takes what is pending in a shard, split by node.
    fn drain(&self, shard: usize) -> impl Iterator<Item = (&Sender<Work>, Batch)> {
        let Presence {
            users,
            pending,
            clock,
            ..
        } = &*self.presence;
        users.reap(shard, clock.now_s(), self.presence.ttl_s());
        // Taken before the bits, so that no slot is freed in between.
        let flight = users.flight(shard);
        let mut places = Vec::new();
        pending.drain(shard, |slot| places.push(slot.place()));
        let mut by_node = vec![Vec::new(); self.lanes.len()];
        if let [only] = &mut by_node[..] {
            *only = places;
        } else {
            for run in places.chunks(RENDER_RUN) {
                users.by_node(shard, run, |node, place| {
                    by_node[usize::from(node)].push(place);
                });
            }
        }
        let drained_at = Instant::now();
        let batches = self.lanes.iter().zip(by_node);
        batches
            .filter(|(_, places)| !places.is_empty())
            .map(move |(lane, places)| {
                let batch = Batch {
                    shard,
                    places,
                    done: 0,
                    drained_at,
                    flight: flight.clone(),
                };
                (lane, batch)
            })
    }
}
