//! A poll that waits for a packet. While it waits ([`HeldPolls`](super::held_polls::HeldPolls)), it has no place among the
//! HTTP connections and no buffer, since it may wait for a whole ping interval.

use std::net::TcpStream;

use hyper::header;
use hyper::{Request, Version};
use presenced_session::connection::Connection;
use tokio::time::timeout;

use super::caller::Caller;
use super::cors::Page;
use super::parting::{part, to_wire};
use super::pipe::PollWait;
use super::response::{Answer, set_close, with_type};
use super::shared_places::Place;
use super::socket::Socket;
use crate::limits::{ANSWER_TIME, PARTING_TIME};

/// A poll that waits: for what, and what its answer is to be like.
#[derive(Debug)]
pub(super) struct HeldPoll {
    pub(super) wait: PollWait,
    pub(super) reply: Reply,
}

/// What the answer to a poll is like, whatever it says.
#[derive(Debug)]
pub(super) struct Reply {
    /// Who may read it.
    pub(super) page: Page,
    /// Whether the client does not keep its connection for its next request.
    pub(super) is_last: bool,
}

/// The connection of a poll that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) connection: Connection<TcpStream>,
    /// What has come behind the poll.
    pub(super) ahead: Box<[u8]>,
    pub(super) peer: Caller,
    pub(super) reply: Reply,
}

/// What the answer to a poll is.
pub(super) const MEDIA_TYPE: &str = "text/plain; charset=UTF-8";

/// The answer to a poll.
pub(super) fn answer(body: Vec<u8>) -> Answer {
    with_type(200, MEDIA_TYPE, body.into())
}

impl Held {
    /// Ends the connection without an answer.
    pub(super) fn close(self) {
        // A socket ends in order, should it speak TLS.
        drop(Socket::new(self.connection, Vec::new()));
    }

    /// Sends the answer on the connection that the poll came over. Returns the connection with its place if it may have
    /// further requests: before that is said, there is a `next_place`.
    pub(super) async fn answer(
        self,
        body: Vec<u8>,
        next_place: impl FnOnce() -> Option<Place>,
    ) -> Option<(Socket, Place)> {
        let mut socket = Socket::new(self.connection, self.ahead.into());
        let mut answer = answer(body);
        self.reply.page.may_read(&mut answer);
        let place = match self.reply.is_last {
            true => None,
            false => next_place(),
        };
        if place.is_none() {
            set_close(&mut answer);
        }
        let bytes = to_wire(answer);
        timeout(ANSWER_TIME, socket.write_all(&bytes))
            .await
            .ok()?
            .ok()?;
        if let Some(place) = place {
            return Some((socket, place));
        }
        part(socket, b"", PARTING_TIME).await;
        None
    }
}

/// Whether a request is the last of its connection (RFC 9112 §9.3).
pub(super) fn says_last<B>(request: &Request<B>) -> bool {
    let lines = request.headers().get_all(header::CONNECTION).iter();
    let mut words = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let says_close = words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
    says_close || request.version() != Version::HTTP_11
}
