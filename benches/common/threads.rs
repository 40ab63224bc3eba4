//! Measures work that is divided among threads.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The time in which `threads` threads do `work` on their shares of `items`, from the first start
/// to the last end. Each thread reads the clock itself: with as many threads as processors, an
/// observer would be scheduled too late to see the start.
pub fn timed<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) -> Duration {
    let start = Barrier::new(threads);
    let spans: Vec<_> = thread::scope(|scope| {
        let share = |items| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                let started = Instant::now();
                <[T]>::iter(items).for_each(work);
                (started, Instant::now())
            })
        };
        let shares = items.chunks(items.len().div_ceil(threads));
        let threads: Vec<_> = shares.map(share).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        threads.into_iter().map(join).collect()
    });
    let started = spans.iter().map(|span| span.0).min().unwrap();
    let ended = spans.iter().map(|span| span.1).max().unwrap();
    ended - started
}
