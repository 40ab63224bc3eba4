//! Handshakes that are accepted only to be closed at once, with a code and a reason: a page sees nothing
//! of a refusal over HTTP but that there is no connection.

use std::io;
use std::net::TcpStream as BareTcp;
use std::sync::Arc;

use clap::ValueEnum;
use presenced_session::frame::encode_close;
use presenced_session::limits::CLOSE_TIMEOUT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::limits::{HEAD_READ_BYTES, REFUSED_SESSION_BYTES_MAX};

/// How a handshake is refused that is good but for its token, or for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RefuseWith {
    /// Clients that must be web pages or speak like one get a close code, others an HTTP status
    #[default]
    Auto,
    /// An HTTP status, which web pages can't see
    Http,
    /// The handshake is accepted and closed at once with a code and a reason
    Close,
}

/// Places for refused handshakes whose clients have not hung up yet.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// So many at once.
    #[must_use]
    pub fn new(count: usize) -> Places {
        Places(Arc::new(Semaphore::new(count)))
    }
}

/// A connection to be closed with a reason, and its place among those.
#[derive(Debug)]
pub struct RefusedSession {
    refusal: Refusal,
    _place: OwnedSemaphorePermit,
}

impl RefusedSession {
    /// `None` if `refusal` may only be told over HTTP, or if there is no place left in `places`.
    pub fn begin(refusal: Refusal, places: &Places) -> Option<RefusedSession> {
        refusal.facts().close_code?;
        let place = places.0.clone().try_acquire_owned().ok()?;
        Some(RefusedSession {
            refusal,
            _place: place,
        })
    }

    /// Why.
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Sends the close frame and the end of the stream, and gives the client a moment to hang up. To
    /// drop the connection sooner would reset it when a frame of the client comes, and the reset can
    /// overtake the close frame.
    pub async fn close(self, stream: BareTcp) {
        // A client that goes away is no matter.
        let _ = timeout(CLOSE_TIMEOUT, self.part(stream)).await;
    }

    async fn part(&self, stream: BareTcp) -> io::Result<()> {
        let mut frame = Vec::new();
        if let Some(code) = self.refusal.facts().close_code {
            encode_close(&mut frame, code, &self.refusal.close_reason());
        }
        let mut stream = TcpStream::from_std(stream)?;
        stream.write_all(&frame).await?;
        // As a session does (RFC 6455 §7.1.1).
        stream.shutdown().await?;
        let mut bytes = [0; HEAD_READ_BYTES];
        let mut left = REFUSED_SESSION_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut bytes).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }
}
