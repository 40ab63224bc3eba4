//! When the worker looks at its sessions' poll.
//!
//! A wake costs two `epoll_wait`s however few sessions are ready; at low rates that is the largest
//! cost. So a worker that has just looked, and is woken again, lets the rest of a moment pass, and
//! then handles all that has become ready at once; from then on it looks once in each moment, until
//! it finds nothing. A lone event is never late, and what else this thread does (handshakes,
//! look-ups, HTTP) goes on meanwhile.
//!
//! In that time the runtime must not be woken by each session that becomes ready. It can't take the
//! sessions' poll out of its own, as Linux walks all sessions when it is put back. So there is a
//! third between the two, the gate, which is closed and opened for a microsecond each, however many
//! sessions there are.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use crate::readiness::watch;

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing is ready.
    Nothing,
    /// All that was ready is done.
    Some,
    /// There is more to be done at once, whatever the poll says.
    More,
}

/// Waits until the worker should look at its sessions' poll.
#[derive(Debug)]
pub(super) struct Coalescer {
    /// An epoll that has nothing but the sessions' poll.
    gate: AsyncFd<OwnedFd>,
    /// A descriptor of its own keeps the sessions' poll open while it is registered.
    poll: OwnedFd,
    coalesce: Duration,
    /// Until when what becomes ready right after a look waits for more.
    gathers_until: Option<Instant>,
    /// Until when nothing waits, as somebody has just been answered.
    eager_until: Option<Instant>,
    /// The gate is closed, and the next look is then.
    closed_until: Option<Instant>,
    /// The last look has left something, or may not have seen all.
    more: bool,
}

