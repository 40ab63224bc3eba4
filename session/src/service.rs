//! What the sessions of a worker are for: the seam between the frames and whoever speaks them.

use std::task::{Context, Poll};
use std::time::Duration;

use tracing::Level;

use super::close_reason::CloseReason;
use super::dialect::Dialect;
pub use super::message::Message;
use super::slab::{SessionId, SessionKey};
use crate::limits::MALFORMED_FRAMES;

/// What sessions are for. Each worker has its own; all calls come from the worker's thread.
pub trait Service {
    /// Whom a handshake has let in.
    type Peer;
    /// What the service knows a session by. It is kept with the session, so it has a few bytes.
    type Handle: Copy;

    /// What frames mean to the sessions' clients.
    type Dialect: Dialect;

    /// What the service has had to wait for before a session could be told of it.
    type Answer;

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

    /// The session ends in `left`, unless it is renewed ([`Replies::renew`]). Called once for each
    /// end that a session is given, a minute or two before it, or when a session begins that has no
    /// more time than that. What is put into `replies` is sent at once.
    fn expiring(
        &mut self,
        key: SessionKey,
        handle: Self::Handle,
        left: Duration,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        let _ = (key, handle, left, replies);
    }

    /// The session ends: what its client is told before its dialect spells the end. Called once,
    /// before [`Service::log_end`], unless a drain ends it.
    fn last_words(
        &mut self,
        key: SessionKey,
        end: CloseReason,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        let _ = (key, end, replies);
    }

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

    /// Something that could not be done at once, and the session that it is for. If the session is
    /// still there, [`Service::answer`] follows.
    fn poll_answer(&mut self, _: &mut Context<'_>) -> Poll<(SessionKey, Self::Answer)> {
        Poll::Pending
    }

    /// Does what an answer asks for. What the service knows the session by may change; then it begins
    /// anew.
    ///
    /// # Errors
    ///
    /// Why the session must end; what is put into `replies` is sent before.
    fn answer(
        &mut self,
        session: SessionId,
        handle: &mut Self::Handle,
        answer: Self::Answer,
        replies: &mut Replies<'_, Self::Dialect>,
    ) -> Result<Then, CloseReason> {
        let _ = (session, handle, answer, replies);
        Ok(Then::Nothing)
    }
}

/// What is left to do when a service has done what an answer asks for.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// The session begins anew.
    Begin(Begins),
    /// There is something to read from the session's relay.
    Read,
}

/// A session begins anew, for another handle.
#[derive(Clone, Copy, Debug)]
pub struct Begins {
    /// As [`NewSession::expires_at`](crate::worker::NewSession::expires_at).
    pub expires_at: Duration,
    /// As [`Opened::replaced`].
    pub replaced: Option<SessionId>,
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
    asked: Asked,
}

/// What a service wants of the worker for a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// What it costs beside its own frames.
    pub(super) frames: u32,
    pub(super) expires_at: Option<Duration>,
    pub(super) end: Option<CloseReason>,
}

impl<D: Dialect> Replies<'_, D> {
    pub(super) fn new(dialect: D, out: &mut Vec<u8>) -> Replies<'_, D> {
        Replies {
            dialect,
            out,
            asked: Asked::default(),
        }
    }

    /// The message could not be understood. That costs the session as much as many messages
    /// ([`MALFORMED_FRAMES`]).
    pub fn malformed(&mut self) {
        self.costs(MALFORMED_FRAMES);
    }

    /// The message costs the session so many frames more than any message, and ends it with 1008 if
    /// it has not as much left; what is put in here comes first.
    pub fn costs(&mut self, frames: u32) {
        self.asked.frames = frames;
    }

    /// The session ends at `expires_at` by [`Clock::wall`](crate::clock::Clock::wall), and no longer when it
    /// would have. If that is so soon that the client would have been told by now, it is not: what
    /// is put in here should say it. Only for a message.
    pub fn renew(&mut self, expires_at: Duration) {
        self.asked.expires_at = Some(expires_at);
    }

    /// The session ends, once what is put in here is sent. Only for a message.
    pub fn end(&mut self, end: CloseReason) {
        self.asked.end = Some(end);
    }

    /// What frames mean to the client.
    pub fn dialect(&self) -> D {
        self.dialect
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked
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
