//! Items by number and in order of use, in chunks: growing moves none of them and takes no second
//! copy.

use super::item::Item;

/// Items in a chunk, 24 KiB.
const CHUNK: usize = 512;

/// No item.
pub(super) const NONE: u32 = u32::MAX;

/// Items, each with a number for as long as it is there.
pub(super) struct Slab {
    chunks: Vec<Box<[Item]>>,
    /// The first free place.
    free: u32,
    len: usize,
    newest: u32,
    oldest: u32,
}

impl Slab {
    pub(super) fn new() -> Slab {
        Slab {
            chunks: Vec::new(),
            free: NONE,
            len: 0,
            newest: NONE,
            oldest: NONE,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many places there are; all numbers are below.
    pub(super) fn places(&self) -> u32 {
        // There is memory for fewer than 2³² items.
        (self.chunks.len() * CHUNK) as u32
    }

    #[inline]
    pub(super) fn at(&self, number: u32) -> &Item {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, number: u32) -> &mut Item {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// The item that was used least recently, or [`NONE`].
    pub(super) fn oldest(&self) -> u32 {
        self.oldest
    }

    /// Makes it the newest in the order of use.
    pub(super) fn link(&mut self, number: u32) {
        let older = self.newest;
        let item = self.at_mut(number);
        (item.newer, item.older) = (NONE, older);
        match older {
            NONE => self.oldest = number,
            older => self.at_mut(older).newer = number,
        }
        self.newest = number;
    }

    /// Takes it out of the order of use.
    pub(super) fn unlink(&mut self, number: u32) {
        let &Item { newer, older, .. } = self.at(number);
        match newer {
            NONE => self.newest = older,
            newer => self.at_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.at_mut(older).newer = newer,
        }
    }

    /// Takes a free place.
    pub(super) fn take(&mut self) -> u32 {
        if self.free == NONE {
            let first = self.places();
            let mut chunk: Box<[Item]> = (0..CHUNK).map(|_| Item::vacant()).collect();
            for (item, number) in chunk.iter_mut().zip(first + 1..) {
                item.older = number;
            }
            if let Some(last) = chunk.last_mut() {
                last.older = NONE;
            }
            self.chunks.push(chunk);
            self.free = first;
        }
        let number = self.free;
        self.free = self.at(number).older;
        self.len += 1;
        number
    }

    /// Frees the item's memory and its place.
    pub(super) fn give_back(&mut self, number: u32) {
        let free = self.free;
        let item = self.at_mut(number);
        item.vacate();
        item.older = free;
        self.free = number;
        self.len -= 1;
    }
}