impl Coalescer {
    /// For the poll behind `poll`.
    pub(super) fn new(poll: BorrowedFd<'_>, coalesce: Duration) -> io::Result<Coalescer> {
        let poll = poll.try_clone_to_owned()?;
        let gate = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&gate, &poll, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Coalescer {
            gate: watch(gate)?,
            poll,
            coalesce,
            gathers_until: None,
            eager_until: None,
            closed_until: None,
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
        if self.closed_until.is_none() {
            // Cleared before the look: what becomes ready meanwhile sets it anew.
            self.gate.readable().await?.clear_ready();
            let now = Instant::now();
            let gathers_until = self.gathers_until.filter(|until| *until > now);
            let until = gathers_until.filter(|_| !self.is_eager(now));
            if until.is_some() {
                self.set_gate(EventFlags::empty())?;
                self.closed_until = until;
            }
        }
        if let Some(until) = self.closed_until {
            sleep_until(until).await;
        }
        Ok(())
    }

    fn set_gate(&self, events: EventFlags) -> io::Result<()> {
        epoll::modify(
            self.gate.get_ref(),
            &self.poll,
            EventData::new_u64(0),
            events,
        )?;
        Ok(())
    }

    /// Call it after each look, with what it has found.
    pub(super) fn looked(&mut self, found: Found) -> io::Result<()> {
        let now = Instant::now();
        self.more = found == Found::More;
        let gathers = found != Found::Nothing && !self.coalesce.is_zero();
        self.gathers_until = gathers.then(|| now + self.coalesce);
        if self.closed_until.is_some() {
            self.closed_until = self.gathers_until.filter(|_| !self.is_eager(now));
            if self.closed_until.is_none() {
                self.set_gate(EventFlags::IN)?;
                // What has become ready since the look met a closed gate. Opening the gate wakes nobody if the
                // sessions' poll is still on the gate's list from before (epoll's `ep_modify`), so look once more.
                self.more = true;
            }
        }
        Ok(())
    }

    fn is_eager(&self, now: Instant) -> bool {
        self.eager_until.is_some_and(|until| until > now)
    }

    /// Call it when a session was sent what it had asked for: it may ask again at once. Nothing waits
    /// for as long as it would otherwise have waited.
    pub(super) fn answered(&mut self) {
        let now = Instant::now();
        self.eager_until = Some(now + self.coalesce);
        self.closed_until = self.closed_until.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use mio::{Events, Poll, Token, Waker};
    use tokio::time::timeout;

    use super::*;

    const COALESCE: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A poll with one source, which is ready each time that it is woken.
    struct Sessions {
        poll: Poll,
        events: Events,
        waker: Waker,
        coalescer: Coalescer,
    }

    impl Sessions {
        fn new() -> Sessions {
            let poll = Poll::new().unwrap();
            Sessions {
                waker: Waker::new(poll.registry(), Token(0)).unwrap(),
                events: Events::with_capacity(8),
                coalescer: Coalescer::new(poll.registry().as_fd(), COALESCE).unwrap(),
                poll,
            }
        }

        fn speak(&self) {
            self.waker.wake().unwrap();
        }

        async fn wait(&mut self) {
            timeout(PATIENCE, self.coalescer.wait())
                .await
                .unwrap()
                .unwrap();
        }

        /// How many are ready.
        fn poll(&mut self) -> usize {
            self.poll
                .poll(&mut self.events, Some(Duration::ZERO))
                .unwrap();
            self.events.iter().count()
        }

        /// Looks; how many are ready.
        fn look(&mut self) -> usize {
            let count = self.poll();
            let found = match count {
                0 => Found::Nothing,
                _ => Found::Some,
            };
            self.coalescer.looked(found).unwrap();
            count
        }
    }

    #[tokio::test]
    async fn what_comes_right_after_a_look_is_gathered() {
        let mut sessions = Sessions::new();
        for _ in 0..3 {
            sessions.speak();
            sessions.wait().await;
            let looked_at = Instant::now();
            assert_eq!(sessions.look(), 1);
            sessions.speak();
            sessions.wait().await;
            assert!(looked_at.elapsed() >= COALESCE);
            // As long as something comes, there is one look in each moment.
            for _ in 0..3 {
                let looked_at = Instant::now();
                assert_eq!(sessions.look(), 1);
                sessions.speak();
                sessions.wait().await;
                assert!(looked_at.elapsed() >= COALESCE);
            }
            assert_eq!(sessions.look(), 1);
            sessions.wait().await;
            assert_eq!(sessions.look(), 0);
            tokio::time::sleep(COALESCE).await;
        }
    }

    #[tokio::test]
    async fn a_lone_one_is_not_late() {
        let mut sessions = Sessions::new();
        for _ in 0..3 {
            sessions.coalescer.coalesce = COALESCE;
            sessions.speak();
            sessions.wait().await;
            assert_eq!(sessions.look(), 1);
            tokio::time::sleep(COALESCE).await;
            // Were it not the first for a moment, it would wait for this.
            sessions.coalescer.coalesce = 2 * PATIENCE;
            sessions.speak();
            sessions.wait().await;
            assert_eq!(sessions.look(), 1);
            sessions.coalescer.gathers_until = None;
        }
    }

    #[tokio::test]
    async fn the_thread_goes_on_meanwhile() {
        let mut sessions = Sessions::new();
        let turns = Arc::new(AtomicU64::new(0));
        let counted = turns.clone();
        let counting = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        sessions.speak();
        sessions.wait().await;
        sessions.look();
        sessions.speak();
        let before = turns.load(Ordering::Relaxed);
        sessions.wait().await;
        assert!(turns.load(Ordering::Relaxed) > before + 2);
        counting.abort();
    }

    #[tokio::test]
    async fn whoever_was_answered_waits_for_nobody() {
        let mut sessions = Sessions::new();
        sessions.coalescer.coalesce = 2 * PATIENCE;
        for _ in 0..100 {
            sessions.speak();
            sessions.wait().await;
            assert_eq!(sessions.look(), 1);
            sessions.coalescer.answered();
            // Others may speak first.
            sessions.speak();
            sessions.wait().await;
            assert_eq!(sessions.look(), 1);
        }
    }

    #[tokio::test]
    async fn an_answer_ends_the_wait_of_all() {
        let mut sessions = Sessions::new();
        sessions.coalescer.coalesce = 2 * PATIENCE;
        sessions.speak();
        sessions.wait().await;
        assert_eq!(sessions.look(), 1);
        sessions.speak();
        let wait = timeout(Duration::from_millis(10), sessions.coalescer.wait()).await;
        assert!(wait.is_err(), "it is not time yet");
        sessions.coalescer.answered();
        sessions.wait().await;
        assert_eq!(sessions.look(), 1);
    }

    #[tokio::test]
    async fn a_wait_that_is_cancelled_loses_nothing() {
        let mut sessions = Sessions::new();
        // Long enough for many waits, also on a busy machine.
        sessions.coalescer.coalesce = 10 * COALESCE;
        sessions.speak();
        sessions.wait().await;
        assert_eq!(sessions.look(), 1);
        sessions.speak();
        for _ in 0..20 {
            let wait = timeout(Duration::from_millis(2), sessions.coalescer.wait()).await;
            assert!(wait.is_err(), "it is not time yet");
        }
        sessions.wait().await;
        assert_eq!(sessions.look(), 1);
    }

    #[tokio::test]
    async fn what_comes_while_the_gate_is_about_to_open_is_seen() {
        for is_answered in [false, true] {
            let mut sessions = Sessions::new();
            sessions.speak();
            sessions.wait().await;
            assert_eq!(sessions.look(), 1);
            sessions.speak();
            sessions.wait().await;
            let found = match is_answered {
                true => {
                    sessions.coalescer.answered();
                    assert_eq!(sessions.poll(), 1);
                    Found::Some
                }
                false => {
                    assert_eq!(sessions.look(), 1);
                    sessions.wait().await;
                    assert_eq!(sessions.poll(), 0);
                    Found::Nothing
                }
            };
            sessions.speak();
            sessions.coalescer.looked(found).unwrap();
            sessions.wait().await;
            assert_eq!(sessions.look(), 1);
        }
    }

    /// Whether a session speaks before the wait for a look, before that look, and before the coalescer is told
    /// of it; and whether a session is answered then.
    type Round = ([bool; 3], bool);

    async fn nothing_is_lost(rounds: Vec<Round>) {
        let mut sessions = Sessions::new();
        sessions.coalescer.coalesce = Duration::from_millis(1);
        let mut has_spoken = false;
        for ([before_wait, before_look, after_look], is_answered) in rounds {
            if before_wait {
                sessions.speak();
            }
            match before_wait || has_spoken {
                true => sessions.wait().await,
                false => {
                    let moment = Duration::from_millis(2);
                    let _ = timeout(moment, sessions.coalescer.wait()).await;
                }
            }
            if before_look {
                sessions.speak();
            }
            let is_awaited = has_spoken || before_wait || before_look;
            let count = sessions.poll();
            // A worker that finds nothing is told of nothing else.
            has_spoken = is_awaited && count == 0;
            if after_look {
                sessions.speak();
                has_spoken = true;
            }
            if is_answered {
                sessions.coalescer.answered();
            }
            let found = match count {
                0 => Found::Nothing,
                _ => Found::Some,
            };
            sessions.coalescer.looked(found).unwrap();
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_said_at_any_moment_is_seen(rounds in proptest::collection::vec(proptest::arbitrary::any::<Round>(), 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(nothing_is_lost(rounds));
        }
    }

    #[tokio::test]
    async fn more_is_looked_at_at_once() {
        let mut sessions = Sessions::new();
        sessions.coalescer.coalesce = 2 * PATIENCE;
        sessions.speak();
        sessions.wait().await;
        sessions.look();
        sessions.coalescer.looked(Found::More).unwrap();
        sessions.wait().await;
    }
}
