//! Where a worker's sessions live: a slab in chunks, so that a growing slab neither copies its
//! entries nor doubles, with a generation for each entry, so that an event for a session that has
//! ended never reaches the next one in its place.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::Range;

use super::wheel::CHUNK;

/// An index and its generation: names one value for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// Of the entry.
    pub index: u32,
    /// How many values the entry had before.
    pub generation: u32,
}

impl SessionKey {
    /// As one number, for the poll.
    pub fn to_usize(self) -> usize {
        (self.generation as usize) << 32 | self.index as usize
    }

    /// The other way.
    pub fn from_usize(key: usize) -> SessionKey {
        SessionKey {
            index: key as u32,
            generation: (key >> 32) as u32,
        }
    }
}

/// Names a session in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The worker that owns it.
    pub worker: u16,
    /// Its key there.
    pub key: SessionKey,
}

// Descriptors are at most 2^31, so 32 bits are enough for an index; the poll's token needs both.
const _: () = assert!(usize::BITS == 64);

const CACHE_LINE_BYTES: usize = 64;

/// A slab in chunks, with a generation for each entry.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Entry<T>>>,
    /// First free entry; the others follow from there.
    free: Option<u32>,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Free { next: Option<u32> },
    Taken(T),
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            free: None,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Memory that one entry takes.
    pub const ENTRY_BYTES: usize = size_of::<Entry<T>>();

    /// Values in the slab.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Chunks of [`CHUNK`] entries, the last perhaps not full.
    pub fn chunks(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// Puts in the value that `make` makes for its key.
    pub fn insert(&mut self, make: impl FnOnce(SessionKey) -> T) -> SessionKey {
        let key = self.vacant();
        let value = make(key);
        self.fill(key, value);
        key
    }

    /// The key of the next value, which is put in with [`Slab::fill`] or comes to nothing with
    /// [`Slab::burn`].
    pub fn vacant(&mut self) -> SessionKey {
        if let Some(index) = self.free
            && let Some(entry) = entry_mut(&mut self.chunks, index)
        {
            let generation = entry.generation;
            return SessionKey { index, generation };
        }
        if self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.len() == CHUNK as usize)
        {
            self.chunks.push(Vec::with_capacity(CHUNK as usize));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        let key = SessionKey {
            index: last as u32 * CHUNK + chunk.len() as u32,
            generation: 0,
        };
        chunk.push(Entry {
            generation: 0,
            content: Content::Free { next: None },
        });
        self.free = Some(key.index);
        key
    }

    /// Puts in the value of the key that [`Slab::vacant`] has given.
    pub fn fill(&mut self, key: SessionKey, value: T) {
        if let Some(entry) = entry_mut(&mut self.chunks, key.index)
            && let Content::Free { next } = entry.content
        {
            self.free = next;
            self.len += 1;
            entry.content = Content::Taken(value);
        }
    }

    /// The key that [`Slab::vacant`] has given is never used: somebody may know it.
    pub fn burn(&mut self, key: SessionKey) {
        if let Some(entry) = entry_mut(&mut self.chunks, key.index)
            && let Content::Free { .. } = entry.content
        {
            entry.generation = entry.generation.wrapping_add(1);
        }
    }

    /// The value of `key`, if it is there still.
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut T> {
        let entry = entry_mut(&mut self.chunks, key.index)?;
        match &mut entry.content {
            Content::Taken(value) if entry.generation == key.generation => Some(value),
            Content::Taken(_) | Content::Free { .. } => None,
        }
    }

    /// The values of the `count` entries from `first` on, which are in one chunk.
    pub fn run(&mut self, first: u32, count: u32) -> impl Iterator<Item = (SessionKey, &mut T)> {
        let chunk = self.chunks.get_mut((first / CHUNK) as usize);
        let entries = chunk.map_or(&mut [][..], |chunk| {
            let range = run_in(chunk.len(), first, count);
            &mut chunk[range]
        });
        (first..).zip(entries).filter_map(|(index, entry)| {
            let generation = entry.generation;
            match &mut entry.content {
                Content::Taken(value) => Some((SessionKey { index, generation }, value)),
                Content::Free { .. } => None,
            }
        })
    }

    /// Brings runs of `count` entries each, which are in one chunk, into the cache, given the first
    /// of each. The processor waits for all runs at once, where work on one after the other would
    /// wait for each.
    pub fn prefetch(&self, runs: &[u32], count: u32) {
        let step = (CACHE_LINE_BYTES / size_of::<Entry<T>>()).max(1);
        let mut sum = 0;
        // A line of each first: the longest wait is for where a page is.
        for count in [1, count] {
            for &first in runs {
                let chunk = self.chunks.get((first / CHUNK) as usize);
                let entries =
                    chunk.map_or(&[][..], |chunk| &chunk[run_in(chunk.len(), first, count)]);
                for entry in entries.iter().step_by(step) {
                    sum ^= entry.generation;
                }
            }
        }
        std::hint::black_box(sum);
    }

    /// The value at `index` now.
    pub fn at(&mut self, index: u32) -> Option<(SessionKey, &mut T)> {
        let entry = entry_mut(&mut self.chunks, index)?;
        let generation = entry.generation;
        match &mut entry.content {
            Content::Taken(value) => Some((SessionKey { index, generation }, value)),
            Content::Free { .. } => None,
        }
    }

    /// Takes out the value of `key`.
    pub fn remove(&mut self, key: SessionKey) -> Option<T> {
        self.get_mut(key)?;
        let entry = entry_mut(&mut self.chunks, key.index)?;
        entry.generation = entry.generation.wrapping_add(1);
        let free = Content::Free { next: self.free };
        let content = std::mem::replace(&mut entry.content, free);
        self.free = Some(key.index);
        self.len -= 1;
        match content {
            Content::Taken(value) => Some(value),
            Content::Free { .. } => None,
        }
    }
}

