//! What most sessions have nothing of: parts of records, frames and messages, and what a socket did not
//! take. Kept beside the slab, so that a session that sleeps does not pay for it, and counted, so
//! that all together are bounded.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;

use super::assembly::Assembly;
use crate::limits::MESSAGE_TIME_MAX;

/// One session's.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// What has come of a record of TLS that is not whole.
    pub(super) record: Vec<u8>,
    pub(super) record_since: Duration,
    /// The begin of a frame.
    pub(super) partial: Vec<u8>,
    pub(super) partial_since: Duration,
    /// The begin of a message.
    pub(super) assembly: Option<Assembly>,
    /// What the socket did not take.
    pub(super) outbox: Vec<u8>,
    /// Bytes of `outbox` that it has taken since.
    pub(super) sent: usize,
}

impl Buffers {
    fn is_empty(&self) -> bool {
        self.record.is_empty()
            && self.partial.is_empty()
            && self.assembly.is_none()
            && self.outbox.is_empty()
    }

    /// Memory that it holds, itself and its place among those that have begun included.
    fn bytes(&self) -> usize {
        let assembly = self.assembly.as_ref().map_or(0, Assembly::capacity);
        let itself = size_of::<Buffers>() + size_of::<(Duration, u32)>();
        let bytes = [&self.record, &self.partial, &self.outbox].map(Vec::capacity);
        itself + assembly + bytes.iter().sum::<usize>()
    }

    /// Since when a record, a frame or a message is not whole, if one has begun.
    fn begun_at(&self) -> Option<Duration> {
        let record = (!self.record.is_empty()).then_some(self.record_since);
        let partial = (!self.partial.is_empty()).then_some(self.partial_since);
        let assembly = self.assembly.as_ref().map(Assembly::since);
        [record, partial, assembly].into_iter().flatten().min()
    }
}

/// Those of all sessions of a worker, by their index in the slab.
#[derive(Debug, Default)]
pub(super) struct SessionBuffers {
    by_index: HashMap<u32, Box<Buffers>>,
    /// Those with a record, a frame or a message that is not whole, by when it began.
    begun: BTreeSet<(Duration, u32)>,
    bytes: usize,
}

impl SessionBuffers {
    /// Takes a session's out; put it back when done.
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Buffers>> {
        let buffers = self.by_index.remove(&index)?;
        self.bytes -= buffers.bytes();
        if let Some(begun_at) = buffers.begun_at() {
            self.begun.remove(&(begun_at, index));
        }
        Some(buffers)
    }

    /// Puts a session's back. False, and it is freed, if there is nothing in it.
    pub(super) fn put(&mut self, index: u32, buffers: Option<Box<Buffers>>) -> bool {
        let Some(buffers) = buffers.filter(|buffers| !buffers.is_empty()) else {
            return false;
        };
        self.bytes += buffers.bytes();
        if let Some(begun_at) = buffers.begun_at() {
            self.begun.insert((begun_at, index));
        }
        self.by_index.insert(index, buffers);
        true
    }

    /// Takes out what a session has begun to send; put it back when done. What waits for its socket stays where it is: it
    /// must not be lost with what a fault of the service befalls.
    pub(super) fn take_begun(&mut self, index: u32) -> Option<Box<Buffers>> {
        let mut buffers = self.take(index)?;
        if !buffers.outbox.is_empty() {
            let waiting = Buffers {
                outbox: std::mem::take(&mut buffers.outbox),
                sent: std::mem::take(&mut buffers.sent),
                ..Buffers::default()
            };
            self.put(index, Some(Box::new(waiting)));
        }
        Some(buffers)
    }

    /// Puts it back. False if the session has nothing here.
    pub(super) fn put_begun(&mut self, index: u32, begun: Option<Box<Buffers>>) -> bool {
        let Some(waiting) = self.take(index) else {
            return self.put(index, begun);
        };
        let mut buffers = begun.unwrap_or_default();
        (buffers.outbox, buffers.sent) = (waiting.outbox, waiting.sent);
        self.put(index, Some(buffers))
    }

    pub(super) fn get(&self, index: u32) -> Option<&Buffers> {
        self.by_index.get(&index).map(|buffers| &**buffers)
    }

    /// A session with a record, a frame or a message that should have been whole by `now`.
    pub(super) fn overdue(&self, now: Duration) -> Option<u32> {
        let (begun_at, index) = *self.begun.first()?;
        (now.saturating_sub(begun_at) > MESSAGE_TIME_MAX).then_some(index)
    }

    /// Whether something waits for a session's socket.
    pub(super) fn has_outbox(&self, index: u32) -> bool {
        self.get(index)
            .is_some_and(|buffers| !buffers.outbox.is_empty())
    }

    /// Frees all of a session's that has ended but what waits for its socket; false if nothing
    /// waits.
    pub(super) fn keep_outbox(&mut self, index: u32) -> bool {
        let Some(mut buffers) = self.take(index) else {
            return false;
        };
        buffers.record = Vec::new();
        buffers.partial = Vec::new();
        buffers.assembly = None;
        self.put(index, Some(buffers))
    }

    /// Memory that all hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
