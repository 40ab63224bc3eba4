//! A poll that waits for a packet. While it waits, it has no place among the HTTP connections and no buffer, since it may
//! wait for a whole ping interval.

use hyper::header;
use hyper::{Request, Version};
use tokio::time::timeout;

use super::cors::Page;
use super::parting::{part, to_wire};
use super::pipe::PollWait;
use super::response::{Answer, set_close, with_type};
use super::shared_places::Place;
use super::socket::Socket;
use crate::limits::{ANSWER_TIME, PARTING_TIME};

/// See the module.
#[derive(Debug)]
pub(super) struct HeldPoll {
    wait: PollWait,
    page: Page,
    /// Whether the client keeps its connection for its next request.
    is_last: bool,
}

/// What the answer to a poll is.
pub(super) const MEDIA_TYPE: &str = "text/plain; charset=UTF-8";

/// The answer to a poll.
pub(super) fn answer(body: Vec<u8>) -> Answer {
    with_type(200, MEDIA_TYPE, body.into())
}

impl HeldPoll {
    /// A poll of `page`, the last request of its connection or not.
    pub(super) fn new(wait: PollWait, page: Page, is_last: bool) -> HeldPoll {
        HeldPoll {
            wait,
            page,
            is_last,
        }
    }

    /// Waits for the answer's body. `None` if the connection is gone, or sends more than `ahead_max` bytes meanwhile: both
    /// end the session.
    pub(super) async fn body(&mut self, socket: &mut Socket, ahead_max: usize) -> Option<Vec<u8>> {
        loop {
            tokio::select! {
                biased;
                body = &mut self.wait.answer => return body.ok(),
                read = socket.read_ahead() => {
                    read.ok()?;
                    if socket.ahead().len() > ahead_max {
                        return None;
                    }
                }
            }
        }
    }

    /// Sends the answer on the connection that the poll came over. Returns the connection with its place if it may have
    /// further requests: before that is said, there is a `next_place`.
    pub(super) async fn answer(
        self,
        body: Vec<u8>,
        mut socket: Socket,
        next_place: impl FnOnce() -> Option<Place>,
    ) -> Option<(Socket, Place)> {
        let mut answer = answer(body);
        self.page.may_read(&mut answer);
        let place = match self.is_last {
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
        if let Ok((stream, _)) = socket.into_std() {
            part(stream, b"", PARTING_TIME).await;
        }
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