/// The run's entries in a chunk that has `len`.
fn run_in(len: usize, first: u32, count: u32) -> Range<usize> {
    let from = (first % CHUNK) as usize;
    from.min(len)..(from + count as usize).min(len)
}

fn entry_mut<T>(chunks: &mut [Vec<Entry<T>>], index: u32) -> Option<&mut Entry<T>> {
    let chunk = chunks.get_mut((index / CHUNK) as usize)?;
    chunk.get_mut((index % CHUNK) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_value_but_never_means_another() {
        let mut slab = Slab::default();
        let first = slab.insert(|_| "first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert(|_| "second");
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!(slab.at(second.index), Some((second, &mut "second")));
        assert_eq!(SessionKey::from_usize(second.to_usize()), second);
    }

    #[test]
    fn a_key_that_was_burnt_never_means_a_value() {
        let mut slab = Slab::default();
        let first = slab.insert(|_| "first");
        for _ in 0..2 {
            let burnt = slab.vacant();
            assert_eq!(slab.vacant(), burnt);
            slab.burn(burnt);
            let next = slab.insert(|_| "next");
            assert_eq!(next.index, burnt.index);
            assert_eq!(slab.get_mut(burnt), None);
            assert_eq!(slab.len(), 2);
            assert_eq!(slab.remove(next), Some("next"));
        }
        assert_eq!(slab.get_mut(first), Some(&mut "first"));
        assert_eq!((slab.len(), slab.chunks()), (1, 1));
    }

    #[test]
    fn places_are_dense_and_used_again() {
        let mut slab = Slab::default();
        let keys: Vec<_> = (0..3000).map(|n| slab.insert(|_| n)).collect();
        assert_eq!((slab.len(), slab.chunks()), (3000, 3));
        for key in &keys[..2000] {
            slab.remove(*key);
        }
        let again: Vec<_> = (0..2000).map(|n| slab.insert(|_| n)).collect();
        assert_eq!((slab.len(), slab.chunks()), (3000, 3));
        assert!(
            again
                .iter()
                .all(|key| key.index < 2000 && key.generation == 1)
        );
        assert_eq!(slab.at(9999), None);
    }
}
