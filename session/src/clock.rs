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
    /// The wall clock at the start, Unix time in ms.
    start_ms: u64,
    /// Unix time at the start in ms, if the wall clock is a simulation's.
    started_at_ms: Option<&'static AtomicU64>,
}

impl Clock {
    /// A clock that starts now, with the system's wall clock.
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
            start_ms: unix_ms(),
            started_at_ms: None,
        }
    }

    /// The same with a wall clock that shows `started_at_ms` now, Unix time in ms. A simulation
    /// sets the wall clock by changing it.
    pub fn simulated(started_at_ms: &'static AtomicU64) -> Clock {
        Clock {
            start_ms: started_at_ms.load(Ordering::Relaxed),
            started_at_ms: Some(started_at_ms),
            ..Clock::start()
        }
    }

    /// Time since the start: monotonic, whatever the wall clock is set to.
    #[inline]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment that is `since_start` after the start.
    pub fn instant(&self, since_start: Duration) -> Instant {
        self.start + since_start
    }

    /// Whole seconds since the start; enough for 136 years.
    pub fn now_s(&self) -> u32 {
        self.now().as_secs() as u32
    }

    /// Time since the start by the wall clock: it jumps where that is set. What others have written a
    /// time for is over by it. Before the start it stands still.
    #[inline]
    pub fn wall(&self) -> Duration {
        self.wall_at(self.unix_ms())
    }

    /// What [`Clock::wall`] shows at a moment, Unix time in ms.
    pub fn wall_at(&self, unix_ms: u64) -> Duration {
        Duration::from_millis(unix_ms.saturating_sub(self.start_ms))
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

/// How far a wall clock has been set since it started, beside a clock that cannot be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallStep {
    ahead: Duration,
    back: Duration,
}

impl WallStep {
    /// The step of a wall clock that shows `wall` at `now`, both since the start.
    pub fn at(now: Duration, wall: Duration) -> WallStep {
        WallStep {
            ahead: wall.saturating_sub(now),
            back: now.saturating_sub(wall),
        }
    }

    /// What the wall clock shows at `now`.
    #[inline]
    pub fn wall(self, now: Duration) -> Duration {
        (now + self.ahead).saturating_sub(self.back)
    }

    /// How far it was set ahead.
    pub(crate) fn ahead(self) -> Duration {
        self.ahead
    }
}

/// Unix time in ms by the system's wall clock.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
