//! Pending users written to memcached.
//!
//! Each worker flushes its share of the shards, one after another through the flush interval, so
//! that memcached sees a steady stream. A drained shard goes to the *node writer* of each node: a
//! task that owns one connection, renders as the window allows, and settles with each answer:
//! stored, or pending again. What was not answered when a connection ends is pending again too.
//!
//! A node writer has at most one batch of a shard at once: what comes on top stays pending, so a
//! memcached that is too slow costs no memory. Users who have just connected go before those of a
//! flush, and these before those of a refill. When the ring has changed, a shard's users are given
//! their nodes anew before its turn, and who has moved is pending.

mod in_flight;
mod node_flush;
mod node_writer;
mod node_writers;
mod queues;
mod refill;
mod schedule;
mod state;
#[cfg(test)]
mod tests;
mod work;

use std::future::pending;
use std::sync::Arc;

use presenced_memcached::LogThrottle;
use presenced_tasks::{Task, keep_up};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::node_flush::Waiting;
use self::node_writers::{NodeWriterHandle, NodeWriters};
use self::schedule::FlushSchedule;
pub use self::state::Presence;
use self::state::Round;
use self::work::{Batch, BatchGuard, Work};
use crate::limits::{BEHIND_WARNING_PAUSE, RENDER_RUN, SHARDS};
use crate::slot::Slot;

/// One worker's way to memcached.
#[derive(Clone, Debug)]
pub struct Flusher {
    presence: Arc<Presence>,
    writers: Arc<NodeWriters>,
    worker: usize,
    workers: usize,
}

impl Flusher {
    /// Starts the node writers of worker number `worker` of `workers`; one of `tasks` keeps them,
    /// as nodes come and go.
    pub fn start(
        presence: &Arc<Presence>,
        worker: usize,
        workers: usize,
        tasks: &mut JoinSet<()>,
    ) -> Flusher {
        let (writers, keeper) = NodeWriters::start(presence);
        tasks.spawn(keeper);
        Flusher {
            presence: presence.clone(),
            writers,
            worker,
            workers: workers.max(1),
        }
    }

    /// Shards that this worker flushes.
    pub(super) fn shards(&self) -> impl Iterator<Item = usize> + use<> {
        (self.worker..SHARDS).step_by(self.workers)
    }

    pub(super) fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    fn writers(&self) -> &NodeWriters {
        &self.writers
    }

    /// Writes the `set` of a user who has just connected. If it can't be written now, the next
    /// flush does it.
    pub fn write_now(&self, slot: Slot) {
        let node = self.presence.users().node(slot).unwrap_or_default();
        let guard = self.presence.users().slot_guard(slot.shard());
        let writers = self.writers.all();
        let Some(writer) = writers.get(node) else {
            // It has just come, or just gone.
            let flush = self.presence.flush_of(node);
            self.presence.owe(slot, flush.as_deref());
            return;
        };
        let waiting = Waiting::new(writer.flush(), self.presence.clock().now());
        let connect = Work::Connect(slot, guard, waiting);
        if writer.work.try_send(connect).is_err() {
            self.presence.owe(slot, Some(writer.flush()));
        }
    }

    /// Flushes this worker's shards one after another, each once in the flush interval, until the
    /// last flush begins; never returns.
    pub async fn run(self) {
        let last_flush = self.presence.last_flush().clone();
        let mut is_first = true;
        let flushing = keep_up(Task::Flush, || {
            if !std::mem::take(&mut is_first) {
                // It panicked, and what it had taken is not known.
                self.presence.users().mark_all();
            }
            self.flush_regularly()
        });
        last_flush.run_until_cancelled(flushing).await;
        pending::<()>().await;
    }

    async fn flush_regularly(&self) {
        let (clock, period) = (self.presence.clock(), self.presence.flush_interval());
        let mut schedule = FlushSchedule::new(period, self.worker, self.workers, clock.now());
        let mut behind_logged = LogThrottle::default();
        loop {
            for shard in self.shards() {
                sleep(schedule.due().saturating_sub(clock.now())).await;
                schedule.had(clock.now());
                self.flush_shard(shard).await;
                if let Some(failed) = self.presence.take_failed(self.shards()) {
                    self.flush_shard(failed).await;
                }
            }
            if self.worker == 0 {
                self.warn_if_behind(&mut behind_logged);
            }
        }
    }

