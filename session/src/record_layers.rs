//! The record layers of sessions whose clients speak TLS. They are beside the slab, so that a plain session does not pay for
//! them, and each in a box of its own: what is moved would leave a copy of its secrets behind.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_tls::RecordLayer;

use crate::wheel::CHUNK;

/// Those of a worker's sessions, by their index in the slab. Without TLS there are none, and to look for one costs a
/// comparison.
#[derive(Debug, Default)]
pub(super) struct RecordLayers(Vec<Option<Box<RecordLayer>>>);

impl RecordLayers {
    /// That of a session; `None` of a plain one.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut RecordLayer> {
        self.0.get_mut(index as usize)?.as_deref_mut()
    }

    /// Whether a session has one.
    #[inline]
    pub(super) fn has(&self, index: u32) -> bool {
        self.0.get(index as usize).is_some_and(Option::is_some)
    }

    /// Keeps that of a session.
    pub(super) fn put(&mut self, index: u32, records: Box<RecordLayer>) {
        let index = index as usize;
        if index >= self.0.len() {
            // As the slab grows: doubled, half of it might stay empty.
            let length = (index + 1).next_multiple_of(CHUNK as usize);
            self.0.reserve_exact(length - self.0.len());
            self.0.resize_with(length, || None);
        }
        self.0[index] = Some(records);
    }

    /// The session is gone: its secrets are wiped.
    pub(super) fn remove(&mut self, index: u32) {
        if let Some(place) = self.0.get_mut(index as usize) {
            *place = None;
        }
    }
}
