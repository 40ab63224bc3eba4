//! What a process owes to nodes, as far as their probes must know it.

use std::fmt;

use crate::Node;

/// What a process writes to nodes, as far as a probe must know it.
pub trait Writes: fmt::Debug + Send + Sync {
    /// Whether this process has entries to keep at all.
    fn has_any(&self) -> bool;

    /// Whether an entry of this process may be missing on `node`, or may soon be: nobody is to
    /// believe then that what is not found is not there.
    fn are_late(&self, node: &Node) -> bool;
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
}
