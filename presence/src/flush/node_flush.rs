//! How the flushes to one node go, and whether this process is late with what it owes to the node.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::limits::{CONNECT_LATE_AFTER, SHARDS, TTL_LEFT_LATE_FOR, WAITING_PART, WAITING_PARTS};

/// The flushes to one node, of all workers. Times are of the monotonic clock.
#[derive(Debug)]
pub(super) struct NodeFlush {
    /// By shard: when the last flush began after which nothing was left for the node, ms.
    settled_ms: [AtomicU64; SHARDS],
    /// By shard: a flush that began at this time or later, ms, must have settled; until then
    /// entries are missing.
    owed_ms: [AtomicU64; SHARDS],
    /// By shard: for how many doubts about the node its users were written again.
    refilled: [AtomicU64; SHARDS],
    /// Users who have connected and whose first `set` is not answered, by when they came.
    waiting: [AtomicU32; WAITING_PARTS],
    /// How often the node had lost its data when that was last looked at, and when it last had.
    losses: AtomicU64,
    lost_at_s: AtomicU32,
    /// When an entry was last renewed that had next to nothing left of its TTL, ms.
    expired_ms: AtomicU64,
}

impl NodeFlush {
    /// To a node that was added at `now` and has been doubted so often before.
    pub(super) fn new(now: Duration, doubts: u64) -> NodeFlush {
        NodeFlush {
            settled_ms: array::from_fn(|_| AtomicU64::new(ms(now))),
            owed_ms: array::from_fn(|_| AtomicU64::new(0)),
            refilled: array::from_fn(|_| AtomicU64::new(doubts)),
            waiting: array::from_fn(|_| AtomicU32::new(0)),
            losses: AtomicU64::new(0),
            lost_at_s: AtomicU32::new(0),
            expired_ms: AtomicU64::new(0),
        }
    }

    /// A flush of `shard` that began at this time has left nothing.
    pub(super) fn settled(&self, shard: usize, began: Duration) {
        self.settled_ms[shard].fetch_max(ms(began), Ordering::Relaxed);
    }

    /// Users of `shard` were made pending whose entries are missing.
    pub(super) fn owes(&self, shard: usize, now: Duration) {
        self.owed_ms[shard].fetch_max(ms(now) + 1, Ordering::Relaxed);
    }

    /// All users of `shard` were written again, or are pending, after this number of doubts.
    pub(super) fn refilled(&self, shard: usize, doubts: u64) {
        self.refilled[shard].fetch_max(doubts, Ordering::Relaxed);
    }

    /// The node had lost its data so often at `now_s`.
    pub(super) fn note_losses(&self, losses: u64, now_s: u32) {
        if self.losses.fetch_max(losses, Ordering::Relaxed) < losses {
            self.lost_at_s.fetch_max(now_s, Ordering::Relaxed);
        }
    }

    /// When it was last found to have lost its data, in seconds of the monotonic clock; 0 for
    /// never.
    pub(super) fn lost_at_s(&self) -> u32 {
        self.lost_at_s.load(Ordering::Relaxed)
    }

    /// An entry was renewed when it had expired, or nearly.
    pub(super) fn renewed_late(&self, now: Duration) {
        self.expired_ms.fetch_max(ms(now), Ordering::Relaxed);
    }

    /// How long ago the last flush began after which nothing was left, of the shard where that is
    /// longest.
    pub(super) fn lag(&self, now: Duration) -> Duration {
        now.saturating_sub(self.all_settled())
    }

    /// Flushes that began before it have all left nothing.
    pub(super) fn all_settled(&self) -> Duration {
        let settled = self.settled_ms.iter().map(|ms| ms.load(Ordering::Relaxed));
        Duration::from_millis(settled.min().unwrap_or_default())
    }

    /// Whether entries are missing: of users who have connected, or that the node has lost.
    pub(super) fn has_debts(&self, now: Duration, doubts: u64) -> bool {
        let is_owed = |shard: usize| {
            let settled = self.settled_ms[shard].load(Ordering::Relaxed);
            settled < self.owed_ms[shard].load(Ordering::Relaxed)
        };
        let is_lost = |shard: usize| self.refilled[shard].load(Ordering::Relaxed) < doubts;
        let expired_ms = self.expired_ms.load(Ordering::Relaxed);
        let has_expired =
            expired_ms != 0 && ms(now) < expired_ms + TTL_LEFT_LATE_FOR.as_millis() as u64;
        has_expired
            || (0..SHARDS).any(|shard| is_owed(shard) || is_lost(shard))
            || self.has_waiting(now)
    }

