//! To the sockets: answers, and what a socket did not take.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use fastwebsockets::OpCode;
use mio::Interest;
use mio::unix::SourceFd;

use super::{Worker, is_transient};
use crate::end::End;
use crate::limits::{OUTBOX_BYTES_MAX, SCRATCH_BYTES};
use crate::pull::Answer;
use crate::session::codec;
use crate::session::table::Token;

impl Worker {
    pub(super) fn answered(&mut self, (token, number, answer): (Token, u64, Option<Answer>)) {
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        session.pulls -= 1;
        if let Some(answer) = answer
            && !session.closing
        {
            self.say(&answer.json(Some(number)));
            if let Err(end) = self.reply(token) {
                self.end(token, end);
            }
        }
    }

    /// Adds a text message to what this wake has to say.
    pub(super) fn say(&mut self, text: &[u8]) {
        codec::encode(&mut self.replies, OpCode::Text, text);
    }

    /// Sends what this wake has to say.
    pub(super) fn reply(&mut self, token: Token) -> Result<(), End> {
        self.encode_pong();
        if self.replies.is_empty() {
            return Ok(());
        }
        let mut replies = std::mem::take(&mut self.replies);
        let sent = self.send(token, &replies);
        replies.clear();
        // A large answer is rare; its buffer need not stay.
        replies.shrink_to(SCRATCH_BYTES);
        self.replies = replies;
        sent
    }

    /// Adds the answer to the last ping, if there was one.
    pub(super) fn encode_pong(&mut self) {
        if let Some((payload, length)) = self.pinged_with.take() {
            let payload = &payload[..usize::from(length)];
            codec::encode(&mut self.replies, OpCode::Pong, payload);
        }
    }

    /// Writes `bytes`, and keeps what the socket does not take.
    pub(super) fn send(&mut self, token: Token, bytes: &[u8]) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let written = if session.has_outbox() {
            0
        } else {
            match session.socket.write(bytes) {
                Ok(written) => written,
                Err(error) if is_transient(&error) => 0,
                Err(_) => return Err(End::Gone),
            }
        };
        if written == bytes.len() {
            return Ok(());
        }
        let first = !session.has_outbox();
        let rest = session.rest.get_or_insert_default();
        if rest.outbox.len() + bytes.len() - written > OUTBOX_BYTES_MAX {
            return Err(End::NotReading);
        }
        rest.outbox.extend_from_slice(&bytes[written..]);
        if first {
            self.set_interest(token, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(())
    }

    /// Writes what waits for a session; true when nothing waits any more.
    pub(super) fn write_outbox(&mut self, token: Token) -> Result<bool, End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(false);
        };
        let Some(rest) = &mut session.rest else {
            return Ok(true);
        };
        while rest.sent < rest.outbox.len() {
            match session.socket.write(&rest.outbox[rest.sent..]) {
                Ok(written) => rest.sent += written,
                Err(error) if is_transient(&error) => return Ok(false),
                Err(_) => return Err(End::Gone),
            }
        }
        rest.outbox = Vec::new();
        rest.sent = 0;
        session.tidy();
        if session.closing {
            let _ = session.socket.shutdown(Shutdown::Write);
        }
        self.set_interest(token, Interest::READABLE)?;
        Ok(true)
    }

    pub(super) fn set_interest(&mut self, token: Token, interest: Interest) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let fd = session.socket.as_raw_fd();
        let poll_token = mio::Token(token.to_usize());
        let registry = self.poll.registry();
        registry
            .reregister(&mut SourceFd(&fd), poll_token, interest)
            .map_err(|_| End::Internal)
    }
}
