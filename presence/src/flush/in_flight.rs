//! What a node writer has in flight, and what a reply means.

use std::collections::VecDeque;
use std::sync::Arc;

use presenced_memcached::Node;
use presenced_memcached::pipeline::Outcome;

use super::node_flush::NodeFlush;
use super::state::Presence;
use super::work::{Purpose, Work};
use crate::limits::TTL_LEFT_LATE_S;
use crate::slot::Slot;

/// The `set`s of a node writer that memcached has not answered yet, and what they are for.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) presence: Arc<Presence>,
    node: Arc<Node>,
    flush: Arc<NodeFlush>,
    /// In the order of the commands; the sum of `left` is what is in flight.
    replies: VecDeque<PendingReply>,
    /// Stored and not counted yet, all of them with entries of the same age.
    stored: u64,
    /// Of those, how many had an entry before, and when it was written.
    renewed: u64,
    written_at_s: u32,
}

/// A `set` that is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) slot: Slot,
    /// When the entry was written before; 0 for never.
    pub(super) written_at_s: u32,
}

impl Sent {
    /// It was not acknowledged.
    pub(super) fn take_back(self, presence: &Presence) -> Slot {
        presence.users().not_written(self.slot, self.written_at_s);
        self.slot
    }
}

/// The replies that a piece of work still waits for.
#[derive(Debug)]
struct PendingReply {
    /// Commands without an answer.
    left: usize,
    /// More commands may come.
    open: bool,
    purpose: Purpose,
}

impl InFlight {
    pub(super) fn new(
        presence: &Arc<Presence>,
        node: &Arc<Node>,
        flush: &Arc<NodeFlush>,
    ) -> InFlight {
        InFlight {
            presence: presence.clone(),
            node: node.clone(),
            flush: flush.clone(),
            replies: VecDeque::new(),
            stored: 0,
            renewed: 0,
            written_at_s: 0,
        }
    }

    /// There is no connection any more: nothing that is in flight will be answered.
    pub(super) fn abandon(&mut self) {
        let now = self.presence.clock().now();
        for reply in self.replies.drain(..).filter(|reply| reply.left > 0) {
            match &reply.purpose {
                Purpose::Flush(guard) => guard.fail(),
                // The user is pending by now.
                Purpose::Connect { slot, .. } => self.flush.owes(slot.shard(), now),
                Purpose::Barrier(_) => {}
            }
        }
    }

    pub(super) fn open(&mut self, purpose: Purpose) {
        self.replies.push_back(PendingReply {
            left: 0,
            open: true,
            purpose,
        });
    }

    pub(super) fn pushed(&mut self, commands: usize) {
        if let Some(reply) = self.replies.back_mut() {
            reply.left += commands;
        }
    }

    pub(super) fn close(&mut self) {
        if let Some(reply) = self.replies.back_mut() {
            reply.open = false;
        }
        self.finish();
    }

    pub(super) fn settle(&mut self, sent: Sent, outcome: Outcome) {
        // The commands of one piece of work are all answered before those of the next.
        let Some(reply) = self.replies.iter_mut().find(|reply| reply.left > 0) else {
            return;
        };
        reply.left -= 1;
        match outcome {
            Outcome::Stored => {
                // Most of a run were written at once, so are counted at once.
                if sent.written_at_s != self.written_at_s {
                    self.note_written();
                    self.written_at_s = sent.written_at_s;
                }
                self.stored += 1;
                self.renewed += u64::from(sent.written_at_s != 0);
            }
            Outcome::Refused => {
                if let Purpose::Flush(guard) = &reply.purpose {
                    guard.fail();
                }
                self.node.refused(1);
                let slot = sent.take_back(&self.presence);
                // memcached drops the entry that it could not replace.
                self.presence.owe(slot, Some(&self.flush));
            }
        }
        let is_done = self.replies.front().is_some_and(|reply| reply.left == 0);
        if is_done {
            self.finish();
        }
    }

