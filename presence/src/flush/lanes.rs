//! A worker's lanes, by node, as nodes come and go.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use presenced_memcached::Node;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use super::lane::Lane;
use super::state::Presence;
use super::work::{Carrying, Work};
use crate::limits::LANE_QUEUE;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Lanes {
    /// By the node's number.
    by_node: RwLock<Arc<Vec<Option<LaneHandle>>>>,
}

/// How work comes to a lane, which ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct LaneHandle {
    node: Arc<Node>,
    queue: Sender<Work>,
    carried: Arc<AtomicU64>,
}

impl Lanes {
    /// The lanes of the nodes that there are now, and the task that keeps up with the cluster. It
    /// ends only if a lane did, which none should.
    pub(super) fn start(
        presence: &Arc<Presence>,
    ) -> (Arc<Lanes>, impl Future<Output = ()> + use<>) {
        let lanes = Arc::new(Lanes {
            by_node: RwLock::default(),
        });
        let mut changes = presence.cluster().changes();
        let mut running = JoinSet::new();
        lanes.follow(presence, &mut running);
        let (kept, presence) = (lanes.clone(), presence.clone());
        let keeper = async move {
            loop {
                tokio::select! {
                    changed = changes.changed() => match changed {
                        Ok(()) => kept.follow(&presence, &mut running),
                        Err(_) => return,
                    },
                    // One ends when its node is gone; with an error only if it panicked.
                    Some(Err(error)) = running.join_next() => {
                        tracing::error!(%error, "a lane to memcached ended");
                        return;
                    }
                }
            }
        };
        (lanes, keeper)
    }

    /// As they are now.
    pub(super) fn all(&self) -> Arc<Vec<Option<LaneHandle>>> {
        let by_node = self.by_node.read();
        by_node.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts lanes to nodes that are new, lets go of those whose nodes are gone.
    fn follow(&self, presence: &Arc<Presence>, running: &mut JoinSet<()>) {
        let topology = presence.cluster().topology();
        let before = self.all();
        let mut next: Vec<Option<LaneHandle>> = Vec::new();
        for node in topology.nodes() {
            let place = usize::from(node.id());
            if next.len() <= place {
                next.resize(place + 1, None);
            }
            let known = before.get(place).and_then(Option::as_ref);
            let known = known.filter(|lane| Arc::ptr_eq(&lane.node, node));
            next[place] = Some(known.cloned().unwrap_or_else(|| {
                let (sender, queue) = mpsc::channel(LANE_QUEUE);
                let (lane, stop) = (Lane::new(presence, node, queue), presence.written_off());
                let work = stop.clone().run_until_cancelled_owned(lane.run());
                running.spawn(async { work.await.unwrap_or_default() });
                LaneHandle {
                    node: node.clone(),
                    queue: sender,
                    carried: Arc::default(),
                }
            }));
        }
        let mut by_node = self.by_node.write().unwrap_or_else(PoisonError::into_inner);
        *by_node = Arc::new(next);
    }
}

impl LaneHandle {
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Gives the work back if there is no room.
    pub(super) fn try_send(&self, work: Work) -> Result<(), Work> {
        self.queue
            .try_send(work)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Gives the work back if the lane has ended.
    pub(super) async fn send(&self, work: Work) -> Result<(), Work> {
        self.queue.send(work).await.map_err(|error| error.0)
    }

    /// Notes that the lane has a batch of `shard`; nothing if it has one already.
    pub(super) fn carry(&self, shard: usize) -> Option<Carrying> {
        Carrying::take(&self.carried, shard)
    }
}
