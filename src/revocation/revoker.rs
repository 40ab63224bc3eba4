//! Does what an operator asks for: at once here, and everywhere as soon as memcached has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::asked::Asked;
use super::keeper::Posted;
use super::sessions::RevokedSessions;
use crate::limits::REVOCATION_WRITE_TIME;
use crate::tokens::{Revocation, Revocations};

/// Revokes tokens.
#[derive(Debug)]
pub struct Revoker {
    /// What is revoked.
    pub revocations: Arc<Revocations>,
    /// The sessions that end with it.
    pub sessions: Arc<RevokedSessions>,
    /// To the log.
    pub log: mpsc::Sender<Posted>,
    /// How long a revocation lasts, in seconds.
    pub lasts_s: AtomicU64,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Sessions on this edge that were open, and end.
    pub sessions: usize,
    /// Of the entry in the log. `None` if it is not there yet: other edges don't know.
    pub number: Option<u64>,
}

impl Revoker {
    /// From now on a revocation lasts so long.
    pub fn set_lasts(&self, lasts: Duration) {
        self.lasts_s.store(lasts.as_secs(), Ordering::Relaxed);
    }

    /// Revokes what was asked for at `now_s`. It is in force here when this is first polled, and
    /// whatever becomes of the caller.
    pub async fn revoke(&self, asked: Asked, now_s: u64) -> Done {
        let revocation = Revocation {
            tokens: asked.tokens,
            before_s: asked.before_s,
            ends_s: now_s + self.lasts_s.load(Ordering::Relaxed),
        };
        self.revocations.add(revocation.clone());
        // Also if nothing is new: a session may have come that the last one did not know.
        let sessions = self.sessions.end(&revocation.tokens);
        let (written, number) = oneshot::channel();
        let posted = Posted {
            revocation,
            written,
        };
        let write = async {
            // The keeper lives as long as the server.
            self.log.send(posted).await.ok()?;
            number.await.ok().flatten()
        };
        let number = timeout(REVOCATION_WRITE_TIME, write).await;
        Done {
            sessions,
            number: number.ok().flatten(),
        }
    }
}
