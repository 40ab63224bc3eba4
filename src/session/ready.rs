//! When the worker looks at its sessions' poll.
//!
//! A wake costs two `epoll_wait`s however few sessions are ready; at low rates that is the largest
//! cost. So after a look that found something the poll is left alone for a moment, taken out of
//! tokio's reactor so that it wakes no one, and then all that has become ready is handled at once.
//! A look that finds nothing puts it back.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// See the module's page.
#[derive(Debug)]
pub(super) struct Ready {
    coalesce: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits for the first session to become ready.
    Quiet(AsyncFd<OwnedFd>),
    /// Waits for the moment to pass.
    Busy { poll: OwnedFd, until: Instant },
    /// Never between two calls.
    Moving,
}

impl Ready {
    /// For the poll behind `poll`; a descriptor of its own keeps it open while it is registered.
    pub(super) fn new(poll: BorrowedFd<'_>, coalesce: Duration) -> io::Result<Ready> {
        Ok(Ready {
            coalesce,
            state: quiet(poll.try_clone_to_owned()?)?,
        })
    }

    /// Returns when it is time to look. May be cancelled.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        match &self.state {
            State::Busy { until, .. } => {
                sleep_until(*until).await;
                Ok(())
            }
            // Cleared before the look: what becomes ready meanwhile sets it anew.
            State::Quiet(poll) => poll.readable().await.map(|mut guard| guard.clear_ready()),
            State::Moving => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Call it after each look, with whether `any` session was ready and whether `more` is left
    /// to be read at once.
    pub(super) fn looked(&mut self, any: bool, more: bool) -> io::Result<()> {
        let pause = if more { Duration::ZERO } else { self.coalesce };
        let busy = more || (any && !pause.is_zero());
        self.state = match std::mem::replace(&mut self.state, State::Moving) {
            State::Quiet(poll) if busy => State::Busy {
                poll: poll.into_inner(),
                until: Instant::now() + pause,
            },
            State::Busy { poll, .. } if busy => State::Busy {
                poll,
                until: Instant::now() + pause,
            },
            State::Busy { poll, .. } => quiet(poll)?,
            state => state,
        };
        Ok(())
    }
}

/// Registering reports at once what is ready already, so nothing is missed in between.
// Deprecated because a type might close its descriptor while it is registered; `OwnedFd` can't,
// and the replacement is unsafe.
#[allow(deprecated)]
fn quiet(poll: OwnedFd) -> io::Result<State> {
    Ok(State::Quiet(AsyncFd::with_interest(
        poll,
        Interest::READABLE,
    )?))
}
