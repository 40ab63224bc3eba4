//! What a driver and a transport say to each other.

use std::time::Duration;

use crate::limits::{CLOSE_TIMEOUT, QUEUE_BYTES_MAX, UPGRADE_TIMEOUT};

/// Times and bounds, the same for all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the 101 of an upgrade to its end.
    pub upgrade_timeout: Duration,
    /// How long a closed session waits for a poll that takes what is queued.
    pub close_timeout: Duration,
    /// What may wait for a session, in bytes.
    pub queue_bytes_max: usize,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            upgrade_timeout: UPGRADE_TIMEOUT,
            close_timeout: CLOSE_TIMEOUT,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// In the body of a POST.
    Post,
    /// Over the session's WebSocket.
    WebSocket,
}

/// What a packet from the client means. Each, `Nothing` included, is a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Received<'a> {
    /// A Socket.IO packet.
    Message(&'a [u8]),
    /// An attachment of a Socket.IO packet.
    Binary(&'a [u8]),
    /// A pong, asked for or not.
    Pong,
    /// Nothing more.
    Nothing,
}

/// Whether a poll or a POST is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It is.
    Taken,
    /// The session does not poll: [`Refusal::BadRequest`](crate::engine::Refusal::BadRequest), and nothing
    /// has changed.
    NotPolling,
}

/// What becomes of a packet to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// The driver writes it to the WebSocket; nothing has been kept of it.
    Direct,
    /// It has its place in the queue; [`Transport::output`](super::Transport::output) knows more.
    Queued,
    /// The session is closed: nobody is going to read it.
    Dropped,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Output {
    /// Answers the waiting poll: 200, with what was appended.
    AnswerPoll,
    /// Writes a text message to the WebSocket: what was appended.
    Text,
    /// Writes a binary message to the WebSocket: what was appended.
    Binary,
    /// Closes the WebSocket. It is no part of the session from now on; what still comes over it is
    /// ignored.
    CloseWebSocket,
}
