//! A user's number.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::num::NonZeroU32;

use crate::limits::{SHARDS, SLOTS_MAX};

const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// A user's dense number: the shard in the low bits, the index in it above. One more than it is
/// kept, so that an `Option` of it takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(NonZeroU32);

impl Slot {
    /// Places in a shard, at most.
    pub const PER_SHARD_MAX: u32 = (SLOTS_MAX / SHARDS as u64) as u32;

    /// The slot at `index` of `shard`; the caller sees to it that both are in range.
    pub const fn new(shard: usize, index: u32) -> Slot {
        debug_assert!(shard < SHARDS && index < Slot::PER_SHARD_MAX);
        // There are so few slots that this does not overflow.
        Slot(NonZeroU32::MIN.saturating_add(index << SHARD_BITS | shard as u32))
    }

    /// Which shard, below [`SHARDS`].
    pub const fn shard(self) -> usize {
        (self.number() as usize) & (SHARDS - 1)
    }

    /// The index in the shard.
    pub const fn index(self) -> u32 {
        self.number() >> SHARD_BITS
    }

    const fn number(self) -> u32 {
        self.0.get() - 1
    }
}
