//! Time for the parts that are given it as an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// What time it is: since the process started, and by the wall.
///
/// It follows tokio's clock, so where that is paused, a whole simulation runs in virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// Unix time at the start in ms, if the wall clock is a simulation's.
    started_at_ms: Option<&'static AtomicU64>,
}

impl Clock {
    /// A clock that starts now, with the system's wall clock.
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
            started_at_ms: None,
        }
    }

    /// The same with a wall clock that shows `started_at_ms` now, Unix time in ms. A simulation
    /// sets the wall clock by changing it.
    pub fn simulated(started_at_ms: &'static AtomicU64) -> Clock {
        Clock {
            started_at_ms: Some(started_at_ms),
            ..Clock::start()
        }
    }

    /// Time since the start: monotonic, so a wall clock that is set does not end sessions.
    #[inline]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whole seconds since the start; enough for 136 years.
    pub fn now_s(&self) -> u32 {
        self.now().as_secs() as u32
    }

    /// Unix time in ms, for what others read.
    pub fn unix_ms(&self) -> u64 {
        match self.started_at_ms {
            Some(started_at_ms) => {
                started_at_ms.load(Ordering::Relaxed) + self.now().as_millis() as u64
            }
            None => unix_ms(),
        }
    }
}

/// Unix time in ms by the system's wall clock.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
