//! What is in flight on a lane, and what an answer means.

use std::collections::VecDeque;
use std::sync::Arc;

use presenced_memcached::Node;
use presenced_memcached::pipeline::Outcome;

use super::state::Presence;
use super::work::{Purpose, Work};
use crate::slot::Slot;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) presence: Arc<Presence>,
    node: Arc<Node>,
    /// In the order of the commands; the sum of `left` is what is in flight.
    marks: VecDeque<Mark>,
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

/// A piece of work that is in flight.
#[derive(Debug)]
struct Mark {
    /// Commands without an answer.
    left: usize,
    /// More commands may come.
    open: bool,
    purpose: Purpose,
}

impl Ledger {
    pub(super) fn new(presence: &Arc<Presence>, node: &Arc<Node>) -> Ledger {
        Ledger {
            presence: presence.clone(),
            node: node.clone(),
            marks: VecDeque::new(),
            stored: 0,
            renewed: 0,
            written_at_s: 0,
        }
    }

    /// There is no connection any more: nothing that is in flight will be answered.
    pub(super) fn abandon(&mut self) {
        for mark in self.marks.drain(..) {
            if let Purpose::Flush(ticket) = &mark.purpose
                && mark.left > 0
            {
                ticket.fail();
            }
        }
    }

    pub(super) fn open(&mut self, purpose: Purpose) {
        self.marks.push_back(Mark {
            left: 0,
            open: true,
            purpose,
        });
    }

    pub(super) fn pushed(&mut self, commands: usize) {
        if let Some(mark) = self.marks.back_mut() {
            mark.left += commands;
        }
    }

    pub(super) fn close(&mut self) {
        if let Some(mark) = self.marks.back_mut() {
            mark.open = false;
        }
        self.finish();
    }

    pub(super) fn settle(&mut self, sent: Sent, outcome: Outcome) {
        // Commands of a closed mark are all answered before those of the next.
        let Some(mark) = self.marks.iter_mut().find(|mark| mark.left > 0) else {
            return;
        };
        mark.left -= 1;
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
                if let Purpose::Flush(ticket) = &mark.purpose {
                    ticket.fail();
                }
                self.node.refused(1);
                self.presence.give_back([sent.take_back(&self.presence)]);
            }
        }
        let is_done = self.marks.front().is_some_and(|mark| mark.left == 0);
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
        while let Some(mark) = self.marks.pop_front_if(|mark| !mark.open && mark.left == 0) {
            match mark.purpose {
                Purpose::Connect { .. } | Purpose::Flush(_) => {}
                // No one may be waiting any more.
                Purpose::Barrier(settled) => drop(settled.send(())),
            }
        }
    }

    /// There is no connection: everything goes back.
    pub(super) fn refuse(&self, work: Work) {
        match work {
            Work::Connect(slot, _flight) => self.presence.give_back([slot]),
            Work::Shard(batch) => batch.give_back(&self.presence),
            Work::Barrier(_) => {}
        }
    }
}
