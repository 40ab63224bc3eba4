//! Time for the parts that are given it as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the process started: monotonic, so a clock that is set does not end sessions.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whole seconds since the start; enough for 136 years.
    pub fn now_s(&self) -> u32 {
        self.now().as_secs() as u32
    }
}

/// Unix time in ms, for what others read.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
