//! What a session has that is not simply on its WebSocket, and what is due of it.

use std::time::Duration;

use super::{Output, Via};
use crate::engine::packet::{BadPacket, Kind, Packet};
use crate::engine::payload;
use crate::engine::queue::Queue;

/// What the client says when it tries a WebSocket, and what it is answered.
const PROBE: &[u8] = b"probe";

#[derive(Debug)]
pub(super) struct Rest {
    pub(super) phase: Phase,
    pub(super) websocket: WebSocket,
    pub(super) has_poll: bool,
    pub(super) has_post: bool,
    pub(super) queue: Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Polling,
    /// On the WebSocket; what was queued goes there.
    Upgraded,
    /// The server has closed it; the queue is still delivered.
    Closing {
        until: Duration,
    },
    /// Over; a poll that waits is answered with this.
    Ended(Packet<'static>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WebSocket {
    None,
    /// After the 101 of an upgrade.
    Opened {
        until: Duration,
    },
    /// The client has probed it, and is told so if it was not.
    Probed {
        until: Duration,
        is_answered: bool,
    },
    /// It is the session's transport.
    Current,
    /// The driver is to be told to close it.
    ToClose,
}

impl Rest {
    pub(super) fn new(phase: Phase, websocket: WebSocket) -> Rest {
        Rest {
            phase,
            websocket,
            has_poll: false,
            has_post: false,
            queue: Queue::default(),
        }
    }

    /// The WebSocket of a session that polls says something.
    pub(super) fn probe(&mut self, packet: Result<Packet<'_>, BadPacket>) {
        match (self.websocket, packet) {
            (WebSocket::Opened { until }, Ok(Packet::Text(Kind::Ping, PROBE))) => {
                self.websocket = WebSocket::Probed {
                    until,
                    is_answered: false,
                };
            }
            (WebSocket::Probed { .. }, Ok(Packet::Text(Kind::Upgrade, _))) => {
                self.websocket = WebSocket::Current;
                self.phase = Phase::Upgraded;
            }
            // What it says instead is no part of the session.
            (WebSocket::Opened { .. } | WebSocket::Probed { .. }, _) => self.close_websocket(),
            // Of one that is closed.
            (WebSocket::None | WebSocket::ToClose | WebSocket::Current, _) => {}
        }
    }

    pub(super) fn is_current(&self, via: Via) -> bool {
        via == Via::Post || self.websocket == WebSocket::Current
    }

    pub(super) fn close_websocket(&mut self) {
        if self.websocket != WebSocket::None {
            self.websocket = WebSocket::ToClose;
        }
    }

    pub(super) fn output(&mut self, out: &mut Vec<u8>) -> Option<Output> {
        if self.websocket == WebSocket::ToClose {
            self.websocket = WebSocket::None;
            return Some(Output::CloseWebSocket);
        }
        if let WebSocket::Probed { is_answered, .. } = &mut self.websocket
            && !std::mem::replace(is_answered, true)
        {
            out.push(Kind::Pong.digit());
            out.extend_from_slice(PROBE);
            return Some(Output::Text);
        }
        if self.has_poll && self.answer(out) {
            self.has_poll = false;
            return Some(Output::AnswerPoll);
        }
        if self.websocket == WebSocket::Current {
            match (self.queue.pop_message(out), self.phase) {
                (Some(true), _) => return Some(Output::Text),
                (Some(false), _) => return Some(Output::Binary),
                (None, Phase::Closing { .. }) => {
                    self.phase = Phase::Ended(Packet::CLOSE);
                    self.websocket = WebSocket::None;
                    return Some(Output::CloseWebSocket);
                }
                (None, _) => {}
            }
        }
        None
    }

    /// Writes what the waiting poll is answered; false if it is to wait.
    fn answer(&mut self, body: &mut Vec<u8>) -> bool {
        match self.phase {
            Phase::Ended(last) => payload::push(body, last),
            Phase::Upgraded => payload::push(body, Packet::NOOP),
            // On the WebSocket, which has the queue.
            Phase::Closing { .. } if self.websocket == WebSocket::Current => {
                payload::push(body, Packet::NOOP);
            }
            Phase::Closing { .. } => {
                if self.queue.pop_payload(body, 1) {
                    payload::push(body, Packet::CLOSE);
                    self.phase = Phase::Ended(Packet::CLOSE);
                }
            }
            Phase::Polling if !self.queue.is_empty() => {
                self.queue.pop_payload(body, 0);
            }
            // A client that has probed waits for the end of its poll.
            Phase::Polling if matches!(self.websocket, WebSocket::Probed { .. }) => {
                payload::push(body, Packet::NOOP);
            }
            Phase::Polling => return false,
        }
        true
    }
}
