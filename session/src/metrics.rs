//! What is counted, and what counts it.
//!
//! Counters are relaxed atomics. A worker's own stand on cache lines of their own, so a heartbeat
//! shares none with another worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::close_reason::CloseReason;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds `count` where no one else adds: without a locked instruction.
    #[inline]
    pub fn add_alone(&self, count: u64) {
        self.0.store(self.value() + count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the histograms' buckets in µs: what a look-up, a ping and a flush may take.
pub const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 20_000_000,
];

/// A histogram of durations without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    /// Enters one duration.
    #[inline]
    pub fn observe(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[BOUNDS_US.partition_point(|&bound| bound < us)].add(1);
        self.sum_us.add(us);
    }

    /// Enters one duration where no one else does.
    #[inline]
    pub fn observe_alone(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[BOUNDS_US.partition_point(|&bound| bound < us)].add_alone(1);
        self.sum_us.add_alone(us);
    }

    /// How many were entered, by bucket: one for each of [`BOUNDS_US`], and one above.
    pub fn counts(&self) -> [u64; BOUNDS_US.len() + 1] {
        self.buckets.each_ref().map(Counter::value)
    }

    /// Their sum in µs.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// Upper bounds of [`Shares`]' buckets in hundredths.
pub const BOUNDS_SHARE: [u64; 11] = [0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90];

/// A histogram of parts of a whole, without a lock.
#[derive(Debug, Default)]
pub struct Shares {
    buckets: [Counter; BOUNDS_SHARE.len() + 1],
    /// In millionths.
    sum: Counter,
}

impl Shares {
    /// Enters `part` of `whole`, `count` times.
    #[inline]
    pub fn observe(&self, part: u32, whole: u32, count: u64) {
        let (part, whole) = (u64::from(part), u64::from(whole.max(1)));
        let bucket = BOUNDS_SHARE.partition_point(|&bound| bound * whole < part * 100);
        self.buckets[bucket].add(count);
        self.sum.add(part * 1_000_000 / whole * count);
    }

    /// How many were entered, by bucket: one for each of [`BOUNDS_SHARE`], and one above.
    pub fn counts(&self) -> [u64; BOUNDS_SHARE.len() + 1] {
        self.buckets.each_ref().map(Counter::value)
    }

    /// Their sum in millionths.
    pub fn sum_millionths(&self) -> u64 {
        self.sum.value()
    }
}

/// What one worker counts, alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Sessions begun.
    pub sessions: Counter,
    /// Pings sent.
    pub pings: Counter,
    /// Pongs that echoed the last ping.
    pub pongs: Counter,
    /// Pings after which no frame came in time.
    pub missed_pongs: Counter,
    /// Whole frames from clients, of any kind.
    pub frames: Counter,
    /// Times the worker looked at its sessions' poll.
    pub wakes: Counter,
    /// From a ping to its pong.
    pub rtt: Histogram,
    /// Times that a session was given a later end, or another one at least.
    pub renewals: Counter,
    /// Sessions ended, by [`CloseReason`].
    pub ends: [Counter; CloseReason::ALL.len()],
}