    /// Counts what was stored since the last time.
    pub(super) fn note_written(&mut self) {
        if self.stored == 0 {
            return;
        }
        let metrics = self.presence.metrics();
        metrics.flushed.add(std::mem::take(&mut self.stored));
        if self.renewed != 0 {
            let ttl_s = self.presence.ttl_s();
            let ago_s = self.presence.now_s().saturating_sub(self.written_at_s);
            let is_lost = self.written_at_s <= self.flush.lost_at_s();
            let left_s = match is_lost {
                true => 0,
                false => ttl_s.saturating_sub(ago_s),
            };
            if !is_lost && left_s <= TTL_LEFT_LATE_S {
                self.flush.renewed_late(self.presence.clock().now());
            }
            let renewed = std::mem::take(&mut self.renewed);
            metrics.ttl_left.observe(left_s, ttl_s, renewed);
        }
    }

    /// Takes leave of what is settled.
    fn finish(&mut self) {
        while let Some(reply) = self
            .replies
            .pop_front_if(|reply| !reply.open && reply.left == 0)
        {
            match reply.purpose {
                Purpose::Connect { .. } | Purpose::Flush(_) => {}
                // No one may be waiting any more.
                Purpose::Barrier(settled) => drop(settled.send(())),
            }
        }
    }

