//! Work shared out among threads.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Time for `threads` threads to do `work` with each of `items`, each thread with its share: from
/// the first one's start to the last one's end. The clocks are theirs: with as many threads as
/// processors, one that only looks on would come too late to see the start.
pub fn timed<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) -> Duration {
    let start = Barrier::new(threads);
    let spans: Vec<_> = thread::scope(|scope| {
        let share = |items| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                let begun = Instant::now();
                <[T]>::iter(items).for_each(work);
                (begun, Instant::now())
            })
        };
        let shares = items.chunks(items.len().div_ceil(threads));
        let threads: Vec<_> = shares.map(share).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        threads.into_iter().map(join).collect()
    });
    let begun = spans.iter().map(|span| span.0).min().unwrap();
    let ended = spans.iter().map(|span| span.1).max().unwrap();
    ended - begun
}
