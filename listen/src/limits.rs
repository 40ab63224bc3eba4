//! Every bound of listening, each with its unit in its name and its reason beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Length of the kernel's queue of connections not yet accepted, for each listener.
pub const BACKLOG: i32 = 4096;
