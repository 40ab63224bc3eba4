//! The set of users heard from since their last flush: one bit a slot, lock-free.
//!
//! A heartbeat is [`Pending::record`]: a load, and if the user's bit is clear one `fetch_or`. A
//! flush is [`Pending::drain`]: each word of a shard is swapped with zero. What memcached did not
//! acknowledge comes back with [`Pending::restore`]. Being a set it can't grow past one bit a
//! user, however long memcached is away.
//!
//! All three are wait-free: a bounded number of steps a word, no loop that another thread could
//! make longer, no lock.
//!
//! # Why `Relaxed` is enough
//!
//! Bits carry no data: which user a slot belongs to is behind the directory's lock. So all that
//! counts is the order of the accesses to one word, and each word has one modification order, on
//! which all threads agree whatever the orderings say:
//!
//! - A `record` that finds its bit set may skip the write. What it read is a write of that order;
//!   the `swap` that clears this bit comes later in it, so the flush that takes the heartbeat is
//!   still ahead.
//! - A `record` that finds its bit clear sets it by `fetch_or`, which reads the last value: a
//!   `swap` is before it and leaves the bit alone, or after it and takes it.
//! - A `swap` takes each bit from exactly one `fetch_or`, so two drains never have the same
//!   heartbeat.
//!
//! What is true *before* a heartbeat is recorded (its user has this slot), and what is done *after*
//! a drain (the slot is given to someone else), is ordered by the directory's lock and its guards:
//! see [`users`](super::users).
//!
//! One ordering is not `Relaxed`: a block is published with `Release` and found with `Acquire`
//! (both inside [`OnceLock`]), as its zeros must be seen before its bits. On x86-64 that is free.
//!
//! # Growth
//!
//! Words are in blocks of 2^16 slots, each with a section for every shard. A block never moves and
//! its address takes two shifts, so neither side waits for growth nor pays for it; the list of
//! blocks is as long as it can get. Only [`Pending::reserve`] allocates; the directory calls it,
//! under its lock, when it makes a new slot.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::array;

use super::Slot;
use super::sync::{AtomicU64, OnceLock, Ordering};
use crate::limits::{PENDING_BLOCK_SLOTS, SHARDS};

/// Words that a shard has in each block.
const SECTION_WORDS: usize = PENDING_BLOCK_SLOTS / SHARDS / 64;

/// Places that a shard has in each block.
const SECTION_SLOTS: usize = SECTION_WORDS * 64;

/// Enough for every slot there can be.
const BLOCKS: usize = Slot::PER_SHARD_MAX as usize / SECTION_SLOTS;

/// The users heard from since their last flush, as a lock-free set of bits.
#[derive(Debug)]
pub struct Pending {
    blocks: Box<[OnceLock<Box<Block>>; BLOCKS]>,
}

type Block = [Section; SHARDS];

/// A shard's words, on cache lines of their own (two and two, as processors fetch them in pairs):
/// shards are what keeps threads out of each other's way.
#[derive(Debug)]
#[repr(align(128))]
struct Section([AtomicU64; SECTION_WORDS]);

impl Default for Pending {
    fn default() -> Pending {
        Pending::new()
    }
}

impl Pending {
    /// An empty set with room for no one.
    pub fn new() -> Pending {
        Pending {
            blocks: Box::new(array::from_fn(|_| OnceLock::new())),
        }
    }

    /// Makes room for `slot`. Call it before the slot is first recorded.
    pub fn reserve(&self, slot: Slot) {
        let block = slot.index() as usize / SECTION_SLOTS;
        if self.blocks[block].get().is_none() {
            // Without gaps, so that a drain needn't look beyond the last.
            for block in &self.blocks[..=block] {
                block.get_or_init(|| Box::new(array::from_fn(|_| Section::new())));
            }
        }
    }

    /// Marks the slot's user as heard from. A slot that was never reserved is ignored.
    #[inline]
    pub fn record(&self, slot: Slot) {
        let Some((word, bit)) = self.word(slot) else {
            debug_assert!(false, "recorded before it was reserved");
            return;
        };
        // A heartbeat of a user who is pending already writes nothing: the line stays shared.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Puts back slots that a drain took and memcached did not acknowledge.
    pub fn restore(&self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            self.record(slot);
        }
    }

    /// Whether the slot is pending.
    pub fn contains(&self, slot: Slot) -> bool {
        self.word(slot)
            .is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Takes the slot out of the set: its user has left for good, or is about to be written.
    pub fn forget(&self, slot: Slot) {
        if let Some((word, bit)) = self.word(slot) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Takes everything out of one shard and hands each slot to `take`, in order of their index.
    pub fn drain(&self, shard: usize, mut take: impl FnMut(Slot)) {
        let mut base = 0;
        for block in self.blocks() {
            for word in &block[shard].0 {
                // Most words of a quiet shard are empty: a load keeps their lines shared.
                if word.load(Ordering::Relaxed) != 0 {
                    let mut bits = word.swap(0, Ordering::Relaxed);
                    while bits != 0 {
                        take(Slot::new(shard, base + bits.trailing_zeros()));
                        bits &= bits - 1;
                    }
                }
                base += 64;
            }
        }
    }

    /// Slots pending now, over all shards; for metrics.
    pub fn len(&self) -> u64 {
        self.blocks()
            .flatten()
            .flat_map(|section| &section.0)
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
            .sum()
    }

    /// Whether no slot is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().map_while(|block| Some(&**block.get()?))
    }

    #[inline]
    fn word(&self, slot: Slot) -> Option<(&AtomicU64, u64)> {
        let index = slot.index() as usize;
        let block = self.blocks[index / SECTION_SLOTS].get()?;
        let word = &block[slot.shard()].0[index / 64 % SECTION_WORDS];
        Some((word, 1 << (index % 64)))
    }
}

impl Section {
    fn new() -> Section {
        Section(array::from_fn(|_| AtomicU64::new(0)))
    }
}
