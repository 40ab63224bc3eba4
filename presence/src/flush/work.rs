//! What lanes are given to do, and what is held while it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::state::{Presence, Round};
use crate::limits::SHARDS;
use crate::slot::Slot;
use crate::users::Flight;

/// What a lane is given.
#[derive(Debug)]
pub(super) enum Work {
    /// A user who has just connected.
    Connect(Slot, Flight),
    /// What was pending in a shard. Boxed: many connects may wait at once, and a place of the queue
    /// has room for the larger of both.
    Shard(Box<Batch>),
    /// Answered when all work before it is settled.
    Barrier(oneshot::Sender<()>),
}

/// Users of one shard that one node has.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) shard: usize,
    pub(super) places: Vec<u32>,
    /// Places that are rendered.
    pub(super) done: usize,
    pub(super) ticket: Arc<Ticket>,
}

/// What ends when the last answer to a batch has come.
#[derive(Debug)]
pub(super) struct Ticket {
    round: Arc<Round>,
    _carrying: Carrying,
}

impl Ticket {
    pub(super) fn new(round: Arc<Round>, carrying: Carrying) -> Ticket {
        Ticket {
            round,
            _carrying: carrying,
        }
    }

    /// Not all of the batch was written.
    pub(super) fn fail(&self) {
        self.round.fail();
    }
}

impl Batch {
    pub(super) fn new(shard: usize, places: Vec<u32>, ticket: Arc<Ticket>) -> Batch {
        Batch {
            shard,
            places,
            done: 0,
            ticket,
        }
    }

    /// Those who are not rendered are pending again.
    pub(super) fn give_back(&self, presence: &Presence) {
        let rest = &self.places[self.done..];
        if !rest.is_empty() {
            self.ticket.fail();
        }
        presence.give_back(rest.iter().map(|&place| Slot::new(self.shard, place)));
    }
}

#[derive(Debug)]
pub(super) enum Purpose {
    /// The flight is kept until it is settled.
    Connect {
        _flight: Flight,
    },
    Flush(Arc<Ticket>),
    Barrier(oneshot::Sender<()>),
}

/// A lane has a batch of a shard, until it is dropped.
#[derive(Debug)]
pub(super) struct Carrying {
    carried: Arc<AtomicU64>,
    bit: u64,
}

const _: () = assert!(SHARDS <= u64::BITS as usize);

impl Carrying {
    /// Notes in `carried` that the lane has a batch of `shard`; nothing if it has one already.
    pub(super) fn take(carried: &Arc<AtomicU64>, shard: usize) -> Option<Carrying> {
        let bit = 1 << shard;
        let before = carried.fetch_or(bit, Ordering::Relaxed);
        (before & bit == 0).then(|| Carrying {
            carried: carried.clone(),
            bit,
        })
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.carried.fetch_and(!self.bit, Ordering::Relaxed);
    }
}
