//! Who owes the answer to a ping: a bit for each place of the table, so that the wheel's second
//! hand need not touch those who have answered.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::wheel::GROUP;

/// A bit for each place: whether its session has not answered a ping yet.
#[derive(Debug, Default)]
pub(super) struct AwaitingPong {
    /// One for each group of places.
    groups: Vec<u32>,
}

const _: () = assert!(GROUP == u32::BITS);

impl AwaitingPong {
    /// The slab has this number of places now; it never has fewer.
    pub(super) fn grow(&mut self, places: u32) {
        let groups = places.div_ceil(GROUP) as usize;
        if groups > self.groups.len() {
            self.groups.resize(groups, 0);
        }
    }

    /// Those of the group whose first place this is, bit by bit.
    pub(super) fn group(&mut self, first: u32) -> &mut u32 {
        &mut self.groups[(first / GROUP) as usize]
    }

    /// Whether the one at this place does.
    #[inline]
    pub(super) fn has(&self, place: u32) -> bool {
        self.groups[(place / GROUP) as usize] & bit(place) != 0
    }

    /// It does not any more.
    #[inline]
    pub(super) fn clear(&mut self, place: u32) {
        self.groups[(place / GROUP) as usize] &= !bit(place);
    }
}

/// A place's bit in its group.
#[inline]
pub(super) fn bit(place: u32) -> u32 {
    1 << (place % GROUP)
}
