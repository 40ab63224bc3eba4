//! Who is here: users and their slots, heartbeats not yet written, and the flush that writes them.
//!
//! - [`record`]: what is written about a user: the key and the value.
//! - [`users`]: the directory of connected users; gives each a [`Slot`].
//! - [`pending`]: the lock-free set of users heard from since their last flush.
//! - [`flush`]: pending users written to memcached, paced over the flush interval (`pace`), by lanes
//!   (`lanes`, `lane`) that own a connection each; `refill` writes everyone anew.

pub mod flush;
mod lane;
mod lanes;
mod ledger;
mod pace;
pub mod pending;
pub mod record;
mod refill;
mod state;
pub mod users;

pub use self::pending::Pending;
pub use self::record::{Record, UserId, UserIdError};
pub use self::users::{SessionId, Users};

use crate::limits::SHARDS;

const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// A user's dense number: the shard in the low bits, the place in the shard above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The slot at `place` of `shard`. A shard has at most 2^26 places; the caller sees to it.
    pub const fn new(shard: usize, place: u32) -> Slot {
        debug_assert!(shard < SHARDS && place < Slot::PLACES_MAX);
        Slot(place << SHARD_BITS | shard as u32)
    }

    /// Places in a shard, at most.
    pub const PLACES_MAX: u32 = 1 << (32 - SHARD_BITS);

    /// Which shard, below [`SHARDS`].
    pub const fn shard(self) -> usize {
        (self.0 as usize) & (SHARDS - 1)
    }

    /// Which place in the shard.
    pub const fn place(self) -> u32 {
        self.0 >> SHARD_BITS
    }
}
