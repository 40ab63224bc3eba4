//! Items by number and in order of use, in chunks: growing moves none of them and takes no second
//! copy.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::mem;
use std::ops::Range;

use super::item::Item;

/// Items in a chunk, 24 KiB.
const CHUNK: usize = 512;

/// No item.
pub(super) const NONE: u32 = u32::MAX;

/// Items, each with a number for as long as it is there, or until [`Slab::shrink`] gives it
/// another.
pub(super) struct Slab {
    chunks: Vec<Box<[Item]>>,
    len: usize,
    /// The items, and the free places.
    lists: [Ends; 2],
}

/// The two ends of a list through the items.
#[derive(Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
}

/// A list of places.
#[derive(Clone, Copy)]
enum List {
    Items,
    Free,
}

impl Slab {
    pub(super) fn new() -> Slab {
        let none = Ends {
            newest: NONE,
            oldest: NONE,
        };
        Slab {
            chunks: Vec::new(),
            len: 0,
            lists: [none; 2],
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

    /// The places that [`Slab::shrink`] takes.
    pub(super) fn last_chunk(&self) -> Range<u32> {
        let end = self.places();
        end.saturating_sub(CHUNK as u32)..end
    }

    #[inline]
    pub(super) fn at(&self, number: u32) -> &Item {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, number: u32) -> &mut Item {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// Free places but for some that are always there.
    pub(super) fn spare(&self) -> usize {
        let free = self.chunks.len() * CHUNK - self.len;
        free.saturating_sub(2 * CHUNK)
    }

    /// The item that was used least recently, or [`NONE`].
    pub(super) fn oldest(&self) -> u32 {
        self.lists[List::Items as usize].oldest
    }

    /// Makes it the newest in the order of use.
    pub(super) fn link(&mut self, number: u32) {
        self.enter(List::Items, number);
    }

    /// Takes it out of the order of use.
    pub(super) fn unlink(&mut self, number: u32) {
        self.leave(List::Items, number);
    }

    /// Takes a free place.
    pub(super) fn take(&mut self) -> u32 {
        if self.lists[List::Free as usize].newest == NONE {
            let first = self.places();
            self.chunks
                .push((0..CHUNK).map(|_| Item::vacant()).collect());
            for number in (first..self.places()).rev() {
                self.enter(List::Free, number);
            }
        }
        let number = self.lists[List::Free as usize].newest;
        self.leave(List::Free, number);
        self.len += 1;
        number
    }

    /// Frees the item's memory and its place.
    pub(super) fn give_back(&mut self, number: u32) {
        self.at_mut(number).vacate();
        self.enter(List::Free, number);
        self.len -= 1;
    }

    /// Moves what is in the last chunk to other places, which there must be, and frees it. `moved`
    /// is told of each item where it was and where it is.
    pub(super) fn shrink(&mut self, mut moved: impl FnMut(&Item, u32, u32)) {
        let last = self.last_chunk();
        for number in last.clone() {
            if self.at(number).is_vacant() {
                self.leave(List::Free, number);
            }
        }
        for from in last {
            if self.at(from).is_vacant() {
                continue;
            }
            let to = self.lists[List::Free as usize].newest;
            self.leave(List::Free, to);
            let item = mem::replace(self.at_mut(from), Item::vacant());
            let (newer, older) = (item.newer, item.older);
            *self.at_mut(to) = item;
            self.join(List::Items, newer, to);
            self.join(List::Items, to, older);
            moved(self.at(to), from, to);
        }
        self.chunks.pop();
    }

    fn enter(&mut self, list: List, number: u32) {
        let older = self.lists[list as usize].newest;
        self.at_mut(number).newer = NONE;
        self.join(list, NONE, number);
        self.join(list, number, older);
    }

    fn leave(&mut self, list: List, number: u32) {
        let &Item { newer, older, .. } = self.at(number);
        self.join(list, newer, older);
    }

    /// Makes two neighbours in a list. At its end one of them is [`NONE`].
    fn join(&mut self, list: List, newer: u32, older: u32) {
        match newer {
            NONE => self.lists[list as usize].newest = older,
            newer => self.at_mut(newer).older = older,
        }
        match older {
            NONE => self.lists[list as usize].oldest = newer,
            older => self.at_mut(older).newer = newer,
        }
    }
}
