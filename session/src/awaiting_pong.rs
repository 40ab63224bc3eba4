//! Which sessions have sent nothing since they were pinged: a bit for each entry of the slab, so
//! that the wheel's second hand need not touch those that have. Any whole frame will do: some
//! devices answer with pongs that are empty.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::wheel::GROUP;

/// A bit for each entry: whether its session has sent nothing since its last ping.
#[derive(Debug, Default)]
pub(super) struct AwaitingPong {
    /// One for each group of entries.
    groups: Vec<u32>,
}

const _: () = assert!(GROUP == u32::BITS);

impl AwaitingPong {
    /// The slab has this number of entries now; it never has fewer.
    pub(super) fn grow(&mut self, indexes: u32) {
        let groups = indexes.div_ceil(GROUP) as usize;
        if groups > self.groups.len() {
            self.groups.resize(groups, 0);
        }
    }

    /// Those of the group that this index is in, bit by bit.
    pub(super) fn group(&mut self, index: u32) -> &mut u32 {
        &mut self.groups[(index / GROUP) as usize]
    }

    /// The one at this index has sent something.
    #[inline]
    pub(super) fn clear(&mut self, index: u32) {
        self.groups[(index / GROUP) as usize] &= !bit(index);
    }
}

/// An index's bit in its group.
#[inline]
pub(super) fn bit(index: u32) -> u32 {
    1 << (index % GROUP)
}
