//! The process's sentinel on a node, as its probe has found it, and whether other connections lead
//! to the server that has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Node, Up, lock};
use crate::limits::SEVERAL_SERVERS_PAUSE;

/// What a probe knows of the process's sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sentinel {
    /// It has not looked, or can't.
    NotKnown,
    /// The node does not take it.
    Refused,
    /// It is there; the number is another each time that it had to be put there anew.
    There(u64),
}

/// The probe of a node has not looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLooked;

/// What is stored as the sentinel with this number: another server may still have an older one.
pub fn sentinel_value(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl Node {
    /// The key of the process's sentinel, if there is a probe that keeps one.
    pub fn sentinel_key(&self) -> Option<&str> {
        self.access.sentinel.as_deref()
    }

    /// What a connection must find under [`Node::sentinel_key`] to lead to the server that the
    /// probe asks. `None` if there need be nothing; an error as long as that is not known, because
    /// the probe has not looked.
    ///
    /// # Errors
    ///
    /// The probe has not looked.
    pub fn wanted_sentinel(&self) -> Result<Option<Vec<u8>>, NotLooked> {
        match (self.sentinel_key(), *self.sentinel.borrow()) {
            (None, _) | (_, Sentinel::Refused) => Ok(None),
            (_, Sentinel::There(number)) => Ok(Some(sentinel_value(number))),
            (_, Sentinel::NotKnown) => Err(NotLooked),
        }
    }

    /// The sentinel's number, as soon as the probe has found it or put it there; `None` if there is
    /// none.
    pub(crate) async fn sentinel(&self) -> Option<u64> {
        self.sentinel_key()?;
        let mut known = self.sentinel.subscribe();
        // The node itself has the other end.
        let known = known.wait_for(|known| *known != Sentinel::NotKnown).await;
        match *known.ok()? {
            Sentinel::There(number) => Some(number),
            Sentinel::NotKnown | Sentinel::Refused => None,
        }
    }

    /// Returns when the sentinel is another than that with this number.
    pub(crate) async fn another_sentinel(&self, than: Option<u64>) {
        let is_another =
            |known: &Sentinel| matches!(*known, Sentinel::There(number) if Some(number) != than);
        // The node itself has the other end.
        let _ = self.sentinel.subscribe().wait_for(is_another).await;
    }

    pub(crate) fn set_sentinel(&self, known: Sentinel) {
        self.sentinel.send_replace(known);
    }

    /// A connection was greeted, and waits for the probe to find the sentinel.
    pub(crate) fn note_greeting(&self) {
        self.greeted.notify_waiters();
    }

    /// Returns when a connection is greeted.
    pub(crate) async fn greeted(&self) {
        self.greeted.notified().await;
    }

    /// Whether a connection that writes and is up did not find the probe's sentinel: there are
    /// several servers behind the node's name, and none of them knows what another was told.
    pub fn is_several_servers(&self) -> bool {
        self.elsewhere.load(Ordering::Relaxed) > 0
    }

    /// Counts such a connection, until the result is dropped.
    pub(crate) fn writes_elsewhere(self: &Arc<Node>) -> Up {
        Up::new(self, |node| &node.elsewhere)
    }

    /// The probe has found its sentinel while a connection had not: one that writes, or one that
    /// asks.
    pub fn note_several_servers(&self) {
        self.several_servers_seen.fetch_add(1, Ordering::Relaxed);
        if lock(&self.several_servers_logged).is_due(SEVERAL_SERVERS_PAUSE) {
            tracing::warn!(
                node = %self.addr,
                "connections to this node lead to several servers: users who are not found there are \
                 unknown; list the servers one by one, or use dns+"
            );
        }
    }

    /// How often the probe has found that.
    pub fn several_servers_seen(&self) -> u64 {
        self.several_servers_seen.load(Ordering::Relaxed)
    }
}
