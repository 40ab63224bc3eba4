//! Handshakes that are accepted only to be closed at once, with a code and a reason: a page sees
//! nothing of a refusal over HTTP but that there is no connection.

use std::sync::Arc;

use clap::ValueEnum;
use presenced_session::frame::encode_close;
use presenced_session::limits::CLOSE_TIMEOUT;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::parting::part;
use super::refusal::Refusal;
use super::socket::Socket;

/// How a handshake is refused that is good but for its token, or for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RefuseWith {
    /// Clients that must be web pages, or speak like one, get a close code; others get an HTTP status
    #[default]
    Auto,
    /// An HTTP status, which web pages can't see; a token must come with its handshake
    Http,
    /// The handshake is accepted and closed at once with a code and a reason
    Close,
}

/// How many refused handshakes there may be whose clients have not hung up yet.
#[derive(Clone, Debug)]
pub struct RefusedSessions(Arc<Semaphore>);

impl RefusedSessions {
    /// So many at once.
    #[must_use]
    pub fn new(max: usize) -> RefusedSessions {
        RefusedSessions(Arc::new(Semaphore::new(max)))
    }
}

/// A connection to be closed with a reason, and its permit to be there until then.
#[derive(Debug)]
pub struct RefusedSession {
    refusal: Refusal,
    _permit: OwnedSemaphorePermit,
}

impl RefusedSession {
    /// `None` if `refusal` may only be told over HTTP, or if there are as many of them as there may
    /// be.
    pub fn begin(refusal: Refusal, others: &RefusedSessions) -> Option<RefusedSession> {
        refusal.facts().close_code?;
        let permit = others.0.clone().try_acquire_owned().ok()?;
        Some(RefusedSession {
            refusal,
            _permit: permit,
        })
    }

    /// Why.
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Sends the close frame and the end of the stream, as a session does (RFC 6455 §7.1.1), and
    /// gives the client a moment to hang up.
    pub(super) async fn close(self, socket: Socket) {
        let mut frame = Vec::new();
        append_close(&mut frame, self.refusal);
        part(socket, &frame, CLOSE_TIMEOUT).await;
    }
}

/// Appends the close frame that says `refusal`, if a close may say it.
pub(super) fn append_close(out: &mut Vec<u8>, refusal: Refusal) {
    if let Some(code) = refusal.facts().close_code {
        encode_close(out, code, &refusal.close_reason());
    }
}
