//! [`Accepting`]: connections of one listener, one after another.

use std::io;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::accept_pause::{AcceptPause, is_of_one_connection};

/// Accepts on one listener for as long as a server runs, whatever the system says.
///
/// After an error such as "too many open files" it rests, at first for
/// [`ACCEPT_PAUSE_MIN`](crate::limits::ACCEPT_PAUSE_MIN) and longer each time: the connection stays
/// in the queue, and trying again at once would spin. It logs when trouble begins and when it is
/// over.
#[derive(Debug)]
pub struct Accepting {
    listener: &'static str,
    pause: AcceptPause,
    paused_until: Option<Instant>,
}

impl Accepting {
    /// `listener` names it in the log.
    #[must_use]
    pub fn new(listener: &'static str) -> Accepting {
        Accepting {
            listener,
            pause: AcceptPause::default(),
            paused_until: None,
        }
    }

    /// The next connection that `accept` gives.
    ///
    /// It may be dropped before it is done and called again, if that is true of `accept`'s future.
    pub async fn next<T, F>(&mut self, mut accept: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            if let Some(until) = self.paused_until {
                sleep_until(until).await;
                self.paused_until = None;
            }
            let accepted = match self.pause.over_at() {
                None => accept().await,
                // Trouble is over by then, even if nobody connects.
                Some(over_at) => match timeout_at(over_at.into(), accept()).await {
                    Ok(accepted) => accepted,
                    Err(_) => {
                        self.log_end();
                        continue;
                    }
                },
            };
            match accepted {
                Ok(connection) => {
                    self.log_end();
                    self.pause.accepted(Instant::now().into_std());
                    return connection;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => self.rest(&error),
            }
        }
    }

    fn log_end(&mut self) {
        if self.pause.ends(Instant::now().into_std()) {
            tracing::info!(listener = self.listener, "accepts connections again");
        }
    }

    fn rest(&mut self, error: &io::Error) {
        let failure = self.pause.failed();
        if failure.is_first {
            tracing::error!(listener = self.listener, %error, "cannot accept connections; trying again");
        }
        self.paused_until = Some(Instant::now() + failure.pause);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::{pending, ready};
    use std::io::ErrorKind;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::limits::{ACCEPT_PAUSE_MIN, ACCEPT_RECOVERY};

    /// What a listener's `accept` gives, one after another, and nothing after that.
    struct Script(RefCell<VecDeque<io::Result<u32>>>);

    impl Script {
        fn new<const N: usize>(results: [Result<u32, ErrorKind>; N]) -> Script {
            let results = results.map(|result| result.map_err(io::Error::from));
            Script(RefCell::new(results.into()))
        }

        async fn accept(&self) -> io::Result<u32> {
            let next = self.0.borrow_mut().pop_front();
            match next {
                Some(result) => ready(result).await,
                None => pending().await,
            }
        }
    }

    /// Time stands still but for the pauses.
    #[tokio::test(start_paused = true)]
    async fn it_rests_after_errors_of_the_listener_alone() {
        let script = Script::new([
            Ok(1),
            Err(ErrorKind::ConnectionAborted),
            Err(ErrorKind::Interrupted),
            Ok(2),
            Err(ErrorKind::Other),
            Err(ErrorKind::Other),
            Ok(3),
            Ok(4),
        ]);
        let mut accepting = Accepting::new("test");
        let start = Instant::now();
        for (connection, pauses) in [(1, 0), (2, 0), (3, 1 + 2), (4, 1 + 2)] {
            assert_eq!(accepting.next(|| script.accept()).await, connection);
            assert_eq!(start.elapsed(), ACCEPT_PAUSE_MIN * pauses, "{connection}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_outlives_the_call_that_began_it() {
        let script = Script::new([Err(ErrorKind::Other), Ok(1)]);
        let mut accepting = Accepting::new("test");
        let start = Instant::now();
        for _ in 0..4 {
            let call = timeout(ACCEPT_PAUSE_MIN / 5, accepting.next(|| script.accept()));
            assert!(call.await.is_err(), "it rests");
        }
        assert_eq!(accepting.next(|| script.accept()).await, 1);
        assert_eq!(start.elapsed(), ACCEPT_PAUSE_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_is_over_though_nobody_connects() {
        let script = Script::new([Err(ErrorKind::Other), Ok(1)]);
        let mut accepting = Accepting::new("test");
        accepting.next(|| script.accept()).await;
        assert!(accepting.pause.over_at().is_some());
        let longer = ACCEPT_RECOVERY + Duration::from_millis(1);
        let call = timeout(longer, accepting.next(|| script.accept()));
        assert!(call.await.is_err(), "nobody connects");
        assert_eq!(accepting.pause.over_at(), None);
        assert!(accepting.pause.failed().is_first);
    }
}
