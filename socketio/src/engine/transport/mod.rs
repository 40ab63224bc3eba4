//! How a session's packets travel: by polling, over a WebSocket, or first by one and then over the
//! other.
//!
//! The driver tells a [`Transport`] what has happened (a request, a WebSocket, a packet, time),
//! and then does what [`Transport::output`] says, until that is `None`. It tells both in the order
//! in which they happen, and only of requests that [`Request::route`](super::Request::route) lets
//! through.

mod rest;
mod terms;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::rest::{Phase, Rest, WebSocket};
pub use self::terms::{Admission, Output, Received, Sent, Times, Via};
use super::packet::{BadPacket, Kind, Packet};
use super::queue::Queue;
use super::request::Live;
use crate::end::End;

/// How the packets of one session travel. On a WebSocket, as most are, it has nothing on the heap:
/// it is [`Transport::websocket`] each time.
#[derive(Debug)]
pub struct Transport(State);

#[derive(Debug)]
enum State {
    /// On its WebSocket, and nothing waits.
    WebSocket,
    /// Everything else.
    Rest(Box<Rest>),
    /// Over, and all has been said.
    Over,
}

impl Transport {
    /// Of a session that begins to poll.
    pub fn polling() -> Transport {
        Transport(State::Rest(Box::new(Rest::new(
            Phase::Polling,
            WebSocket::None,
        ))))
    }

    /// Of a session that is on a WebSocket.
    pub const fn websocket() -> Transport {
        Transport(State::WebSocket)
    }

