//! Every bound of listening, each with its unit in its name and its reason beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// Length of the kernel's queue of connections not yet accepted, for each listener.
pub const BACKLOG: i32 = 4096;

/// First and longest pause in accepting after an error such as "too many open files"; it doubles in
/// between. Trying again at once would spin: the connection stays in the queue.
pub const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// See [`ACCEPT_PAUSE_MIN`].
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long accepting must work until trouble is over. At the limit on open files, each connection
/// that ends lets one in, and two lines of the log for each would be too many.
pub const ACCEPT_RECOVERY: Duration = Duration::from_secs(1);
