//! The set of users heard from since their last flush: one bit a slot, lock-free.
//!
//! A heartbeat is [`Pending::record`]: a load, and if the user's bit is clear one `fetch_or`. A
//! flush is [`Pending::drain`]: each word of a shard is swapped with zero. What memcached did not
//! acknowledge comes back with [`Pending::restore`]. Being a set it can't grow past one bit a
//! user, however long memcached is away.
//!
//! # What a reader may see
//!
//! Bits carry no data: which user a slot belongs to is behind the directory's lock. So every
//! access to a word is `Relaxed`; each word has one modification order, and that is all that is
//! needed. A `record` that finds its bit set may skip the write: the `swap` that clears this bit
//! comes later in the word's modification order, so the flush that it belongs to is still ahead.
//! A `record` that comes after that `swap` sets the bit anew. Either way the heartbeat is in a
//! flush to come.
//!
//! # Growth
//!
//! A shard's words are in blocks that double in size (16, 16, 32, 64 … words): a word never moves,
//! so neither side waits when a shard grows. Only [`Pending::reserve`] allocates; the directory
//! calls it, under its lock, when it makes a new slot.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Slot;
use crate::limits::SHARDS;

/// Words in the first block: 1,024 users of one shard in 128 bytes.
const FIRST_WORDS: usize = 16;

/// Blocks a shard can have: with the first two of 16 words, 2^20 words, the 2^26 places of a shard.
const BLOCKS: usize = 17;

const _: () = assert!(FIRST_WORDS << (BLOCKS - 1) == (Slot::PLACES_MAX as usize) / 64);

/// See the module's page.
#[derive(Debug)]
pub struct Pending {
    shards: Box<[Shard]>,
}

/// On cache lines of its own (two, as processors fetch them in pairs): shards are what keeps
/// workers out of each other's way.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    blocks: [OnceLock<Box<[AtomicU64]>>; BLOCKS],
}

impl Default for Pending {
    fn default() -> Pending {
        Pending::new()
    }
}

