//! What is counted of the log of revocations.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use presenced_session::metrics::Counter;
use tokio::time::Instant;

/// What is counted of the log of revocations.
#[derive(Debug)]
pub struct RevocationMetrics {
    /// Entries that others may not know of, because the log does not have them.
    pub unwritten: Gauge,
    /// Times that the log was found lost, begun anew, or older than it was.
    pub resets: Counter,
    /// Entries that had a number and did not come.
    pub gaps: Counter,
    /// Entries that can't be read.
    pub bad: Counter,
    /// When the log was last read.
    read_at: Mutex<Instant>,
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(std::sync::atomic::AtomicU64);

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: u64) {
        self.0.store(value, std::sync::atomic::Ordering::Relaxed);
    }

    /// What it is.
    pub fn value(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Default for RevocationMetrics {
    fn default() -> RevocationMetrics {
        RevocationMetrics {
            unwritten: Gauge::default(),
            resets: Counter::default(),
            gaps: Counter::default(),
            bad: Counter::default(),
            read_at: Mutex::new(Instant::now()),
        }
    }
}

impl RevocationMetrics {
    /// The log was read to its end.
    pub fn read(&self) {
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Time since the log was read, or since the start.
    pub fn age(&self) -> Duration {
        let read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        read_at.elapsed()
    }
}
