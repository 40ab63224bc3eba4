//! TLS on a connection of HTTP, from the end of its handshake on: what is read is opened, what is written is sealed. No IO:
//! the socket moves the bytes.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io;

use presenced_session::connection::Tls;
use presenced_tls::limits::FRAGMENT_BYTES_MAX;

use crate::limits::{IDLE_RECORDS_MAX, UNSENT_RECORDS_BYTES_MAX};

/// TLS on a connection.
#[derive(Debug)]
pub(super) struct Sealed {
    tls: Tls,
    /// Records that the socket has not taken: they go out first, in this order.
    unsent: Vec<u8>,
    /// Records without data that have come.
    idle: u32,
}

impl Sealed {
    /// Where `unsent` was sealed before.
    pub(super) fn new(tls: Tls, unsent: Vec<u8>) -> Sealed {
        Sealed {
            tls,
            unsent,
            idle: 0,
        }
    }

    /// Opens what was read, and appends what was in it to `ahead`. There may be something to send then.
    ///
    /// # Errors
    ///
    /// Too much has come that has no data, or waits for a peer that does not read.
    pub(super) fn open(&mut self, bytes: &[u8], ahead: &mut Vec<u8>) -> io::Result<()> {
        let Tls { records, partial } = &mut self.tls;
        partial.reserve_exact(bytes.len());
        partial.extend_from_slice(bytes);
        let opened = records.open(partial, &mut self.unsent);
        ahead.extend_from_slice(&partial[..opened.data]);
        if opened.taken > 0 {
            // No larger than it must be: a connection may stay for long without a byte.
            *partial = partial[opened.taken..].to_vec();
        }
        self.idle = self.idle.saturating_add(opened.idle);
        match self.idle > IDLE_RECORDS_MAX || self.unsent.len() > UNSENT_RECORDS_BYTES_MAX {
            true => Err(io::ErrorKind::QuotaExceeded.into()),
            false => Ok(()),
        }
    }

    /// Whether a record has come in part.
    pub(super) fn has_begun_record(&self) -> bool {
        !self.tls.partial.is_empty()
    }

    /// Whether nothing more is read: the peer has said so, or has done what TLS forbids.
    pub(super) fn has_ended(&self) -> bool {
        self.tls.records.end().is_some()
    }

    /// Seals the first of `data`, which is to be sent then; returns how much of it.
    ///
    /// # Errors
    ///
    /// The connection is closed, or has to be.
    pub(super) fn seal(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(FRAGMENT_BYTES_MAX);
        let sealed = self.tls.records.seal(&data[..count], &mut self.unsent);
        sealed.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(count)
    }

    /// Nothing is sealed behind this, unless it was closed before.
    pub(super) fn close(&mut self) {
        self.tls.records.close(&mut self.unsent);
    }

    /// What is to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// The first `count` bytes of that were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.unsent.drain(..count);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
    }

    /// What is left of it, if all is sent.
    pub(super) fn into_tls(self) -> Option<Tls> {
        self.unsent.is_empty().then_some(self.tls)
    }
}
