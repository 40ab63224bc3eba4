//! How long the items that were evicted lately had not been used: the shortest of these times.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::clock::Now;
use crate::limits::EVICTED_WINDOW_S;

/// Of the last two windows in which any item was evicted.
#[derive(Debug, Default)]
pub(super) struct Evicted([Option<EvictedIdle>; 2]);

/// Of the items that were evicted in one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvictedIdle {
    pub(super) window: u32,
    /// The shortest time that one had not been used.
    pub(super) idle_s: u32,
}

impl Evicted {
    /// Notes one that was last used then.
    pub(super) fn note(&mut self, used_s: u32, now: Now) {
        let window = now.uptime_s / EVICTED_WINDOW_S;
        let idle_s = now.uptime_s.saturating_sub(used_s);
        match &mut self.0[0] {
            Some(last) if last.window == window => last.idle_s = last.idle_s.min(idle_s),
            last => {
                let before = last.replace(EvictedIdle { window, idle_s });
                self.0[1] = before;
            }
        }
    }

    /// By window.
    pub(super) fn iter(&self) -> impl Iterator<Item = EvictedIdle> {
        self.0.into_iter().flatten()
    }
}