    fn warn_if_behind(&self, logged: &mut LogThrottle) {
        let lag = self.presence.flush_lag();
        if lag > 3 * self.presence.flush_interval() && logged.is_due(BEHIND_WARNING_PAUSE) {
            let pending = self.presence.pending().len();
            tracing::warn!(
                ?lag,
                pending,
                "the flush is behind: memcached is too slow, away, or refuses entries"
            );
        }
    }

    /// Writes what is pending in a shard, as far as the node writers take it now.
    pub(super) async fn flush_shard(&self, shard: usize) {
        self.presence.remap(shard).await;
        let (_, batches) = self.drain(shard);
        for (writer, batch) in batches {
            // A node writer that can't keep up must not hold up the others.
            if let Err(Work::Shard(batch)) = writer.work.try_send(Work::Shard(Box::new(batch))) {
                batch.give_back(&self.presence);
            }
        }
    }

    /// Flushes this worker's shards now and waits for the answers. False if a node did not take
    /// all of it; that is pending still.
    pub async fn flush_all(&self) -> bool {
        // What a node writer has just claimed is left out by the first, and written by the second.
        self.try_flush_all().await || self.try_flush_all().await
    }

    async fn try_flush_all(&self) -> bool {
        let mut rounds = Vec::new();
        for shard in self.shards() {
            self.presence.remap(shard).await;
            let (round, batches) = self.drain(shard);
            rounds.push(round);
            for (writer, batch) in batches {
                if let Err(Work::Shard(batch)) =
                    writer.work.send(Work::Shard(Box::new(batch))).await
                {
                    batch.give_back(&self.presence);
                }
            }
        }
        self.barrier(None).await && !rounds.iter().any(|round| round.has_failed())
    }

    /// Waits until all work that the node writers, or that of one node, have now is settled. False
    /// if a connection failed.
    pub(super) async fn barrier(&self, node: Option<u8>) -> bool {
        let mut barriers = Vec::new();
        for (its, writer) in self.writers.all().iter() {
            if node.is_none_or(|node| its.id() == node) {
                let (settled, barrier) = oneshot::channel();
                // A node writer that is gone drops the barrier, which then says so.
                let _ = writer.work.send(Work::Barrier(settled)).await;
                barriers.push(barrier);
            }
        }
        let mut all = true;
        for barrier in barriers {
            all &= barrier.await.is_ok();
        }
        all
    }

    /// Takes what is pending in a shard, split by node.
    fn drain(&self, shard: usize) -> (Arc<Round>, Vec<(NodeWriterHandle, Batch)>) {
        let (round, indexes) = self.presence.begin(shard);
        // What an earlier flush has taken may not be stored yet, and is not pending any more.
        for (node, writer) in self.writers.all().iter() {
            if writer.is_claimed(shard) {
                round.fail(node.id());
            }
        }
        let batches = self.split(shard, indexes).into_iter();
        let batches = batches.filter_map(|(node, writer, indexes)| {
            let claimed = writer.and_then(|writer| Some((writer.claim(shard)?, writer)));
            let Some((claim, writer)) = claimed else {
                // Its last batch is under way still, or there is no such node any more.
                round.fail(node);
                let slots = indexes.iter().map(|&index| Slot::new(shard, index));
                self.presence.give_back(slots);
                return None;
            };
            let guard = Arc::new(BatchGuard::new(round.clone(), node, claim));
            Some((writer, Batch::new(shard, indexes, guard)))
        });
        let batches = batches.collect();
        (round, batches)
    }

    /// By node: its number, its writer if there is one, and its users.
    fn split(
        &self,
        shard: usize,
        indexes: Vec<u32>,
    ) -> Vec<(u8, Option<NodeWriterHandle>, Vec<u32>)> {
        let writers = self.writers.all();
        let mut by_node = vec![Vec::new(); writers.ids_end()];
        let topology = self.presence.cluster().topology();
        if let ([only], [node]) = (&mut by_node[..], topology.nodes())
            && node.id() == 0
        {
            // No user has another node, not even one that has no node writer yet.
            *only = indexes;
        } else {
            for run in indexes.chunks(RENDER_RUN) {
                self.presence.users().by_node(shard, run, |node, index| {
                    // No node writer yet for a node that has just come.
                    if usize::from(node) >= by_node.len() {
                        by_node.resize(usize::from(node) + 1, Vec::new());
                    }
                    by_node[usize::from(node)].push(index);
                });
            }
        }
        let some = by_node.into_iter().zip(0..=u8::MAX);
        some.filter(|(indexes, _)| !indexes.is_empty())
            .map(|(indexes, node)| (node, writers.get(node).cloned(), indexes))
            .collect()
    }
}
