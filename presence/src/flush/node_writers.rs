//! A worker's node writers, by node, as nodes come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use presenced_memcached::PerNode;
use presenced_tasks::{Pauses, Task, catch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::node_flush::NodeFlush;
use super::node_writer::NodeWriter;
use super::queues::{WorkSender, work_queues};
use super::state::Presence;
use super::work::ShardClaim;

/// The node writers of one worker.
#[derive(Debug)]
pub(super) struct NodeWriters {
    by_node: RwLock<Arc<PerNode<NodeWriterHandle>>>,
}

/// How a node writer has ended: `None` if it panicked, `Some(None)` if writing was to stop.
type Running = Option<Option<()>>;

/// How work comes to a node writer, which ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct NodeWriterHandle {
    pub(super) work: WorkSender,
    claimed: Arc<AtomicU64>,
    flush: Arc<NodeFlush>,
    connected: Arc<AtomicBool>,
}

impl NodeWriters {
    /// The node writers of the nodes that there are now, and the task that keeps up with the
    /// cluster. A node writer that panics is replaced, and all users of its node are written again:
    /// what it had in flight is not known.
    pub(super) fn start(
        presence: &Arc<Presence>,
    ) -> (Arc<NodeWriters>, impl Future<Output = ()> + use<>) {
        let writers = Arc::new(NodeWriters {
            by_node: RwLock::default(),
        });
        let mut changes = presence.cluster().changes();
        let mut running = JoinSet::new();
        writers.follow(presence, &mut running);
        let (kept, presence) = (writers.clone(), presence.clone());
        let keeper = async move {
            let (mut pauses, mut failed_at) = (Pauses::default(), Instant::now());
            loop {
                tokio::select! {
                    biased;
                    changed = changes.changed() => match changed {
                        Ok(()) => kept.follow(&presence, &mut running),
                        Err(_) => return,
                    },
                    // One ends when its node is gone, with `Some`.
                    Some(Ok(None)) = running.join_next() => {
                        sleep(pauses.next(failed_at.elapsed())).await;
                        failed_at = Instant::now();
                        kept.replace_ended(&presence, &mut running);
                    }
                }
            }
        };
        (writers, keeper)
    }

    /// As they are now.
    pub(super) fn all(&self) -> Arc<PerNode<NodeWriterHandle>> {
        let by_node = self.by_node.read();
        by_node.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts node writers in place of those that have ended.
    fn replace_ended(&self, presence: &Arc<Presence>, running: &mut JoinSet<Running>) {
        let mut next = (*self.all()).clone();
        let ended = next.remove(|writer| writer.work.is_closed());
        self.start_missing(next, presence, running);
        for node in ended {
            presence.cluster().mark_suspect(&node);
        }
    }

    /// Starts node writers to nodes that are new, lets go of those whose nodes are gone.
    fn follow(&self, presence: &Arc<Presence>, running: &mut JoinSet<Running>) {
        self.start_missing((*self.all()).clone(), presence, running);
    }

    fn start_missing(
        &self,
        mut next: PerNode<NodeWriterHandle>,
        presence: &Arc<Presence>,
        running: &mut JoinSet<Running>,
    ) {
        next.follow(&presence.cluster().topology(), |node| {
            let (sender, queues) = work_queues();
            let now = presence.clock().now();
            // One that is gone by now is looked at by nobody.
            let flush = presence
                .flush_of(node.id())
                .unwrap_or_else(|| Arc::new(NodeFlush::new(now, node.doubts())));
            let connected = Arc::<AtomicBool>::default();
            let writer = NodeWriter::new(presence, node, &flush, queues, connected.clone());
            let stop = presence.written_off();
            let work = stop.clone().run_until_cancelled_owned(writer.run());
            running.spawn(catch(Task::NodeWriter, work));
            NodeWriterHandle {
                work: sender,
                claimed: Arc::default(),
                flush,
                connected,
            }
        });
        let mut by_node = self.by_node.write().unwrap_or_else(PoisonError::into_inner);
        *by_node = Arc::new(next);
    }
}

impl NodeWriterHandle {
    /// How the flushes to its node go.
    pub(super) fn flush(&self) -> &Arc<NodeFlush> {
        &self.flush
    }

    /// Whether it has a connection: without one, work is given back at once.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether the node writer has a batch of `shard`.
    pub(super) fn is_claimed(&self, shard: usize) -> bool {
        ShardClaim::is_taken(&self.claimed, shard)
    }

    /// Notes that the node writer has a batch of `shard`; `None` if it has one already.
    pub(super) fn claim(&self, shard: usize) -> Option<ShardClaim> {
        ShardClaim::take(&self.claimed, shard)
    }
}
