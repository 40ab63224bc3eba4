//! All users of a node that has lost its data are written again, without waiting for their pongs.

use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::{Node, PerNode};
use tokio::time::{Instant, sleep, sleep_until};

use super::Flusher;
use crate::limits::{CONNECT_PAUSE, REFILL_RUN};
use crate::slot::Slot;

impl Flusher {
    /// Refills nodes whose data are found lost, `users_per_second` at most, for ever.
    ///
    /// Users are marked as pending in runs, and each run is flushed before the next. What memcached
    /// does not acknowledge stays pending, so one walk over the users is enough, whatever happens.
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
        let flush = self.presence().flush_of(node.id());
        let mut next = Instant::now();
        let mut refilled = 0u64;
        for shard in self.shards() {
            let mut from = Some(0);
            while let Some(index) = from {
                let mut marked = 0;
                from = self.mark(shard, index, node.id(), &mut marked);
                if marked == 0 {
                    continue;
                }
                refilled += u64::from(marked);
                if let Some(flush) = &flush {
                    flush.owes(shard, self.presence().clock().now());
                }
                while !node.is_up() && self.is_written_to(node) {
                    sleep(CONNECT_PAUSE).await;
                }
                self.flush_shard(shard).await;
                self.barrier(Some(node.id())).await;
                let time = Duration::from_secs(1) * marked / users_per_second.max(1);
                next = next.max(Instant::now() - time) + time;
                sleep_until(next).await;
            }
            if let Some(flush) = &flush {
                flush.refilled(shard, losses);
            }
        }
        self.presence().metrics().refilled.add(refilled);
    }

    /// Whether it is still one of the nodes.
    fn is_written_to(&self, node: &Arc<Node>) -> bool {
        let writers = self.writers().all();
        writers.iter().any(|(known, _)| Arc::ptr_eq(known, node))
    }

    /// Marks up to a run's worth of the node's users in a shard, from `index` on.
    fn mark(&self, shard: usize, index: u32, id: u8, marked: &mut u32) -> Option<u32> {
        let presence = self.presence();
        presence
            .users()
            .visit(shard, index, REFILL_RUN, |index, _, node, online| {
                if online && *node == id {
                    presence.pending().record(Slot::new(shard, index));
                    *marked += 1;
                }
            })
    }
}
