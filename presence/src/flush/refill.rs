//! All users of a node that has lost its data are written again, without waiting for their pongs.

use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::{Node, PerNode};
use presenced_tasks::{Task, keep_up};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Flusher;
use super::node_flush::NodeFlush;
use super::node_writers::NodeWriterHandle;
use super::work::{Batch, BatchGuard, Work};
use crate::limits::{CONNECT_PAUSE, REFILL_RUN};

impl Flusher {
    /// Refills nodes whose data are found lost, `users_per_second` at most, for ever.
    ///
    /// Users are handed over in runs, and each run is settled before the next: a node that is slow
    /// gets no more than it can take, and whoever connects or is flushed goes first. Users who were
    /// written since the loss was noticed are left out. What memcached does not acknowledge becomes
    /// pending, so one walk over the users is enough, whatever happens.
    pub async fn refill(self, users_per_second: u32) {
        let cluster = self.presence().cluster().clone();
        let mut changes = cluster.changes();
        // Each on its own: one that is away holds up no other.
        let mut nodes = PerNode::default();
        loop {
            nodes.follow(&cluster.topology(), |node| {
                let (refill, node) = (self.clone(), node.clone());
                let mut task = JoinSet::new();
                task.spawn(keep_up(Task::Refill, move || {
                    refill.clone().follow_doubts(node.clone(), users_per_second)
                }));
                task
            });
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_doubts(self, node: Arc<Node>, users_per_second: u32) {
        let mut changes = self.presence().cluster().changes();
        let mut settled = 0;
        loop {
            let doubts = node.doubts();
            if settled != doubts {
                self.refill_node(&node, doubts, users_per_second).await;
                settled = doubts;
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn refill_node(&self, node: &Arc<Node>, doubts: u64, users_per_second: u32) {
        let Some(flush) = self.presence().flush_of(node.id()) else {
            // It is no node any more.
            return;
        };
        let mut next = Instant::now();
        // Nothing is written at 0.
        let since_s = self.presence().now_s().max(1);
        flush.note_losses(node.losses(), since_s);
        let mut refilled = 0;
        for shard in self.shards() {
            self.presence().remap(shard).await;
            let mut from = Some(0);
            while let Some(index) = from {
                // Before the batch, which keeps its users' slots.
                let Some(writer) = self.connected_to(node).await else {
                    // It is no node any more: its users have moved, and are pending.
                    return;
                };
                let (batch, next_from) = self.lost(shard, index, node.id(), since_s, &flush);
                let count = batch.indexes.len() as u32;
                if count > 0 && !self.hand_over(&writer, node, batch).await {
                    // Once more, as soon as may be: those who are pending would wait for their
                    // flush.
                    sleep(CONNECT_PAUSE).await;
                    continue;
                }
                from = next_from;
                refilled += u64::from(count);
                let time = Duration::from_secs(1) * count / users_per_second.max(1);
                next = next.max(Instant::now() - time) + time;
                sleep_until(next).await;
            }
            flush.refilled(shard, doubts);
        }
        self.presence().metrics().refilled.add(refilled);
    }

    /// Lets the node writer have a batch, and waits until it is settled. False if the connection
    /// failed meanwhile: those who were not written are pending.
    async fn hand_over(&self, writer: &NodeWriterHandle, node: &Node, batch: Batch) -> bool {
        let sent = writer.work.send(Work::Shard(Box::new(batch))).await;
        if let Err(Work::Shard(batch)) = sent {
            batch.give_back(self.presence());
        }
        self.barrier(Some(node.id())).await
    }

    /// The node writer, once it has a connection; `None` if there is none any more.
    async fn connected_to(&self, node: &Arc<Node>) -> Option<NodeWriterHandle> {
        loop {
            let writers = self.writers().all();
            let writer = writers.iter().find(|(known, _)| Arc::ptr_eq(known, node));
            match writer {
                Some((_, writer)) if writer.is_connected() => return Some(writer.clone()),
                Some(_) => {}
                // The node writers may not have followed a change yet.
                None => {
                    let topology = self.presence().cluster().topology();
                    let mut nodes = topology.nodes().iter();
                    nodes.find(|known| Arc::ptr_eq(known, node))?;
                }
            }
            sleep(CONNECT_PAUSE).await;
        }
    }

    /// The node's users in a shard, from `index` on and up to a run of them, and where to go on.
    fn lost(
        &self,
        shard: usize,
        index: u32,
        id: u8,
        since_s: u32,
        flush: &Arc<NodeFlush>,
    ) -> (Batch, Option<u32>) {
        let users = self.presence().users();
        let guard = BatchGuard::Refill {
            since_s,
            shard,
            flush: flush.clone(),
            clock: self.presence().clock(),
            _slots: users.slot_guard(shard),
        };
        let mut indexes = Vec::new();
        let from = users.visit(shard, index, REFILL_RUN, |index, _, node, online| {
            if online && *node == id {
                indexes.push(index);
            }
        });
        (Batch::new(shard, indexes, Arc::new(guard)), from)
    }
}