    /// Whether it is as [`Transport::websocket`] is: a sleeping session need not keep it.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, State::WebSocket)
    }

    /// What requests of the session are to know; `None` once it is over.
    pub fn live(&self) -> Option<Live> {
        let rest = match &self.0 {
            State::WebSocket => return Some(Live::WebSocket),
            State::Rest(rest) => rest,
            State::Over => return None,
        };
        match (rest.phase, rest.websocket) {
            (Phase::Ended(_), _) => None,
            (Phase::Upgraded, _) | (_, WebSocket::Current) => Some(Live::WebSocket),
            (_, WebSocket::None) => Some(Live::Polling),
            (_, WebSocket::Opened { .. } | WebSocket::Probed { .. } | WebSocket::ToClose) => {
                Some(Live::Probing)
            }
        }
    }

    /// A GET has come, and waits until it is answered.
    ///
    /// # Errors
    ///
    /// Another one waits: this one is answered 400 without a body, and the session ends.
    pub fn poll(&mut self) -> Result<Admission, End> {
        let Some(rest) = self.polls() else {
            return Ok(Admission::NotPolling);
        };
        if rest.has_poll {
            return Err(self.end(End::SecondPoll));
        }
        rest.has_poll = true;
        Ok(Admission::Taken)
    }

    /// The connection of the GET that waits is gone.
    ///
    /// # Errors
    ///
    /// That ends the session, if there was one.
    pub fn poll_gone(&mut self) -> Result<(), End> {
        let State::Rest(rest) = &mut self.0 else {
            return Ok(());
        };
        if !std::mem::take(&mut rest.has_poll) {
            return Ok(());
        }
        match rest.phase {
            // It was only to be released.
            Phase::Upgraded | Phase::Ended(_) => Ok(()),
            Phase::Polling | Phase::Closing { .. } => Err(self.end(End::Gone)),
        }
    }

    /// The head of a POST has come. Its packets are [`Transport::receive`]d when its body is whole;
    /// then [`Transport::post_done`].
    ///
    /// # Errors
    ///
    /// Another one is under way: this one is answered 400, and the session ends.
    pub fn post(&mut self) -> Result<Admission, End> {
        let Some(rest) = self.polls() else {
            return Ok(Admission::NotPolling);
        };
        if rest.has_post {
            return Err(self.end(End::SecondPost));
        }
        rest.has_post = true;
        Ok(Admission::Taken)
    }

    /// The packets of a POST have been taken: it is answered `ok`. One whose packets end the session is
    /// answered 400, or `ok` if the end is [`End::Closed`]. One whose body is refused is
    /// [`Transport::end`] with [`End::BadBody`], or this, and the session goes on.
    pub fn post_done(&mut self) {
        if let State::Rest(rest) = &mut self.0 {
            rest.has_post = false;
        }
    }

    /// The connection of a POST is gone before its body was whole.
    ///
    /// # Errors
    ///
    /// That ends the session, unless it goes on over a WebSocket.
    pub fn post_gone(&mut self) -> Result<(), End> {
        self.post_done();
        match self.polls() {
            Some(_) => Err(self.end(End::Gone)),
            None => Ok(()),
        }
    }

    /// A WebSocket is opened for a session that polls; false if there is no place for one, which is
    /// [`Refusal::BadRequest`](super::Refusal::BadRequest), and nothing has changed.
    #[must_use]
    pub fn open_websocket(&mut self, now: Duration, times: &Times) -> bool {
        match &mut self.0 {
            State::Rest(rest)
                if rest.phase == Phase::Polling && rest.websocket == WebSocket::None =>
            {
                rest.websocket = WebSocket::Opened {
                    until: now + times.upgrade_timeout,
                };
                true
            }
            _ => false,
        }
    }

    /// The session's WebSocket is closed by the client, or its connection is gone.
    ///
    /// # Errors
    ///
    /// That ends the session, unless it polls.
    pub fn websocket_gone(&mut self) -> Result<(), End> {
        match &mut self.0 {
            State::Over => Ok(()),
            State::WebSocket => {
                self.0 = State::Over;
                Err(End::Gone)
            }
            State::Rest(rest) => {
                let was = std::mem::replace(&mut rest.websocket, WebSocket::None);
                match (was, rest.phase) {
                    (WebSocket::Current, Phase::Upgraded | Phase::Closing { .. }) => {
                        Err(self.end(End::Gone))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// A packet has come, or bytes that are none.
    ///
    /// # Errors
    ///
    /// It ends the session.
    pub fn receive<'a>(
        &mut self,
        via: Via,
        packet: Result<Packet<'a>, BadPacket>,
    ) -> Result<Received<'a>, End> {
        match &mut self.0 {
            State::WebSocket => {}
            State::Over => return Ok(Received::Nothing),
            State::Rest(rest) => match (rest.phase, via) {
                (Phase::Polling, Via::WebSocket) => {
                    rest.probe(packet);
                    return Ok(Received::Nothing);
                }
                (Phase::Polling | Phase::Upgraded, _) => {}
                (Phase::Closing { .. }, via) => match packet {
                    Ok(Packet::Text(Kind::Close, _)) if rest.is_current(via) => {
                        return Err(self.end(End::Closed));
                    }
                    _ => return Ok(Received::Nothing),
                },
                (Phase::Ended(_), _) => return Ok(Received::Nothing),
            },
        }
        match meaning(packet) {
            Ok(received) => Ok(received),
            Err(end) => Err(self.end(end)),
        }
    }

    /// A packet for the client.
    ///
    /// # Errors
    ///
    /// Too much waits: the session ends.
    pub fn send(&mut self, packet: Packet<'_>, times: &Times) -> Result<Sent, End> {
        let rest = match &mut self.0 {
            State::WebSocket => return Ok(Sent::Direct),
            State::Over => return Ok(Sent::Dropped),
            State::Rest(rest) => rest,
        };
        match rest.phase {
            Phase::Closing { .. } | Phase::Ended(_) => Ok(Sent::Dropped),
            Phase::Upgraded | Phase::Polling => {
                match rest.queue.push(packet, times.queue_bytes_max) {
                    true => Ok(Sent::Queued),
                    false => Err(self.end(End::SlowConsumer)),
                }
            }
        }
    }

    /// A ping for the client, as [`Transport::send`]; one that waits is enough.
    ///
    /// # Errors
    ///
    /// Too much waits: the session ends.
    pub fn ping(&mut self, times: &Times) -> Result<Sent, End> {
        match &self.0 {
            State::Rest(rest) if rest.queue.has_ping() => Ok(Sent::Queued),
            _ => self.send(Packet::PING, times),
        }
    }

    /// Closes the session. What is queued is still delivered, also by the next poll, which may take
    /// a while.
    pub fn close(&mut self, now: Duration, times: &Times) {
        match &mut self.0 {
            State::Over => {}
            State::WebSocket => {
                self.end(End::ByServer);
            }
            State::Rest(rest) => {
                if let Phase::Polling | Phase::Upgraded = rest.phase {
                    rest.phase = Phase::Closing {
                        until: now + times.close_timeout,
                    };
                    if rest.websocket != WebSocket::Current {
                        rest.close_websocket();
                    }
                }
            }
        }
    }

    /// Ends the session at once, for the reason given, which is returned.
    pub fn end(&mut self, end: End) -> End {
        // Clients take `1` for a broken transport and come back; who has left needs no such word.
        let last = match end {
            End::Closed => Packet::NOOP,
            _ => Packet::CLOSE,
        };
        match &mut self.0 {
            State::Over => {}
            State::WebSocket => {
                let rest = Rest::new(Phase::Ended(last), WebSocket::ToClose);
                self.0 = State::Rest(Box::new(rest));
            }
            State::Rest(rest) => {
                rest.close_websocket();
                if !matches!(rest.phase, Phase::Ended(_)) {
                    rest.phase = Phase::Ended(last);
                }
                rest.queue = Queue::default();
            }
        }
        end
    }

    /// When [`Transport::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let State::Rest(rest) = &self.0 else {
            return None;
        };
        match (rest.phase, rest.websocket) {
            (Phase::Closing { until }, _)
            | (_, WebSocket::Opened { until } | WebSocket::Probed { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Looks at the clock: an upgrade that takes too long is given up, and the session polls on.
    ///
    /// # Errors
    ///
    /// Nobody has come for the last packets of a closed session.
    pub fn tick(&mut self, now: Duration) -> Result<(), End> {
        if self.deadline().is_none_or(|until| now < until) {
            return Ok(());
        }
        if let State::Rest(rest) = &mut self.0
            && rest.phase == Phase::Polling
        {
            rest.close_websocket();
            return Ok(());
        }
        Err(self.end(End::ByServer))
    }

    /// What is to be done next, with its bytes appended to `out`; `None` if nothing is. The driver
    /// asks after each call of any other method.
    pub fn output(&mut self, out: &mut Vec<u8>) -> Option<Output> {
        let State::Rest(rest) = &mut self.0 else {
            return None;
        };
        let output = rest.output(out);
        if output.is_none() {
            match rest.phase {
                // A POST that is still under way is only the driver's.
                Phase::Upgraded => self.0 = State::WebSocket,
                Phase::Ended(_) => self.0 = State::Over,
                Phase::Polling | Phase::Closing { .. } => {}
            }
        }
        output
    }

    /// The session, if it takes polls and POSTs.
    fn polls(&mut self) -> Option<&mut Rest> {
        match &mut self.0 {
            State::Rest(rest)
                if matches!(rest.phase, Phase::Polling | Phase::Closing { .. })
                    && rest.websocket != WebSocket::Current =>
            {
                Some(rest)
            }
            _ => None,
        }
    }
}

/// What a packet means outside of an upgrade.
fn meaning(packet: Result<Packet<'_>, BadPacket>) -> Result<Received<'_>, End> {
    match packet.map_err(End::BadPacket)? {
        Packet::Binary(data) => Ok(Received::Binary(data)),
        Packet::Text(Kind::Message, data) => Ok(Received::Message(data)),
        Packet::Text(Kind::Pong, _) => Ok(Received::Pong),
        Packet::Text(Kind::Open | Kind::Upgrade | Kind::Noop, _) => Ok(Received::Nothing),
        Packet::Text(Kind::Close, _) => Err(End::Closed),
        Packet::Text(Kind::Ping, _) => Err(End::Ping),
    }
}
