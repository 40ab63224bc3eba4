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
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock {
            start: Instant::now(),
            offset: Duration::from_nanos(u64::from(unix().subsec_nanos())),
        }
    }

    pub(super) fn now(&self) -> Now {
        let uptime = self.start.elapsed() + self.offset;
        Now {
            uptime_s: u32::try_from(uptime.as_secs()).unwrap_or(u32::MAX),
            unix_s: unix().as_secs(),
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
