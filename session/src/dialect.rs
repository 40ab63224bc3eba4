//! What frames mean: how a ping is spelled, which message is its pong, how messages and the end of
//! a session are spelled. The worker decides *when* something is said, the dialect *what* is said.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use fastwebsockets::OpCode;

use super::frame;
use super::message::Message;
use crate::close_reason::CloseReason;

/// What a ping bears: when it was sent, and a tag that only this worker can make. A pong with it
/// answers this ping of this session.
pub type Nonce = [u8; 8];

/// A protocol over WebSocket frames. Each session has a value of it, so a worker serves several
/// dialects if the type is an enum of them; one that is alone takes no memory.
pub trait Dialect: Copy {
    /// A ping as it goes over the wire.
    type Ping: AsRef<[u8]>;

    /// Whether the first ping comes a whole interval after the session has begun. If not, it comes
    /// at any moment of the first interval.
    fn first_ping_waits(self) -> bool {
        false
    }

    /// Spells a ping.
    fn ping(self, nonce: Nonce) -> Self::Ping;

    /// Whether a pong frame with this payload (RFC 6455 §5.5.3) answers the ping with `nonce`. The
    /// round-trip time is taken from such pongs alone; any whole frame keeps a session.
    fn is_pong(self, payload: &[u8], nonce: Nonce) -> bool;

    /// Whether binary messages are understood. If not, the first frame of one ends the session with
    /// [`CloseReason::UnsupportedData`].
    fn takes_binary(self) -> bool;

    /// What a whole message from the client means.
    ///
    /// # Errors
    ///
    /// Why the session must end.
    fn read(self, message: Message<'_>) -> Result<Meaning<'_>, CloseReason>;

    /// Spells a message to the client and appends it to `out`. Text is UTF-8 (RFC 6455 §5.6).
    fn write(self, out: &mut Vec<u8>, message: Message<'_>);

    /// Spells the end of a session and appends it to `out`. Appends nothing for a reason for which
    /// no frame can be sent.
    fn close(self, out: &mut Vec<u8>, reason: CloseReason);
}

/// What a whole message from a client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A message for the service.
    Message(Message<'a>),
    /// The answer to a ping, from which the round-trip time is taken while one is awaited.
    Pong,
    /// Nothing but a sign of life.
    Nothing,
}

/// WebSocket frames as RFC 6455 has them: pings and pongs are control frames, messages are frames
/// of their own, and a session ends with a close code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain<const TAKES_BINARY: bool>;

/// Bytes of a plain ping.
const PING_BYTES: usize = 2 + size_of::<Nonce>();

impl<const TAKES_BINARY: bool> Dialect for Plain<TAKES_BINARY> {
    type Ping = [u8; PING_BYTES];

    #[inline]
    fn ping(self, nonce: Nonce) -> [u8; PING_BYTES] {
        let mut ping = [0; PING_BYTES];
        ping[0] = 0x80 | OpCode::Ping as u8;
        ping[1] = size_of::<Nonce>() as u8;
        ping[2..].copy_from_slice(&nonce);
        ping
    }

    #[inline]
    fn is_pong(self, payload: &[u8], nonce: Nonce) -> bool {
        payload == nonce
    }

    #[inline]
    fn takes_binary(self) -> bool {
        TAKES_BINARY
    }

    #[inline]
    fn read(self, message: Message<'_>) -> Result<Meaning<'_>, CloseReason> {
        Ok(Meaning::Message(message))
    }

    fn write(self, out: &mut Vec<u8>, message: Message<'_>) {
        match message {
            Message::Text(text) => frame::encode(out, OpCode::Text, text),
            Message::Binary(data) => frame::encode(out, OpCode::Binary, data),
        }
    }

    fn close(self, out: &mut Vec<u8>, reason: CloseReason) {
        let facts = reason.facts();
        if let Some(code) = facts.close_code {
            frame::encode_close(out, code, facts.label);
        }
    }
}
