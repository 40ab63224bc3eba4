//! Work that outlives a panic.
//!
//! A panic is a fault of ours, and one that a peer may have found how to cause. So each kind of work is
//! caught in one place, counted there, and goes on: it costs a session or a connection, never the process.
//! The panic hook logs what has happened and where; here it is logged which work it was.
//!
//! - [`caught`] runs a function, [`catch`] a future.
//! - [`keep_up`] starts a task again after pauses that grow ([`Pauses`]).
//! - [`Task`] and [`panics`]: how many there were of each kind, in this process.

#[cfg(feature = "fail-points")]
pub mod fail;
pub mod limits;
mod task;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use self::task::Task;
use crate::limits::{RESTART_PAUSE_MAX, RESTART_PAUSE_MIN, STEADY_AFTER};

static PANICS: [AtomicU64; Task::ALL.len()] = [const { AtomicU64::new(0) }; Task::ALL.len()];

/// Panics of this kind of work so far, in the whole process.
pub fn panics(task: Task) -> u64 {
    PANICS[task as usize].load(Ordering::Relaxed)
}

fn note_panic(task: Task) {
    PANICS[task as usize].fetch_add(1, Ordering::Relaxed);
    tracing::error!(task = task.label(), "caught a panic");
}

/// Runs `work`; `None` if it panicked. What `work` has changed by then may be half done: the caller puts it
/// right, or drops it.
#[inline]
pub fn caught<R>(task: Task, work: impl FnOnce() -> R) -> Option<R> {
    let guarded = AssertUnwindSafe(|| {
        #[cfg(feature = "fail-points")]
        fail::point(task);
        work()
    });
    match catch_unwind(guarded) {
        Ok(done) => Some(done),
        Err(_) => {
            note_panic(task);
            None
        }
    }
}

/// The same of a future, which is dropped when it panics.
pub async fn catch<F: Future>(task: Task, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(
        |context| match caught(task, || future.as_mut().poll(context)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(done)) => Poll::Ready(Some(done)),
            None => Poll::Ready(None),
        },
    )
    .await
}

/// Runs the task that `start` makes, and makes it anew after a pause when it panics. Returns when the task
/// does.
pub async fn keep_up<F: Future<Output = ()>>(task: Task, mut start: impl FnMut() -> F) {
    let mut pauses = Pauses::default();
    loop {
        let started_at = Instant::now();
        if catch(task, start()).await.is_some() {
            return;
        }
        sleep(pauses.next(started_at.elapsed())).await;
    }
}

/// Pauses before work that panicked is started again.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses {
            next: RESTART_PAUSE_MIN,
        }
    }
}

impl Pauses {
    /// The next one, after the work has gone well for `time`.
    pub fn next(&mut self, time: Duration) -> Duration {
        if time >= STEADY_AFTER {
            self.next = RESTART_PAUSE_MIN;
        }
        let pause = self.next;
        self.next = (pause * 2).min(RESTART_PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_panic_is_counted_by_its_kind_and_nothing_else_is() {
        let before = panics(Task::Tick);
        assert_eq!(caught(Task::Tick, || 7), Some(7));
        assert_eq!(panics(Task::Tick), before);
        assert_eq!(caught(Task::Tick, || panic!("a fault")), None::<u8>);
        assert_eq!(panics(Task::Tick), before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_started_again_after_pauses_that_grow_until_it_returns() {
        let (start, runs) = (Instant::now(), Cell::new(0));
        let runs = &runs;
        let before = panics(Task::Refill);
        keep_up(Task::Refill, || async move {
            runs.set(runs.get() + 1);
            // The last but one goes well for a while.
            if runs.get() == 9 {
                sleep(STEADY_AFTER).await;
            }
            assert!(runs.get() == 10, "a fault");
        })
        .await;
        assert_eq!(panics(Task::Refill), before + 9);
        let grown: Duration = (0..8)
            .map(|run| (RESTART_PAUSE_MIN * (1 << run)).min(RESTART_PAUSE_MAX))
            .sum();
        assert_eq!(start.elapsed(), grown + STEADY_AFTER + RESTART_PAUSE_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_waits_is_caught_when_it_goes_on() {
        let done = catch(Task::Probe, async {
            sleep(Duration::from_secs(1)).await;
            7
        });
        assert_eq!(done.await, Some(7));
        let faulty = catch(Task::Probe, async {
            sleep(Duration::from_secs(1)).await;
            panic!("a fault");
        });
        assert_eq!(faulty.await, None::<u8>);
    }
}
