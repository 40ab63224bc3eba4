//! What is in flight on a lane, and what an answer means.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Slot;
use super::flush::RENDER_RUN;
use super::lane::{Ticket, Work};
use super::state::Presence;
use super::users::Flight;
use crate::memcached::Node;
use crate::memcached::pipeline::Outcome;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) presence: Arc<Presence>,
    node: Arc<Node>,
    /// In the order of the commands; the sum of `left` is what is in flight.
    marks: VecDeque<Mark>,
    /// Stored and not entered yet: places of one shard.
    written: Vec<u32>,
    written_shard: usize,
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

#[derive(Debug)]
pub(super) enum Purpose {
    Connect(#[allow(dead_code, reason = "kept until it is settled")] Flight),
    Flush(Arc<Ticket>),
    Barrier(oneshot::Sender<()>),
}

impl Ledger {
    pub(super) fn new(presence: &Arc<Presence>, node: &Arc<Node>) -> Ledger {
        Ledger {
            presence: presence.clone(),
            node: node.clone(),
            marks: VecDeque::new(),
            written: Vec::with_capacity(RENDER_RUN),
            written_shard: 0,
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

    pub(super) fn settle(&mut self, slot: Slot, outcome: Outcome) {
        // Commands of a closed mark are all answered before those of the next.
        let Some(mark) = self.marks.iter_mut().find(|mark| mark.left > 0) else {
            return;
        };
        mark.left -= 1;
        match outcome {
            Outcome::Stored => {
                if slot.shard() != self.written_shard || self.written.len() == RENDER_RUN {
                    self.note_written();
                    self.written_shard = slot.shard();
                }
                self.written.push(slot.place());
            }
            Outcome::Refused => {
                if let Purpose::Flush(ticket) = &mark.purpose {
                    ticket.fail();
                }
                self.node.refused(1);
                self.presence.give_back([slot]);
            }
        }
        let is_done = self.marks.front().is_some_and(|mark| mark.left == 0);
        if is_done {
            self.finish();
        }
    }

    /// Enters what was stored in the directory and the counts.
    pub(super) fn note_written(&mut self) {
        if self.written.is_empty() {
            return;
        }
        let (presence, metrics) = (&self.presence, self.presence.metrics());
        metrics.flushed.add(self.written.len() as u64);
        let (now_s, ttl_s) = (presence.now_s(), presence.ttl_s());
        let users = presence.users();
        // Most of a run were written at once, so are counted at once.
        let (mut last_ago_s, mut count) = (0, 0);
        users.written(self.written_shard, &self.written, now_s, |ago_s| {
            if ago_s != last_ago_s {
                let left_s = ttl_s.saturating_sub(last_ago_s);
                metrics.ttl_left.observe(left_s, ttl_s, count);
                (last_ago_s, count) = (ago_s, 0);
            }
            count += 1;
        });
        let left_s = ttl_s.saturating_sub(last_ago_s);
        metrics.ttl_left.observe(left_s, ttl_s, count);
        self.written.clear();
    }

    /// Takes leave of what is settled.
    fn finish(&mut self) {
        while let Some(mark) = self.marks.pop_front_if(|mark| !mark.open && mark.left == 0) {
            match mark.purpose {
                Purpose::Connect(_) | Purpose::Flush(_) => {}
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
