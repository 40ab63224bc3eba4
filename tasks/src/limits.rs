//! Every bound of restarts, each with its unit in its name and its reason beside it.

use std::time::Duration;

/// First and longest pause before work that panicked is started again; it doubles in between. What panics
/// at once would otherwise take a core and fill the log.
pub const RESTART_PAUSE_MIN: Duration = Duration::from_millis(50);

/// See [`RESTART_PAUSE_MIN`]. Less than the headroom of a heartbeat, which the flush must be back for.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long work must have gone well for the pauses to begin anew.
pub const STEADY_AFTER: Duration = Duration::from_secs(10);