    /// Whether a user has waited for [`CONNECT_LATE_AFTER`].
    fn has_waiting(&self, now: Duration) -> bool {
        let now = part(now);
        let recent = (CONNECT_LATE_AFTER.as_millis() / WAITING_PART.as_millis()) as usize;
        // The part that has just begun, and those before it that are not old enough.
        let older = recent..WAITING_PARTS;
        older
            .map(|age| (now + WAITING_PARTS - age) % WAITING_PARTS)
            .any(|part| self.waiting[part].load(Ordering::Relaxed) != 0)
    }
}

/// A user who has connected and whose first `set` is not answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    flush: Arc<NodeFlush>,
    part: usize,
}

impl Waiting {
    /// Since `now`.
    pub(super) fn new(flush: &Arc<NodeFlush>, now: Duration) -> Waiting {
        let part = part(now);
        flush.waiting[part].fetch_add(1, Ordering::Relaxed);
        Waiting {
            flush: flush.clone(),
            part,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.flush.waiting[self.part].fetch_sub(1, Ordering::Relaxed);
    }
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn part(time: Duration) -> usize {
    (time.as_millis() / WAITING_PART.as_millis()) as usize % WAITING_PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_owed_is_paid_by_a_flush_that_began_later() {
        let flush = NodeFlush::new(SECOND, 0);
        assert!(!flush.has_debts(SECOND, 0));
        flush.owes(3, SECOND * 2);
        flush.settled(3, SECOND * 2);
        assert!(
            flush.has_debts(SECOND * 2, 0),
            "it may have begun just before"
        );
        flush.settled(4, SECOND * 3);
        assert!(flush.has_debts(SECOND * 3, 0), "another shard");
        flush.settled(3, SECOND * 3);
        assert!(!flush.has_debts(SECOND * 3, 0));
    }

    #[test]
    fn a_doubt_is_a_debt_until_all_shards_are_refilled() {
        let flush = NodeFlush::new(SECOND, 1);
        assert!(!flush.has_debts(SECOND, 1));
        (1..SHARDS).for_each(|shard| flush.refilled(shard, 2));
        assert!(flush.has_debts(SECOND, 2));
        flush.refilled(0, 2);
        assert!(!flush.has_debts(SECOND, 2));
    }

    #[test]
    fn a_user_who_waits_for_half_a_second_is_a_debt() {
        let flush = Arc::new(NodeFlush::new(Duration::ZERO, 0));
        for offset in (0..2000).step_by(25) {
            let came = SECOND * 20 + Duration::from_millis(offset);
            let waiting = Waiting::new(&flush, came);
            let after = |ms| came + Duration::from_millis(ms);
            assert!(!flush.has_debts(after(374), 0), "{offset}");
            assert!(flush.has_debts(after(500), 0), "{offset}");
            assert!(flush.has_debts(after(7500), 0), "{offset}");
            drop(waiting);
            assert!(!flush.has_debts(after(500), 0), "{offset}");
        }
    }

    #[test]
    fn an_entry_that_had_expired_is_a_debt_for_a_while() {
        let flush = NodeFlush::new(SECOND, 0);
        flush.renewed_late(SECOND * 5);
        assert!(flush.has_debts(SECOND * 6, 0));
        assert!(!flush.has_debts(SECOND * 7, 0));
    }

    #[test]
    fn the_lag_is_that_of_the_last_shard() {
        let flush = NodeFlush::new(SECOND, 0);
        (1..SHARDS).for_each(|shard| flush.settled(shard, SECOND * 9));
        assert_eq!(flush.lag(SECOND * 10), SECOND * 9);
        flush.settled(0, SECOND * 8);
        assert_eq!(
            (flush.lag(SECOND * 10), flush.all_settled()),
            (SECOND * 2, SECOND * 8)
        );
    }
}
