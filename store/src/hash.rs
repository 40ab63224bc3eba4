//! Keys with their hashes, and what the hash table holds of them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// A key with its hash.
#[derive(Clone, Copy, Default)]
pub(super) struct Hashed<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: Hash,
}

/// What the hash table goes by. It is kept there, so that the table grows without a look at the
/// items, which are all over the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hash(u32);

impl Hash {
    /// Of a hash of 64 bits, of which the lowest are left for something else.
    #[inline]
    pub(super) fn new(hash: u64) -> Hash {
        Hash((hash >> 32) as u32)
    }

    /// As the table wants it: high and low bits that have nothing to do with each other.
    #[inline]
    pub(super) fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A place in the hash table.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) hash: Hash,
    pub(super) number: u32,
}
