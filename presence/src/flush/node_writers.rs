//! A worker's node writers, by node, as nodes come and go.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use presenced_memcached::Node;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use super::node_writer::NodeWriter;
use super::state::Presence;
use super::work::{ShardClaim, Work};
use crate::limits::NODE_WRITER_QUEUE;

/// The node writers of one worker.
#[derive(Debug)]
pub(super) struct NodeWriters {
    /// By the node's number.
    by_node: RwLock<Arc<Vec<Option<NodeWriterHandle>>>>,
}

/// How work comes to a node writer, which ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct NodeWriterHandle {
    node: Arc<Node>,
    queue: Sender<Work>,
    claimed: Arc<AtomicU64>,
}

impl NodeWriters {
    /// The node writers of the nodes that there are now, and the task that keeps up with the cluster. It
    /// ends only if a node writer did, which none should.
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
            loop {
                tokio::select! {
                    changed = changes.changed() => match changed {
                        Ok(()) => kept.follow(&presence, &mut running),
                        Err(_) => return,
                    },
                    // One ends when its node is gone; with an error only if it panicked.
                    Some(Err(error)) = running.join_next() => {
                        tracing::error!(%error, "a node writer to memcached ended");
                        return;
                    }
                }
            }
        };
        (writers, keeper)
    }

    /// As they are now.
    pub(super) fn all(&self) -> Arc<Vec<Option<NodeWriterHandle>>> {
        let by_node = self.by_node.read();
        by_node.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts node writers to nodes that are new, lets go of those whose nodes are gone.
    fn follow(&self, presence: &Arc<Presence>, running: &mut JoinSet<()>) {
        let topology = presence.cluster().topology();
        let before = self.all();
        let mut next: Vec<Option<NodeWriterHandle>> = Vec::new();
        for node in topology.nodes() {
            let place = usize::from(node.id());
            if next.len() <= place {
                next.resize(place + 1, None);
            }
            let known = before.get(place).and_then(Option::as_ref);
            let known = known.filter(|writer| Arc::ptr_eq(&writer.node, node));
            next[place] = Some(known.cloned().unwrap_or_else(|| {
                let (sender, queue) = mpsc::channel(NODE_WRITER_QUEUE);
                let (writer, stop) = (
                    NodeWriter::new(presence, node, queue),
                    presence.written_off(),
                );
                let work = stop.clone().run_until_cancelled_owned(writer.run());
                running.spawn(async { work.await.unwrap_or_default() });
                NodeWriterHandle {
                    node: node.clone(),
                    queue: sender,
                    claimed: Arc::default(),
                }
            }));
        }
        let mut by_node = self.by_node.write().unwrap_or_else(PoisonError::into_inner);
        *by_node = Arc::new(next);
    }
}

impl NodeWriterHandle {
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Gives the work back if there is no room.
    pub(super) fn try_send(&self, work: Work) -> Result<(), Work> {
        self.queue
            .try_send(work)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Gives the work back if the node writer has ended.
    pub(super) async fn send(&self, work: Work) -> Result<(), Work> {
        self.queue.send(work).await.map_err(|error| error.0)
    }

    /// Notes that the node writer has a batch of `shard`; `None` if it has one already.
    pub(super) fn claim(&self, shard: usize) -> Option<ShardClaim> {
        ShardClaim::take(&self.claimed, shard)
    }
}