impl Pending {
    /// An empty set with room for no one.
    pub fn new() -> Pending {
        Pending {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    /// Makes room for `slot`. Call it before the slot is first recorded.
    pub fn reserve(&self, slot: Slot) {
        let (block, _) = locate(slot.place() as usize / 64);
        self.shards[slot.shard()].blocks[block]
            .get_or_init(|| (0..block_words(block)).map(|_| AtomicU64::new(0)).collect());
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

    /// Takes the slot out of the set: its user has left for good.
    pub fn forget(&self, slot: Slot) {
        if let Some((word, bit)) = self.word(slot) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Takes everything out of one shard and hands each slot to `take`, in order of places.
    pub fn drain(&self, shard: usize, mut take: impl FnMut(Slot)) {
        for (block, words) in self.shards[shard].blocks.iter().enumerate() {
            let mut base = block_start(block) as u32 * 64;
            for word in words.get().into_iter().flatten() {
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
        self.shards
            .iter()
            .flat_map(|shard| shard.blocks.iter().filter_map(OnceLock::get))
            .flat_map(|words| words.iter())
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
            .sum()
    }

    /// Whether no slot is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn word(&self, slot: Slot) -> Option<(&AtomicU64, u64)> {
        let place = slot.place() as usize;
        let (block, offset) = locate(place / 64);
        let words = self.shards[slot.shard()].blocks[block].get()?;
        Some((words.get(offset)?, 1 << (place % 64)))
    }
}

/// Block and offset of a shard's `word`: blocks begin at words 0, 16, 32, 64, 128 …
#[inline]
fn locate(word: usize) -> (usize, usize) {
    let block = ((word / FIRST_WORDS).checked_ilog2()).map_or(0, |log| log as usize + 1);
    (block, word - block_start(block))
}

fn block_start(block: usize) -> usize {
    match block {
        0 => 0,
        block => FIRST_WORDS << (block - 1),
    }
}

fn block_words(block: usize) -> usize {
    FIRST_WORDS << block.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, AtomicU32};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn drained(pending: &Pending, shard: usize) -> Vec<Slot> {
        let mut slots = Vec::new();
        pending.drain(shard, |slot| slots.push(slot));
        slots
    }

    #[test]
    fn every_word_has_one_place_in_the_blocks() {
        let mut next = (0, 0);
        for word in 0..100_000 {
            assert_eq!(locate(word), next, "word {word}");
            next.1 += 1;
            if next.1 == block_words(next.0) {
                next = (next.0 + 1, 0);
            }
        }
        let last = Slot::PLACES_MAX as usize / 64 - 1;
        assert_eq!(locate(last), (BLOCKS - 1, block_words(BLOCKS - 1) - 1));
    }

    #[test]
    fn a_heartbeat_is_drained_once_however_often_it_was_recorded() {
        let pending = Pending::new();
        let slot = Slot::new(3, 70);
        pending.reserve(slot);
        pending.record(slot);
        pending.record(slot);
        assert!(pending.contains(slot));
        assert_eq!(pending.len(), 1);
        assert_eq!(drained(&pending, 4), []);
        assert_eq!(drained(&pending, 3), [slot]);
        assert_eq!(drained(&pending, 3), []);
        pending.restore([slot]);
        assert_eq!(drained(&pending, 3), [slot]);
        pending.record(slot);
        pending.forget(slot);
        assert!(pending.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(ops in prop::collection::vec((0..4u8, 0..3usize, 0..5000u32), 0..200)) {
            let pending = Pending::new();
            let mut oracle = BTreeSet::new();
            for (op, shard, place) in ops {
                let slot = Slot::new(shard, place);
                pending.reserve(slot);
                match op {
                    0 | 1 => {
                        pending.record(slot);
                        oracle.insert((shard, place));
                    }
                    2 => {
                        let expected: Vec<_> =
                            oracle.extract_if((shard, 0)..(shard + 1, 0), |_| true)
                                .map(|(shard, place)| Slot::new(shard, place)).collect();
                        prop_assert_eq!(drained(&pending, shard), expected);
                    }
                    _ => {
                        pending.forget(slot);
                        oracle.remove(&(shard, place));
                    }
                }
                prop_assert_eq!(pending.len(), oracle.len() as u64);
            }
        }
    }

    /// Recorders count their heartbeats *before* they record them; the flusher reads the count
    /// after each drain that held the user. So at the end the flusher must have seen the last.
    #[test]
    fn no_heartbeat_is_lost_between_record_drain_and_restore() {
        const PLACES: u32 = 256;
        let pending = Pending::new();
        for place in 0..PLACES {
            pending.reserve(Slot::new(0, place));
        }
        let beats: Vec<AtomicU32> = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        let seen: Vec<AtomicU32> = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let recorders: Vec<_> = (0..3)
                .map(|thread| {
                    let (pending, beats) = (&pending, &beats);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(thread);
                        for _ in 0..200_000 {
                            let place = random.u32(0..PLACES);
                            beats[place as usize].fetch_add(1, Ordering::SeqCst);
                            pending.record(Slot::new(0, place));
                        }
                    })
                })
                .collect();
            let flusher = scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(99);
                loop {
                    let last = done.load(Ordering::SeqCst);
                    for slot in drained(&pending, 0) {
                        // One in four is "not acknowledged" and comes back.
                        if !last && random.u8(..) < 64 {
                            pending.restore([slot]);
                            continue;
                        }
                        let place = slot.place() as usize;
                        let count = beats[place].load(Ordering::SeqCst);
                        seen[place].store(count, Ordering::SeqCst);
                    }
                    if last {
                        return;
                    }
                }
            });
            for recorder in recorders {
                recorder.join().unwrap();
            }
            done.store(true, Ordering::SeqCst);
            flusher.join().unwrap();
        });
        for (beats, seen) in beats.iter().zip(&seen) {
            assert_eq!(beats.load(Ordering::SeqCst), seen.load(Ordering::SeqCst));
        }
    }
}
