//! What a node writer has in flight, and what a reply means.

use std::collections::VecDeque;
use std::sync::Arc;

use presenced_memcached::Node;
use presenced_memcached::pipeline::Outcome;

use super::state::Presence;
use super::work::{Purpose, Work};
use crate::slot::Slot;

/// The `set`s of a node writer that memcached has not answered yet, and what they are for.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) presence: Arc<Presence>,
    node: Arc<Node>,
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
    pub(super) fn new(presence: &Arc<Presence>, node: &Arc<Node>) -> InFlight {
        InFlight {
            presence: presence.clone(),
            node: node.clone(),
            replies: VecDeque::new(),
            stored: 0,
            renewed: 0,
            written_at_s: 0,
        }
    }

    /// There is no connection any more: nothing that is in flight will be answered.
    pub(super) fn abandon(&mut self) {
        for reply in self.replies.drain(..) {
            if let Purpose::Flush(guard) = &reply.purpose
                && reply.left > 0
            {
                guard.fail();
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
                self.presence.give_back([sent.take_back(&self.presence)]);
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
            let left_s = ttl_s.saturating_sub(ago_s);
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
            Work::Connect(slot, _guard) => self.presence.give_back([slot]),
            Work::Shard(batch) => batch.give_back(&self.presence),
            Work::Barrier(_) => {}
        }
    }
}
