//! When a node's marker has to be renewed sooner than at the next look.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Look, Writes};
use crate::limits::LATE_CHECK_INTERVAL;
use crate::{Cluster, Node};

/// When the marker has to be renewed.
pub(super) struct Renewal {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
    writes: Arc<dyn Writes>,
    changes: watch::Receiver<()>,
    /// As the last look has seen them.
    renewals: u64,
    version: u64,
    /// By the last look: then it is enough that the next one does it again.
    was_renewed: bool,
}

impl Renewal {
    pub(super) fn of(look: &Look, was_renewed: bool) -> Renewal {
        Renewal {
            cluster: look.cluster.clone(),
            node: look.node.clone(),
            writes: look.config.writes.clone(),
            changes: look.cluster.changes(),
            renewals: look.tried,
            version: look.version,
            was_renewed,
        }
    }

    /// Returns when it has to be, sooner than at the next look.
    pub(super) async fn due(mut self) {
        loop {
            if self.cluster.announced().version() != self.version {
                return;
            }
            tokio::select! {
                biased;
                // The cluster, which is held here, has the other end.
                _ = self.changes.changed() => {}
                () = sleep(LATE_CHECK_INTERVAL) => {}
            }
            let is_owed =
                self.cluster.renewals() != self.renewals || self.writes.are_late(&self.node);
            if is_owed && !self.was_renewed {
                return;
            }
        }
    }
}
