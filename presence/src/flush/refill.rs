//! All users of a node that has lost its data are written again, without waiting for their pongs.

use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::{Node, PerNode};
use tokio::time::{Instant, sleep, sleep_until};

use super::Flusher;
use super::node_flush::NodeFlush;
use super::work::{Batch, BatchGuard, Work};
use crate::limits::{CONNECT_PAUSE, REFILL_RUN};

impl Flusher {
    /// Refills nodes whose data are found lost, `users_per_second` at most, for ever.
    ///
    /// Users are handed over in runs, and each run is settled before the next: a node that is slow gets no
    /// more than it can take, and whoever connects or is flushed goes first. Users who were written since the
    /// loss was noticed are left out. What memcached does not acknowledge becomes pending, so one walk over the
    /// users is enough, whatever happens.
    pub async fn refill(self, users_per_second: u32) {
        let cluster = self.presence().cluster().clone();
        let mut changes = cluster.changes();
        // How many losses of each node are made good.
        let mut refilled = PerNode::default();
        loop {
            changes.mark_unchanged();
            refilled.follow(&cluster.topology(), |_| 0);
            for (node, known) in refilled.iter_mut() {
                let losses = node.losses();
                if *known != losses {
                    self.refill_node(node, losses, users_per_second).await;
                    *known = losses;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn refill_node(&self, node: &Arc<Node>, losses: u64, users_per_second: u32) {
        let Some(flush) = self.presence().flush_of(node.id()) else {
            return;
        };
        let mut next = Instant::now();
        // Nothing is written at 0.
        let since_s = self.presence().now_s().max(1);
        let mut refilled = 0;
        for shard in self.shards() {
            self.presence().remap(shard).await;
            let mut from = Some(0);
            while let Some(index) = from {
                while !node.is_up() && self.is_written_to(node) {
                    sleep(CONNECT_PAUSE).await;
                }
                let (batch, next_from) = self.lost(shard, index, node.id(), since_s, &flush);
                from = next_from;
                let count = batch.indexes.len() as u32;
                if count == 0 {
                    continue;
                }
                refilled += u64::from(count);
                self.hand_over(node, batch).await;
                let time = Duration::from_secs(1) * count / users_per_second.max(1);
                next = next.max(Instant::now() - time) + time;
                sleep_until(next).await;
            }
            flush.refilled(shard, losses);
        }
        self.presence().metrics().refilled.add(refilled);
    }

    /// Lets the node writer have a batch, and waits until it is settled. What can't be written is pending.
    async fn hand_over(&self, node: &Arc<Node>, batch: Batch) {
        let work = Work::Shard(Box::new(batch));
        let writers = self.writers().all();
        let refused = match writers.get(node.id()) {
            Some(writer) => writer.work.send(work).await.err(),
            None => Some(work),
        };
        if let Some(Work::Shard(batch)) = refused {
            batch.give_back(self.presence());
        }
        self.barrier(Some(node.id())).await;
    }

    /// Whether it is still one of the nodes.
    fn is_written_to(&self, node: &Arc<Node>) -> bool {
        let writers = self.writers().all();
        writers.iter().any(|(known, _)| Arc::ptr_eq(known, node))
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
