//! What a process owes to nodes, as far as their probes must know it.

use std::fmt;
use std::time::Duration;

use crate::Node;

/// What a process writes to nodes, as far as a probe must know it.
pub trait Writes: fmt::Debug + Send + Sync {
    /// Whether this process has entries to keep at all.
    fn has_any(&self) -> bool;

    /// Whether an entry of this process may be missing on `node`, or may soon be: nobody is to
    /// believe then that what is not found is not there.
    fn are_late(&self, node: &Node) -> bool;

    /// How old the oldest entry may be that should have been written to `node` by now; `None` while there is
    /// time enough for all. Then they [are late](Writes::are_late), too.
    fn overdue(&self, node: &Node) -> Option<Duration>;
}

/// Of a process that only asks.
#[derive(Clone, Copy, Debug)]
pub struct NoWrites;

impl Writes for NoWrites {
    fn has_any(&self) -> bool {
        false
    }

    fn are_late(&self, _node: &Node) -> bool {
        false
    }

    fn overdue(&self, _node: &Node) -> Option<Duration> {
        None
    }
}

/// Logs that what is owed to a node is overdue: once when that begins, and once when it is over.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    is_logged: bool,
}

impl Overdue {
    /// Looks whether it is now.
    pub(super) fn look(&mut self, writes: &dyn Writes, node: &Node) {
        let overdue = writes.overdue(node);
        match (overdue, self.is_logged) {
            (Some(oldest_unwritten), false) => tracing::warn!(
                node = %node.addr(),
                ?oldest_unwritten,
                "heartbeats are late: users of this node who are not found are unknown here meanwhile"
            ),
            (None, true) => {
                tracing::info!(node = %node.addr(), "heartbeats are written in time again");
            }
            _ => return,
        }
        self.is_logged = overdue.is_some();
    }
}
