//! What node writers are given to do, and what is held while it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use presenced_session::clock::Clock;
use tokio::sync::oneshot;

use super::node_flush::{NodeFlush, Waiting};
use super::state::{Presence, Round};
use crate::limits::SHARDS;
use crate::slot::Slot;
use crate::users::SlotGuard;

/// What a node writer is given.
#[derive(Debug)]
pub(super) enum Work {
    /// A user who has just connected.
    Connect(Slot, SlotGuard, Waiting),
    /// What was pending in a shard, or a part of its users who are written again. Boxed: many
    /// connects may wait at once, and a place of the queue has room for the largest.
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
pub(super) enum BatchGuard {
    /// Of a flush, for the node with this number.
    Flush {
        round: Arc<Round>,
        node: u8,
        _claim: ShardClaim,
    },
    /// Of a refill of `shard`, for users who were not written since.
    Refill {
        since_s: u32,
        shard: usize,
        flush: Arc<NodeFlush>,
        clock: Clock,
        _slots: SlotGuard,
    },
}

impl BatchGuard {
    pub(super) fn new(round: Arc<Round>, node: u8, claim: ShardClaim) -> BatchGuard {
        BatchGuard::Flush {
            round,
            node,
            _claim: claim,
        }
    }

    /// Not all of the batch was written; its users are pending.
    pub(super) fn fail(&self) {
        match self {
            BatchGuard::Flush { round, node, .. } => round.fail(*node),
            BatchGuard::Refill {
                shard,
                flush,
                clock,
                ..
            } => flush.owes(*shard, clock.now()),
        }
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

    /// Whether it is of a refill, and not of a flush.
    pub(super) fn is_refill(&self) -> bool {
        matches!(*self.guard, BatchGuard::Refill { .. })
    }

    /// The next users, `count` at most, who are done then.
    pub(super) fn take(&mut self, count: usize) -> &[u32] {
        let rest = &self.indexes[self.done..];
        let run = &rest[..rest.len().min(count)];
        self.done += run.len();
        run
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
    /// Whether `claimed` notes that the node writer has a batch of `shard`.
    pub(super) fn is_taken(claimed: &AtomicU64, shard: usize) -> bool {
        claimed.load(Ordering::Relaxed) & 1 << shard != 0
    }

    /// Notes in `claimed` that the node writer has a batch of `shard`; `None` if it has one
    /// already.
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
