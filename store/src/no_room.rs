//! Why something could not be stored.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::Reply;

use super::replies::{OUT_OF_MEMORY, TOO_LARGE};
use super::stat_counters::Count;

/// Why something could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The value is more than an item may have.
    TooLarge,
    /// What connections hold leaves too little memory for it.
    OutOfMemory,
}

impl NoRoom {
    /// What counts it.
    pub(super) fn count(self) -> Count {
        match self {
            NoRoom::TooLarge => Count::TooLarge,
            NoRoom::OutOfMemory => Count::OutOfMemory,
        }
    }

    /// What is said to it.
    pub(super) fn reply(self) -> Reply<&'static [u8]> {
        match self {
            NoRoom::TooLarge => TOO_LARGE,
            NoRoom::OutOfMemory => OUT_OF_MEMORY,
        }
    }
}
