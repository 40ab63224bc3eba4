//! What an operator may set of sessions.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::{
    COALESCE, FRAMES_PER_SECOND_MAX, MESSAGE_BYTES_MAX, OUTBOX_BYTES_MAX, PING_INTERVAL,
    PING_TIMEOUT,
};

/// How sessions are pinged, and what each may take of the server.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Time between two pings of a session.
    pub ping_interval: Duration,
    /// Time for the answer to a ping, after which the session is closed.
    pub ping_timeout: Duration,
    /// How long a worker lets ready sessions gather; zero for not at all.
    pub coalesce: Duration,
    /// Longest message, and longest frame, in bytes.
    pub message_bytes_max: usize,
    /// Frames of any kind that a session may send in a second, on average.
    pub frames_per_second_max: u32,
    /// Most bytes kept for a client that does not read.
    pub outbox_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            coalesce: COALESCE,
            message_bytes_max: MESSAGE_BYTES_MAX,
            frames_per_second_max: FRAMES_PER_SECOND_MAX,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
        }
    }
}
