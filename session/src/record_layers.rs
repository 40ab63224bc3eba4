//! The record layers of sessions whose clients speak TLS. They are beside the slab, so that a plain session does not pay for
//! them, and never move, since what is moved leaves a copy of its secrets behind.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_tls::RecordLayer;

use crate::wheel::CHUNK;

/// Those of a worker's sessions, by their index in the slab. Without TLS there are none, and to look for one costs a
/// comparison.
#[derive(Debug, Default)]
pub(super) struct RecordLayers {
    /// As many as the slab has, as far as there is TLS. They are large, so they are not among the memory that handshakes take
    /// and give back, which would stay if there were something of a session behind it.
    chunks: Vec<Option<Box<[Option<RecordLayer>]>>>,
}

impl RecordLayers {
    /// That of a session; `None` of a plain one.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut RecordLayer> {
        let chunk = self.chunks.get_mut((index / CHUNK) as usize)?.as_mut()?;
        chunk[(index % CHUNK) as usize].as_mut()
    }

    /// Whether a session has one.
    #[inline]
    pub(super) fn has(&self, index: u32) -> bool {
        let chunk = self.chunks.get((index / CHUNK) as usize);
        let chunk = chunk.and_then(Option::as_ref);
        chunk.is_some_and(|chunk| chunk[(index % CHUNK) as usize].is_some())
    }

    /// Keeps that of a session.
    pub(super) fn put(&mut self, index: u32, records: Box<RecordLayer>) {
        let number = (index / CHUNK) as usize;
        if number >= self.chunks.len() {
            self.chunks.resize_with(number + 1, || None);
        }
        let chunk = self.chunks[number].get_or_insert_with(|| (0..CHUNK).map(|_| None).collect());
        records.settle(&mut chunk[(index % CHUNK) as usize]);
    }

    /// The session is gone: its secrets are wiped.
    pub(super) fn remove(&mut self, index: u32) {
        let chunk = self.chunks.get_mut((index / CHUNK) as usize);
        if let Some(chunk) = chunk.and_then(Option::as_mut) {
            chunk[(index % CHUNK) as usize] = None;
        }
    }

    /// Brings those of runs of `count` sessions each, which are in one chunk, into the cache, given the first of each.
    pub(super) fn prefetch(&self, runs: &[u32], count: u32) {
        let mut sum = 0;
        for &first in runs {
            if let Some(Some(chunk)) = self.chunks.get((first / CHUNK) as usize) {
                let start = (first % CHUNK) as usize;
                let of_run = chunk[start..start + count as usize].iter().flatten();
                sum ^= of_run.fold(0, |sum, records| sum ^ records.touch());
            }
        }
        std::hint::black_box(sum);
    }
}
