//! What node writers are given to do, and what is held while it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::node_flush::Waiting;
use super::state::{Presence, Round};
use crate::limits::SHARDS;
use crate::slot::Slot;
use crate::users::SlotGuard;

/// What a node writer is given.
#[derive(Debug)]
pub(super) enum Work {
    /// A user who has just connected.
    Connect(Slot, SlotGuard, Waiting),
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
    pub(super) indexes: Vec<u32>,
    /// Places that are rendered.
    pub(super) done: usize,
    pub(super) guard: Arc<BatchGuard>,
}

/// Held until the last reply to a batch has come.
#[derive(Debug)]
pub(super) struct BatchGuard {
    round: Arc<Round>,
    node: u8,
    _claim: ShardClaim,
}

impl BatchGuard {
    pub(super) fn new(round: Arc<Round>, node: u8, claim: ShardClaim) -> BatchGuard {
        BatchGuard {
            round,
            node,
            _claim: claim,
        }
    }

    /// Not all of the batch was written.
    pub(super) fn fail(&self) {
        self.round.fail(self.node);
    }
}

impl Batch {
    pub(super) fn new(shard: usize, indexes: Vec<u32>, guard: Arc<BatchGuard>) -> Batch {
        Batch {
            shard,
            indexes,
            done: 0,
            guard,
        }
    }

    /// Makes the users who are not rendered pending again.
    pub(super) fn give_back(&self, presence: &Presence) {
        let rest = &self.indexes[self.done..];
        if !rest.is_empty() {
            self.guard.fail();
        }
        presence.give_back(rest.iter().map(|&index| Slot::new(self.shard, index)));
    }
}

/// What a command in flight is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// What it holds is kept until it is settled.
    Connect {
        slot: Slot,
        _guard: SlotGuard,
        _waiting: Waiting,
    },
    Flush(Arc<BatchGuard>),
    Barrier(oneshot::Sender<()>),
}

/// Says that a node writer has a batch of a shard, until it is dropped.
#[derive(Debug)]
pub(super) struct ShardClaim {
    claimed: Arc<AtomicU64>,
    bit: u64,
}

const _: () = assert!(SHARDS <= u64::BITS as usize);

impl ShardClaim {
    /// Notes in `claimed` that the node writer has a batch of `shard`; `None` if it has one already.
    pub(super) fn take(claimed: &Arc<AtomicU64>, shard: usize) -> Option<ShardClaim> {
        let bit = 1 << shard;
        let before = claimed.fetch_or(bit, Ordering::Relaxed);
        (before & bit == 0).then(|| ShardClaim {
            claimed: claimed.clone(),
            bit,
        })
    }
}

impl Drop for ShardClaim {
    fn drop(&mut self) {
        self.claimed.fetch_and(!self.bit, Ordering::Relaxed);
    }
}
