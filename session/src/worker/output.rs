//! To the sockets: answers, sealed if the client speaks TLS, and what a socket did not take.

use mio::Interest;
use mio::unix::SourceFd;
use presenced_tasks::{Task, caught};
use presenced_tls::SealError;

use super::{Session, Worker, is_transient};
use crate::close_reason::CloseReason;
use crate::limits::{REST_BYTES_MAX, SCRATCH_BYTES};
use crate::relay::Relay;
use crate::service::{Replies, Service, Then};
use crate::slab::SessionKey;
use crate::transport::Transport;

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// Does what the service had to wait for.
    pub(super) fn answer(&mut self, key: SessionKey, answer: S::Answer) {
        let id = self.id(key);
        let Some(session) = self.slab.get_mut(key) else {
            return;
        };
        if session.is_closing() {
            // A relay may still have to be heard: of its end, or of a connection for its last words.
            if session.socket.is_none() {
                self.readable(key, self.now);
            }
            return;
        }
        let (service, out) = (&mut self.service, &mut self.out);
        let answered = caught(Task::Session, || {
            let mut replies = Replies::new(session.dialect, out);
            service.answer(id, &mut session.handle, answer, &mut replies)
        });
        let replaced = match &answered {
            Some(Ok(Then::Begin(begins))) => begins.replaced,
            _ => None,
        };
        let told = match answered {
            // Half of what was to be said may be there.
            None => {
                self.out.clear();
                Err(CloseReason::Internal)
            }
            Some(answered) => self
                .guarded(Task::Session, |worker| worker.answered(key, answered))
                .unwrap_or(Err(CloseReason::Internal)),
        };
        if let Err(end) = told {
            self.end(key, end);
        }
        // Only now: what this session is told must not reach the one that it replaces.
        if let Some(oldest) = replaced {
            self.replace(oldest);
        }
    }

    /// What is left to do for a session when its service has answered.
    fn answered(
        &mut self,
        key: SessionKey,
        answered: Result<Then, CloseReason>,
    ) -> Result<(), CloseReason> {
        let term = match answered {
            Ok(Then::Begin(begins)) => self.begin_anew(key, begins.expires_at),
            Ok(Then::Nothing) => Ok(()),
            Ok(Then::Read) => self.serve(key, self.now),
            Err(end) => Err(end),
        };
        self.reply(key)?;
        term
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

    /// Sends frames.
    pub(super) fn send(&mut self, key: SessionKey, frames: &[u8]) -> Result<(), CloseReason> {
        let Some(records) = self.records.get_mut(key.index) else {
            return self.write(key, frames);
        };
        let sealed = records.seal(frames, &mut self.sealed);
        // Without a record for them there may be one that says why.
        self.send_sealed(key)?;
        match sealed {
            // Nothing can be said behind an alert, and the session ends for what came before it or for the alert.
            Ok(()) | Err(SealError::Closed) => Ok(()),
            Err(SealError::UsedUp) => Err(CloseReason::Disconnected),
        }
    }

    /// Sends what was sealed.
    pub(super) fn send_sealed(&mut self, key: SessionKey) -> Result<(), CloseReason> {
        if self.sealed.is_empty() {
            return Ok(());
        }
        let mut sealed = std::mem::take(&mut self.sealed);
        let sent = self.write(key, &sealed);
        sealed.clear();
        sealed.shrink_to(SCRATCH_BYTES);
        self.sealed = sealed;
        sent
    }

    /// The last record of a session whose client speaks TLS.
    pub(super) fn close_records(&mut self, key: SessionKey) -> Result<(), CloseReason> {
        if let Some(records) = self.records.get_mut(key.index) {
            records.close(&mut self.sealed);
        }
        self.send_sealed(key)
    }

    /// Writes `bytes` to whatever carries the session, and keeps what a socket does not take.
    fn write(&mut self, key: SessionKey, bytes: &[u8]) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if session.socket.is_none() {
            return self.relay(key, bytes);
        }
        let waits = session.has_buffers && self.buffers.has_outbox(key.index);
        let written = if waits { 0 } else { session.write(bytes)? };
        if written == bytes.len() {
            return Ok(());
        }
        self.keep(key, &bytes[written..])
    }

    /// Writes `bytes` to a session's relay.
    fn relay(&mut self, key: SessionKey, bytes: &[u8]) -> Result<(), CloseReason> {
        let relay = self.relays.get_mut(&key.index);
        relay.map_or(Ok(()), |relay| {
            relay
                .write_all(bytes)
                .map_err(|_| CloseReason::SlowConsumer)
        })
    }

    /// Keeps `bytes`, which the socket does not take now.
    pub(super) fn keep(&mut self, key: SessionKey, bytes: &[u8]) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if session.socket.is_none() {
            return self.relay(key, bytes);
        }
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
                session.finish();
            }
            self.set_interest(key, Interest::READABLE)?;
        }
        Ok(done)
    }

    fn set_interest(&mut self, key: SessionKey, interest: Interest) -> Result<(), CloseReason> {
        let session = self.slab.get_mut(key);
        let socket = session.and_then(|session| session.socket.as_ref());
        let Some(fd) = socket.and_then(Transport::descriptor) else {
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
        let Some(socket) = &mut self.socket else {
            // Its relay gets the rest.
            return Ok(0);
        };
        match socket.write(bytes) {
            Ok(written) => Ok(written),
            Err(error) if is_transient(&error) => Ok(0),
            Err(_) => Err(CloseReason::Disconnected),
        }
    }

    /// Ends the server's side of its connection, if it has one.
    pub(super) fn finish(&self) {
        if let Some(socket) = &self.socket {
            socket.finish();
        }
    }
}
