//! What the sessions of a worker are for: the seam between the frames and whoever speaks them.

use std::task::{Context, Poll};

use fastwebsockets::OpCode;

use super::frame;
use super::slab::SessionKey;
use crate::SessionId;

/// What sessions are for. Each worker has its own; all calls come from the worker's thread.
pub trait Service {
    /// Whom a handshake has let in.
    type Peer;
    /// What the service knows a session by. It is kept with the session, so it has a few bytes.
    type Handle: Copy;

    /// Whether binary messages are understood; if not, they end the session with 1003.
    const TAKES_BINARY: bool;

    /// A session begins.
    fn opened(&mut self, peer: Self::Peer, session: SessionId) -> Opened<Self::Handle>;

    /// A whole frame has arrived: the client is there. Called once for all frames of one read, and
    /// not for one that ends the session. The way of a heartbeat: no lock, no allocation.
    fn heard(&mut self, handle: Self::Handle);

    /// A whole message. What is put into `replies` is sent when all frames of this read are done.
    fn message(
        &mut self,
        key: SessionKey,
        handle: Self::Handle,
        message: Message<'_>,
        replies: &mut Replies,
    );

    /// The session has ended, for whatever reason. Called once.
    fn closed(&mut self, handle: Self::Handle, session: SessionId);

    /// A drain wants to end the session. Either it has ended now, as by [`Service::closed`], or the
    /// answer is false, and the drain asks again at its next look, until the worker ends.
    fn try_close(&mut self, handle: Self::Handle, session: SessionId) -> bool {
        self.closed(handle, session);
        true
    }

    /// An answer that could not be given at once: the session that asked, if it is there still, and
    /// the text message for it.
    fn poll_answer(&mut self, _: &mut Context<'_>) -> Poll<(SessionKey, Vec<u8>)> {
        Poll::Pending
    }
}

/// What [`Service::opened`] did.
#[derive(Clone, Copy, Debug)]
pub struct Opened<H> {
    /// What the service knows the session by.
    pub handle: H,
    /// Another session that must end for it, with [`crate::close_reason::CloseReason::Replaced`].
    pub replaced: Option<SessionId>,
}

/// A whole message from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// Anything.
    Binary(&'a [u8]),
}

/// Frames to be sent, in order.
#[derive(Debug, Default)]
pub struct Replies {
    pub(super) bytes: Vec<u8>,
}

impl Replies {
    /// Adds a text message; `text` must be UTF-8 (RFC 6455 §5.6).
    pub fn text(&mut self, text: &[u8]) {
        frame::encode(&mut self.bytes, OpCode::Text, text);
    }

    /// Adds a binary message.
    pub fn binary(&mut self, data: &[u8]) {
        frame::encode(&mut self.bytes, OpCode::Binary, data);
    }
}
