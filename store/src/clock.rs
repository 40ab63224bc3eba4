//! What time it is to the items.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// What time it is, both ways that expiry needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Seconds since some moment, monotonic.
    pub(super) uptime_s: u32,
    /// Unix time in seconds.
    pub(super) unix_s: u64,
}

/// The time of a store.
///
/// Expiry follows the monotonic clock, so a wall clock that is set neither kills nor revives
/// items. Both clocks turn their second at the same moment, so that an absolute expiry time is
/// exact to the second too. The monotonic one is tokio's, so that a simulation can pause it.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    /// How far into its second the wall clock was at `start`.
    offset: Duration,
    /// Unix time at `start`, if the wall clock is a simulation's.
    started_at: Option<Duration>,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock {
            start: Instant::now(),
            offset: Duration::from_nanos(u64::from(unix().subsec_nanos())),
            started_at: None,
        }
    }

    /// The same with a wall clock that shows `unix_time` now: so it is known when seconds begin.
    pub(super) fn simulated(unix_time: Duration) -> Clock {
        Clock {
            start: Instant::now(),
            offset: Duration::from_nanos(u64::from(unix_time.subsec_nanos())),
            started_at: Some(unix_time),
        }
    }

    pub(super) fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        let uptime = elapsed + self.offset;
        let unix = self
            .started_at
            .map_or_else(unix, |started_at| started_at + elapsed);
        Now {
            uptime_s: u32::try_from(uptime.as_secs()).unwrap_or(u32::MAX),
            unix_s: unix.as_secs(),
        }
    }

    /// Whole seconds since the start.
    pub(super) fn uptime_s(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}

fn unix() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
