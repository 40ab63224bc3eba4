//! To the sockets: answers, and what a socket did not take.

use mio::Interest;
use mio::unix::SourceFd;

use super::{Session, Worker, is_transient};
use crate::close_reason::CloseReason;
use crate::dialect::Dialect;
use crate::limits::{REST_BYTES_MAX, SCRATCH_BYTES};
use crate::service::{Message, Service};
use crate::slab::SessionKey;
use crate::transport::Transport;

impl<S: Service, T: Transport> Worker<S, T> {
    /// Sends an answer that the service had to wait for.
    pub(super) fn answer(&mut self, key: SessionKey, text: &[u8]) {
        let session = self
            .slab
            .get_mut(key)
            .filter(|session| !session.is_closing());
        let Some(dialect) = session.map(|session| session.dialect) else {
            return;
        };
        dialect.write(&mut self.out, Message::Text(text));
        if let Err(end) = self.reply(key) {
            self.end(key, end);
        }
    }

    /// Sends what this wake has to say.
    pub(super) fn reply(&mut self, key: SessionKey) -> Result<(), CloseReason> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.out);
        let sent = self.send(key, &out);
        out.clear();
        // A large answer is rare; its buffer need not stay.
        out.shrink_to(SCRATCH_BYTES);
        self.out = out;
        sent
    }

    /// Writes `bytes`, and keeps what the socket does not take.
    pub(super) fn send(&mut self, key: SessionKey, bytes: &[u8]) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        let waits = session.has_buffers && self.buffers.has_outbox(key.index);
        let written = if waits { 0 } else { session.write(bytes)? };
        if written == bytes.len() {
            return Ok(());
        }
        self.keep(key, &bytes[written..])
    }

    /// Keeps `bytes`, which the socket does not take now.
    pub(super) fn keep(&mut self, key: SessionKey, bytes: &[u8]) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        let mut buffers = self.buffers.take(key.index).unwrap_or_default();
        let is_first = buffers.outbox.is_empty();
        buffers.outbox.extend_from_slice(bytes);
        let too_much = buffers.outbox.len() - buffers.sent > self.parts.config.outbox_bytes_max;
        session.has_buffers = self.buffers.put(key.index, Some(buffers));
        if too_much || self.buffers.bytes() > REST_BYTES_MAX {
            return Err(CloseReason::SlowConsumer);
        }
        if is_first {
            self.set_interest(key, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(())
    }

    /// Writes what waits for a session; true when nothing waits any more.
    pub(super) fn write_outbox(&mut self, key: SessionKey) -> Result<bool, CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(false);
        };
        if !self.buffers.has_outbox(key.index) {
            return Ok(true);
        }
        let Some(mut buffers) = self.buffers.take(key.index) else {
            return Ok(true);
        };
        let mut result = Ok(());
        while buffers.sent < buffers.outbox.len() {
            match session.write(&buffers.outbox[buffers.sent..]) {
                Ok(0) => break,
                Ok(written) => buffers.sent += written,
                Err(end) => {
                    result = Err(end);
                    break;
                }
            }
        }
        let done = buffers.sent == buffers.outbox.len();
        if done {
            buffers.outbox = Vec::new();
            buffers.sent = 0;
        }
        session.has_buffers = self.buffers.put(key.index, Some(buffers));
        result?;
        if done {
            if session.is_closing() {
                session.socket.finish();
            }
            self.set_interest(key, Interest::READABLE)?;
        }
        Ok(done)
    }

    fn set_interest(&mut self, key: SessionKey, interest: Interest) -> Result<(), CloseReason> {
        let session = self.slab.get_mut(key);
        let Some(fd) = session.and_then(|session| session.socket.descriptor()) else {
            return Ok(());
        };
        let name = mio::Token(key.to_usize());
        let registry = self.poll.registry();
        registry
            .reregister(&mut SourceFd(&fd), name, interest)
            .map_err(|_| CloseReason::Internal)
    }
}

impl<H, D, T: Transport> Session<H, D, T> {
    /// Bytes that the socket took, 0 if it takes none now.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, CloseReason> {
        match self.socket.write(bytes) {
            Ok(written) => Ok(written),
            Err(error) if is_transient(&error) => Ok(0),
            Err(_) => Err(CloseReason::Disconnected),
        }
    }
}
