//! When the worker looks at its sessions' poll.
//!
//! A wake costs two `epoll_wait`s however few sessions are ready; at low rates that is the largest
//! cost. So a worker that has just looked, and is woken again, first sleeps for the rest of a
//! moment, and then handles all that has become ready at once. It sleeps as a thread: a sleeping
//! task would be woken through tokio's reactor by each session that becomes ready, and taking the
//! poll out of the reactor is no way either, as Linux walks all sessions when it is put back. What
//! else this thread does (handshakes, memcached) gathers as well. A lone event is never late.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use crate::readiness::watch;

/// Waits until the worker should look at its sessions' poll.
#[derive(Debug)]
pub(super) struct Coalescer {
    poll: AsyncFd<OwnedFd>,
    coalesce: Duration,
    /// When the last look was.
    looked_at: Option<Instant>,
    /// There is more to do, whatever the poll says.
    more: bool,
}

impl Coalescer {
    /// For the poll behind `poll`; a descriptor of its own keeps it open while it is registered.
    pub(super) fn new(poll: BorrowedFd<'_>, coalesce: Duration) -> io::Result<Coalescer> {
        Ok(Coalescer {
            poll: watch(poll.try_clone_to_owned()?)?,
            coalesce,
            looked_at: None,
            more: false,
        })
    }

    /// Returns when it is time to look. May be cancelled.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        if self.more {
            // Not at once: the runtime must come to its other tasks and their sockets.
            yield_now().await;
            return Ok(());
        }
        // Cleared before the look: what becomes ready meanwhile sets it anew.
        self.poll.readable().await?.clear_ready();
        if let Some(looked_at) = self.looked_at {
            thread::sleep(self.coalesce.saturating_sub(looked_at.elapsed()));
        }
        Ok(())
    }

    /// Call it after each look, with whether `more` is left to be done at once.
    pub(super) fn looked(&mut self, more: bool) {
        self.more = more;
        self.looked_at = (!self.coalesce.is_zero()).then(Instant::now);
    }
}
