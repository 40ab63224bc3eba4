//! `flush_all`: what was stored before it is dead. It costs nothing at the time.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::clock::Now;
use super::item::deadline_s;

/// What has been flushed, and what will be.
#[derive(Debug, Default)]
pub(super) struct FlushAll {
    /// What has a CAS number up to here is dead.
    cas: u64,
    /// With a delay: what is stored up to and in this second dies in it.
    through_s: Option<u32>,
}

impl FlushAll {
    /// What has a CAS number up to this is dead.
    #[inline]
    pub(super) fn cas(&self) -> u64 {
        self.cas
    }

    /// Lets everything die that is stored, the last with `last_cas`, now or later; takes the place
    /// of a `flush_all` that is still to come.
    ///
    /// With a delay of n seconds memcached takes effect in the second before the n-th from now,
    /// and what is stored in that second is lost too; so a delay of 1 is at once. So it is here.
    pub(super) fn order(&mut self, delay: Option<u32>, last_cas: u64, now: Now) {
        self.settle(last_cas, now);
        self.through_s = None;
        let due_s = delay.map_or(0, |delay| deadline_s(i64::from(delay), now));
        if due_s > now.uptime_s {
            self.through_s = Some(due_s - 1);
        } else {
            self.cas = last_cas;
        }
    }

    /// Carries out what has come due. Every operation begins with it, so all that is there was
    /// stored before.
    #[inline]
    pub(super) fn settle(&mut self, last_cas: u64, now: Now) {
        let Some(through_s) = self.through_s else {
            return;
        };
        if now.uptime_s < through_s {
            return;
        }
        self.cas = last_cas;
        if now.uptime_s > through_s {
            self.through_s = None;
        }
    }
}
