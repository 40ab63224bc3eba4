//! What is missing on a node, and why: lost, out of reach for too long, or evicted.

use std::time::Duration;

use super::Look;
use super::evictions::Evicted;
use crate::limits::WARNING_PAUSE;

/// Why a sentinel is missing that was there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missed {
    /// The node has lost its data, or has evicted it.
    Lost,
    /// The node was out of reach for as long as it lives: nothing need be lost.
    Expired,
}

impl Look {
    /// Notes what `stats` has told of evictions; `None` if it could not be asked. That the sentinel
    /// was missing is no reason to write all again where it was evicted with the rest, as this
    /// would only push out others.
    pub(super) fn note_evictions(&mut self, evicted: Option<Evicted>) {
        if evicted.is_some() || self.evictions.are_unsupported() {
            self.node
                .note_look(evicted.is_some_and(|evicted| evicted.may_be_entries));
        } else {
            self.node.note_no_look();
        }
        let evicted = evicted.unwrap_or_default();
        if evicted.items > 0 {
            self.node.evicted(evicted.items);
        }
        if evicted.may_be_entries && self.evictions_logged.is_due(WARNING_PAUSE) {
            tracing::warn!(
                node = %self.node.addr(),
                evicted = evicted.items,
                "memcached is full and evicts entries before they expire: users who are not found are unknown"
            );
        }
        let is_evicted = evicted.items > 0 && evicted.is_all;
        match self.missed.take().filter(|_| !is_evicted) {
            Some(Missed::Lost) => self.cluster.lost(&self.node),
            Some(Missed::Expired) => self.cluster.mark_suspect(&self.node),
            None => {}
        }
    }

    /// The sentinel was there, and is no more.
    pub(super) fn note_missed(&mut self) {
        // memcached is exact to a second.
        let ttl_s = self.cluster.config().marker.ttl_s();
        let lifetime = Duration::from_secs(ttl_s.saturating_sub(1).into());
        let is_alive = self.touched_at.is_some_and(|at| at.elapsed() < lifetime);
        self.missed.get_or_insert(match is_alive {
            true => Missed::Lost,
            false => Missed::Expired,
        });
    }
}