    /// There is no connection: everything goes back.
    pub(super) fn refuse(&self, work: Work) {
        match work {
            Work::Connect(slot, ..) => self.presence.owe(slot, Some(&self.flush)),
            Work::Shard(batch) => batch.give_back(&self.presence),
            Work::Barrier(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use presenced_memcached::{Cluster, NodeSpec};
    use presenced_session::clock::Clock;
    use presenced_session::slab::SessionKey;
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::sync::oneshot::{self};
    use tokio::time::advance;

    use super::super::node_flush::Waiting;
    use super::super::state::Round;
    use super::super::work::{Batch, BatchGuard, ShardClaim};
    use super::*;
    use crate::users::Live;
    use crate::{Config, Record, SessionId, UserId};

    /// In-flight commands to the one node of a presence.
    struct Tried {
        presence: Arc<Presence>,
        node: Arc<Node>,
        in_flight: InFlight,
    }

    impl Tried {
        fn new() -> Tried {
            let node = "127.0.0.1:1".parse::<NodeSpec>().unwrap().into();
            let cluster = Arc::new(Cluster::new([node], presenced_memcached::Config::default()));
            let node = cluster.topology().nodes()[0].clone();
            let record = Record::new("user:{userId}:online", "edge-1", 0, 1).unwrap();
            let config = Config::new(record);
            let presence = Presence::new(&config, cluster, Clock::start(), Arc::default());
            let presence = Arc::new(presence);
            Tried {
                in_flight: InFlight::new(&presence, &node, &presence.flush_of(node.id()).unwrap()),
                presence,
                node,
            }
        }

        /// A session of `user`, whose entry was written `written_at_s`, and whose `set` is in
        /// flight.
        fn sent(&self, user: &str, written_at_s: u32) -> Sent {
            let session = SessionId {
                worker: 0,
                key: SessionKey {
                    index: 0,
                    generation: 0,
                },
            };
            let live = Live {
                connected_at_ms: 1,
                session,
            };
            let user = UserId::new(user).unwrap();
            let slot = self.presence.connect(&user, live).slot;
            Sent { slot, written_at_s }
        }

        /// A flush of some shard, and what keeps it going.
        fn flush(&self, shard: usize) -> (Arc<Round>, Arc<BatchGuard>) {
            let (round, _) = self.presence.begin(shard);
            let claim = ShardClaim::take(&Arc::new(AtomicU64::new(0)), shard).unwrap();
            (round.clone(), Arc::new(BatchGuard::new(round, 0, claim)))
        }

        /// Work of `commands` that is all in flight. Returns its flush; the work alone keeps it
        /// going.
        fn carry(&mut self, shard: usize, commands: usize) -> Arc<Round> {
            let (round, guard) = self.flush(shard);
            self.in_flight.open(Purpose::Flush(guard));
            self.in_flight.pushed(commands);
            self.in_flight.close();
            round
        }

        fn barrier(&mut self) -> oneshot::Receiver<()> {
            let (settled, barrier) = oneshot::channel();
            self.in_flight.open(Purpose::Barrier(settled));
            self.in_flight.close();
            barrier
        }

        fn is_pending(&self, sent: Sent) -> bool {
            let mut is_pending = false;
            self.presence.pending().drain(sent.slot.shard(), |slot| {
                is_pending |= slot == sent.slot;
            });
            is_pending
        }

        fn counts(&self) -> (u64, u64) {
            let metrics = self.presence.metrics();
            (metrics.flushed.value(), metrics.restored.value())
        }
    }

    /// Whether the work, which has the other reference, is done.
    fn is_done(round: &Arc<Round>) -> bool {
        Arc::strong_count(round) == 1
    }

    #[tokio::test]
    async fn replies_are_charged_to_work_in_its_order() {
        let mut tried = Tried::new();
        let (first, second) = (tried.carry(0, 2), tried.carry(1, 1));
        let sent = tried.sent("a", 0);
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(!is_done(&first) && !is_done(&second));
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(is_done(&first) && !is_done(&second));
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(is_done(&second));
        assert!(!first.has_failed() && !second.has_failed());
        tried.in_flight.note_written();
        assert_eq!(tried.counts(), (3, 0));
        // One that answers nothing changes nothing.
        tried.in_flight.settle(sent, Outcome::Refused);
        assert_eq!(tried.counts(), (3, 0));
    }

    #[tokio::test]
    async fn a_refusal_fails_its_own_flush_and_makes_its_user_pending() {
        let mut tried = Tried::new();
        let rounds = [tried.carry(0, 1), tried.carry(1, 2), tried.carry(2, 1)];
        let (good, refused) = (tried.sent("good", 0), tried.sent("refused", 0));
        for (sent, outcome) in [
            (good, Outcome::Stored),
            (refused, Outcome::Refused),
            (good, Outcome::Stored),
            (good, Outcome::Stored),
        ] {
            tried.in_flight.settle(sent, outcome);
        }
        assert!(rounds.iter().all(is_done));
        assert_eq!(
            rounds.each_ref().map(|round| round.has_failed()),
            [false, true, false]
        );
        assert!(tried.is_pending(refused) && !tried.is_pending(good));
        tried.in_flight.note_written();
        assert_eq!(tried.counts(), (3, 1));
        let errors = tried.node.errors().find(|(label, _)| *label == "refused");
        assert_eq!(errors, Some(("refused", 1)));
    }

    #[tokio::test]
    async fn a_refused_set_leaves_the_time_of_the_entry_before_it() {
        let tried = Tried::new();
        let sent = tried.sent("a", 7);
        let rendered = |expected| {
            let indexes = [sent.slot.index()];
            let users = tried.presence.users();
            users.render(sent.slot.shard(), &indexes, 9, |_, due| {
                assert_eq!(due.written_at_s, expected);
            })
        };
        assert_eq!((rendered(0), rendered(9)), (1, 1));
        assert_eq!(sent.take_back(&tried.presence), sent.slot);
        assert_eq!(rendered(7), 1);
    }

    #[tokio::test]
    async fn work_is_done_only_when_all_of_it_was_rendered() {
        let mut tried = Tried::new();
        let (round, guard) = tried.flush(0);
        tried.in_flight.open(Purpose::Flush(guard));
        let sent = tried.sent("a", 0);
        tried.in_flight.pushed(1);
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(!is_done(&round), "more may come");
        tried.in_flight.pushed(1);
        tried.in_flight.close();
        assert!(!is_done(&round), "one is in flight");
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(is_done(&round));
        // Nobody of the batch was here any more.
        let (round, guard) = tried.flush(1);
        tried.in_flight.open(Purpose::Flush(guard));
        tried.in_flight.pushed(0);
        tried.in_flight.close();
        assert!(is_done(&round) && !round.has_failed());
    }

    #[tokio::test]
    async fn a_barrier_is_answered_when_all_before_it_is_settled() {
        let mut tried = Tried::new();
        assert_eq!(
            tried.barrier().try_recv(),
            Ok(()),
            "there is nothing before it"
        );
        let round = tried.carry(0, 1);
        let mut first = tried.barrier();
        tried.carry(1, 1);
        let mut second = tried.barrier();
        let sent = tried.sent("a", 0);
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(is_done(&round));
        assert_eq!(first.try_recv(), Ok(()));
        assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
        tried.in_flight.settle(sent, Outcome::Refused);
        assert_eq!(second.try_recv(), Ok(()), "refused is settled, too");
    }

    #[tokio::test]
    async fn without_a_connection_only_what_is_unanswered_has_failed() {
        let mut tried = Tried::new();
        let (answered, guard) = tried.flush(0);
        tried.in_flight.open(Purpose::Flush(guard));
        tried.in_flight.pushed(1);
        let sent = tried.sent("a", 0);
        tried.in_flight.settle(sent, Outcome::Stored);
        let unanswered = tried.carry(1, 2);
        tried.in_flight.settle(sent, Outcome::Stored);
        let mut barrier = tried.barrier();
        tried.in_flight.abandon();
        assert!(is_done(&answered) && is_done(&unanswered));
        // What of it was not rendered yet is given back, and fails, with its batch.
        assert!(!answered.has_failed() && unanswered.has_failed());
        assert_eq!(barrier.try_recv(), Err(TryRecvError::Closed), "not settled");
        // The next connection begins with nothing.
        let next = tried.carry(2, 1);
        tried.in_flight.settle(sent, Outcome::Stored);
        assert!(is_done(&next) && !next.has_failed());
    }

    #[tokio::test]
    async fn work_that_comes_without_a_connection_goes_back() {
        let tried = Tried::new();
        let (connected, waiting) = (tried.sent("connected", 0), tried.sent("waiting", 0));
        let guard = tried.presence.users().slot_guard(connected.slot.shard());
        let since = Waiting::new(&tried.in_flight.flush, tried.presence.clock().now());
        let connect = Work::Connect(connected.slot, guard, since);
        tried.in_flight.refuse(connect);
        assert!(tried.is_pending(connected));
        let (round, guard) = tried.flush(waiting.slot.shard());
        let indexes = vec![waiting.slot.index()];
        let batch = Batch::new(waiting.slot.shard(), indexes, guard);
        tried.in_flight.refuse(Work::Shard(Box::new(batch)));
        assert!(tried.is_pending(waiting) && round.has_failed());
        let (settled, mut barrier) = oneshot::channel();
        tried.in_flight.refuse(Work::Barrier(settled));
        assert_eq!(barrier.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(tried.counts(), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_of_the_ttl_is_that_of_entries_of_the_same_age() {
        let mut tried = Tried::new();
        advance(Duration::from_secs(50)).await;
        tried.carry(0, 6);
        // Two that are new, three of 20 s ago, one of 44 s ago.
        for written_at_s in [0, 30, 30, 30, 0, 6] {
            let sent = tried.sent("a", written_at_s);
            tried.in_flight.settle(sent, Outcome::Stored);
        }
        tried.in_flight.note_written();
        assert_eq!(tried.counts(), (6, 0));
        let ttl_left = &tried.presence.metrics().ttl_left;
        let mut expected = [0; 12];
        // 40 of 60 s are up to 70 %, 16 of 60 s up to 30 %.
        (expected[8], expected[4]) = (3, 1);
        assert_eq!(ttl_left.counts(), expected);
        tried.in_flight.note_written();
        assert_eq!(
            (tried.counts(), ttl_left.counts()),
            ((6, 0), expected),
            "once"
        );
    }
}
