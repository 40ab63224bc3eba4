//! First pings that wait a whole interval, and the look for their pongs: the wheel comes by an entry
//! at moments of its own, which are earlier. From then on the wheel does it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;
use std::time::Duration;

use super::slab::SessionKey;

/// Young sessions, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct FirstPings {
    to_ping: VecDeque<(Duration, SessionKey)>,
    to_check: VecDeque<(Duration, SessionKey)>,
}

impl FirstPings {
    /// A session is to be pinged at `at`, which is no earlier than those before.
    pub(super) fn add(&mut self, at: Duration, key: SessionKey) {
        self.to_ping.push_back((at, key));
    }

    /// A session that was pinged must have answered at `at`, which is no earlier than those before.
    pub(super) fn check(&mut self, at: Duration, key: SessionKey) {
        self.to_check.push_back((at, key));
    }

    /// The next one that is to be pinged at `now`. It may have ended.
    pub(super) fn next_to_ping(&mut self, now: Duration) -> Option<SessionKey> {
        next(&mut self.to_ping, now)
    }

    /// The next one that must have answered at `now`. It may have ended.
    pub(super) fn next_to_check(&mut self, now: Duration) -> Option<SessionKey> {
        next(&mut self.to_check, now)
    }
}

fn next(queue: &mut VecDeque<(Duration, SessionKey)>, now: Duration) -> Option<SessionKey> {
    let (_, key) = queue.pop_front_if(|(at, _)| *at <= now)?;
    if queue.is_empty() {
        // A storm of newcomers has come and gone.
        *queue = VecDeque::new();
    }
    Some(key)
}
