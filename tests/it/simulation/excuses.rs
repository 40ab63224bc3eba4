//! What excuses there are for what is checked of a run: faults, and the time that it takes to get over them.

use std::time::Duration;

use presenced_testkit::fleet::Session;
use tokio::time::Instant;

use super::faults::{Active, DRAIN_TIME, Fault, Outage};
use super::run::Run;

/// How old a session is when no edge may call its user offline.
pub(super) const SETTLED_AGE: Duration = Duration::from_secs(1);

/// How long after an edge can reach a node again it may take to say that it owes: a pause between tries to
/// connect, and a look.
pub(super) const RETURN: Duration = Duration::from_secs(4);

/// How long an edge can be cut off from a node, or stand still, before the entries that it should have
/// renewed may end: TTL - ping interval - ping timeout - flush interval.
const HEADROOM: Duration = Duration::from_secs(10);

/// How long after an eviction edges believe no miss: a TTL, less a look.
pub(super) const EVICTIONS_KNOWN_FOR: Duration = Duration::from_secs(58);

/// How long after a node has evicted entries it may be asked before that is known.
const EVICTION_NOTICED: Duration = Duration::from_secs(2);

/// How long after a node has lost its data nobody can be called offline who is not found there: a TTL and a
/// flush interval, less the second that memcached is exact to.
const UNKNOWN_AFTER_LOSS: Duration = Duration::from_secs(64);

/// How soon an edge has seen another's ring on a node that they share, and has renewed the markers of all others: a
/// look, and the pause until its other probes do.
const RING_SEEN: Duration = Duration::from_secs(3);

/// How soon after a change of the ring users are pending who have another node now: a flush interval, the pause
/// between two looks at the list, and some.
const REMAPPED_AFTER: Duration = Duration::from_secs(8);

/// After how long without a device a user is offline everywhere: a TTL, a flush interval and what an
/// answer may take.
const GHOST_AGE: Duration = Duration::from_secs(67);

/// The same where each edge runs and reaches its nodes: nothing is written of a user who has left but what was in
/// flight, for a second, and memcached is exact to a second.
const GHOST_AGE_AT_BEST: Duration = Duration::from_secs(63);

/// After how long without a fault every user is stored: the next heartbeat of each has come, is answered
/// and written, by an edge that has recovered.
const STORED_AFTER: Duration = Duration::from_secs(45);

/// The same where nodes have lost their data and nothing else was wrong: a pause between tries to connect,
/// and a look; then all users are written again.
const REFILLED_AFTER: Duration = Duration::from_secs(5);

/// The same where only writes were held up: a pause between tries to connect, a flush interval and a second.
const FLUSHED_AFTER: Duration = Duration::from_secs(9);

impl Run<'_> {
    /// Whether the entry of a session may be missing on its node although the node's marker is whole: its edge
    /// and the node could not speak to each other, and that began before the user connected, before the node
    /// lost its data or the ring changed, or so long ago that entries have ended; or entries were evicted just
    /// now.
    pub(super) fn may_be_missing(&self, session: &Session, node: u8) -> bool {
        let lost = self.lost.get(&node).copied();
        if lost.is_some_and(|at| (SETTLED_AGE..UNKNOWN_AFTER_LOSS).contains(&at.elapsed())) {
            // Its marker is gone, too, and is not whole again.
            return false;
        }
        let changed = lost.max(self.relisted);
        let excuses = |outage: &Outage| {
            let ended = outage.ended.unwrap_or_else(Instant::now);
            let is_new = session.connected + SETTLED_AGE > outage.began;
            let is_changed = changed.is_some_and(|changed| changed + RETURN > outage.began);
            let is_overdue = ended - outage.began > HEADROOM;
            (outage.edge, outage.node) == (session.edge, node)
                && ended.elapsed() < RETURN
                && (is_new || is_changed || is_overdue)
        };
        let evicted = self.evicted.get(&node);
        evicted.is_some_and(|at| at.elapsed() < EVICTION_NOTICED)
            || self.outages.iter().any(excuses)
    }

    /// Whether an observer who asks another node than the session's may not have heard of a change of the ring: the
    /// edge that has changed it could not tell that node, and has only just told those that they share.
    pub(super) fn has_just_moved(&self, session: &Session, node: u8, asked: u8) -> bool {
        let is_cut = self
            .outages
            .iter()
            .any(|outage| (outage.edge, outage.node) == (session.edge, asked));
        let is_new = self.relisted.is_some_and(|at| at.elapsed() < RING_SEEN);
        node != asked && is_cut && is_new
    }

    /// Whether an edge may not know yet that it has to write its users to a node again, or be about to.
    pub(super) fn is_recovering(&self, edge: u64, node: u8) -> bool {
        let refill = self.kind.refill_time();
        let lost = self.lost.get(&node);
        let is_away = |active: &Active| active.fault == Fault::Restart && active.node == node;
        let is_lost = lost.is_some_and(|at| at.elapsed() < REFILLED_AFTER + refill)
            || self.active.iter().any(is_away);
        let is_relisted = self
            .relisted
            .is_some_and(|at| at.elapsed() < REMAPPED_AFTER);
        let is_cut = self
            .outages
            .iter()
            .any(|outage| (outage.edge, outage.node) == (edge, node));
        // What was lost is not written again while writes don't arrive.
        let holds = self.active.iter().any(|active| {
            let stops_writes = matches!(active.fault, Fault::HoldWrites | Fault::Refuse);
            stops_writes && (active.edge, active.node) == (edge, node)
        });
        let is_held =
            holds || self.kind.at_once > 1 && self.quiet_since.elapsed() < REFILLED_AFTER + refill;
        let was_lost = lost.is_some_and(|at| at.elapsed() < UNKNOWN_AFTER_LOSS * 4);
        is_lost || is_relisted || is_cut || is_held && was_lost
    }

    /// What is written by an edge that is drained lasts for longer.
    pub(super) fn ghost_age(&self) -> Duration {
        match self.kind.faults {
            [] | [Fault::HoldWrites | Fault::Refuse | Fault::Stale] => GHOST_AGE_AT_BEST,
            faults if faults.contains(&Fault::Drain) => GHOST_AGE + DRAIN_TIME,
            _ => GHOST_AGE,
        }
    }

    /// After how long without a fault every user is stored.
    pub(super) fn stored_after(&self) -> Duration {
        let losses = [Fault::Restart, Fault::FlushAll, Fault::DelayedFlush];
        let are_losses = self.kind.faults.iter().all(|fault| losses.contains(fault));
        match self.kind.faults {
            [Fault::HoldWrites | Fault::Refuse] => FLUSHED_AFTER,
            _ if are_losses => REFILLED_AFTER + self.kind.refill_time(),
            _ => STORED_AFTER,
        }
    }
}
