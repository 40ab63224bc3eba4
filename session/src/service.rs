//! What the sessions of a worker are for: the seam between the frames and whoever speaks them.

use std::task::{Context, Poll};

use tracing::Level;

use super::close_reason::CloseReason;
use super::dialect::Dialect;
pub use super::message::Message;
use super::slab::{SessionId, SessionKey};

/// What sessions are for. Each worker has its own; all calls come from the worker's thread.
pub trait Service {
    /// Whom a handshake has let in.
    type Peer;
    /// What the service knows a session by. It is kept with the session, so it has a few bytes.
    type Handle: Copy;

    /// What frames mean to the sessions' clients.
    type Dialect: Dialect;

    /// A session begins. What is put into `replies` is the first that the client is told.
    fn opened(
        &mut self,
        peer: Self::Peer,
        session: SessionId,
        replies: &mut Replies<'_, Self::Dialect>,
    ) -> Opened<Self::Handle>;

    /// A whole frame has arrived: the client is there. Called once for all frames of one read, and
    /// not for one that ends the session. The way of a heartbeat: no lock, no allocation.
    fn heard(&mut self, handle: Self::Handle) {
        let _ = handle;
    }

    /// A whole message. What is put into `replies` is sent when all frames of this read are done.
    fn message(
        &mut self,
        key: SessionKey,
        handle: Self::Handle,
        message: Message<'_>,
        replies: &mut Replies<'_, Self::Dialect>,
    );

    /// Logs that the session ends, at the level of its reason: a service that knows more of it says
    /// more. Called once, before [`Service::closed`].
    fn log_end(&mut self, handle: Self::Handle, session: SessionId, end: CloseReason) {
        let _ = handle;
        let facts = end.facts();
        match facts.level {
            Level::ERROR => tracing::error!(?session, reason = facts.label, "session ended"),
            _ => tracing::debug!(?session, reason = facts.label, "session ended"),
        }
    }

    /// The session has ended, for whatever reason. Called once.
    fn closed(&mut self, handle: Self::Handle, session: SessionId) {
        let _ = (handle, session);
    }

    /// A drain wants to end the session. Either it has ended now, as by [`Service::log_end`] and
    /// [`Service::closed`], or the answer is false, and the drain asks again at its next look,
    /// until the worker ends.
    fn try_close(&mut self, handle: Self::Handle, session: SessionId) -> bool {
        self.log_end(handle, session, CloseReason::Restart);
        self.closed(handle, session);
        true
    }

    /// An answer that could not be given at once: the session that asked, if it is there still, and
    /// the text of a message for it, which its dialect spells.
    fn poll_answer(&mut self, _: &mut Context<'_>) -> Poll<(SessionKey, Vec<u8>)> {
        Poll::Pending
    }
}

/// What [`Service::opened`] did.
#[derive(Clone, Copy, Debug)]
pub struct Opened<H> {
    /// What the service knows the session by.
    pub handle: H,
    /// Another session that must end for it, with [`CloseReason::Replaced`].
    pub replaced: Option<SessionId>,
}

impl<H> From<H> for Opened<H> {
    /// A session that takes no other's place.
    fn from(handle: H) -> Opened<H> {
        Opened {
            handle,
            replaced: None,
        }
    }
}

/// What a session is told, in order and as its dialect spells it.
#[derive(Debug)]
pub struct Replies<'a, D> {
    dialect: D,
    out: &'a mut Vec<u8>,
    is_malformed: bool,
}

impl<D: Dialect> Replies<'_, D> {
    pub(super) fn new(dialect: D, out: &mut Vec<u8>) -> Replies<'_, D> {
        Replies {
            dialect,
            out,
            is_malformed: false,
        }
    }

    /// The message could not be understood. That costs the session as much as many messages
    /// ([`MALFORMED_FRAMES`](crate::limits::MALFORMED_FRAMES)), and ends it with 1008 if it has not
    /// as much left; what is put in here comes first.
    pub fn malformed(&mut self) {
        self.is_malformed = true;
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Adds a text message; `text` must be UTF-8 (RFC 6455 §5.6).
    pub fn text(&mut self, text: &[u8]) {
        self.dialect.write(self.out, Message::Text(text));
    }

    /// Adds a binary message.
    pub fn binary(&mut self, data: &[u8]) {
        self.dialect.write(self.out, Message::Binary(data));
    }

    /// Adds what the dialect has beyond messages: `spell` appends whole frames.
    pub fn spell(&mut self, spell: impl FnOnce(D, &mut Vec<u8>)) {
        spell(self.dialect, self.out);
    }
}
