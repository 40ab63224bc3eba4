//! Token buckets in eight bytes each (the generic cell rate algorithm: what is kept is the time at which
//! a bucket will be full again).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::{RATE_BURST_TIME, RATED_MAX};

/// So many a second on average, [`RATE_BURST_TIME`]'s worth at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    cost_ns: u64,
}

impl Rate {
    /// A rate.
    pub fn per_second(count: u32) -> Rate {
        Rate {
            cost_ns: 1_000_000_000 / u64::from(count.max(1)),
        }
    }

    /// Takes `count` from a bucket that is full at `full_at_ns`.
    ///
    /// # Errors
    ///
    /// There is less; the time until there is as much.
    pub fn take(self, full_at_ns: &mut u64, now_ns: u64, count: u32) -> Result<(), Duration> {
        let cost_ns = self.cost_ns * u64::from(count);
        let after_ns = (*full_at_ns).max(now_ns) + cost_ns;
        // All is allowed after a while, however low the rate.
        let burst_ns = ns(RATE_BURST_TIME).max(cost_ns);
        match (after_ns - now_ns).checked_sub(burst_ns) {
            None | Some(0) => {
                *full_at_ns = after_ns;
                Ok(())
            }
            Some(missing_ns) => Err(Duration::from_nanos(missing_ns)),
        }
    }
}

/// Buckets with which a table is swept at least.
const SWEEP_LEN_MIN: usize = 256;

/// A monotonic time in the unit of buckets.
pub fn ns(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// Buckets that are not full, by the hash of their owners, of which there are too many to keep
/// more.
#[derive(Debug, Default)]
pub struct Table {
    pub(crate) full_at_ns: HashMap<u64, u64>,
    /// With how many to look for full ones again, and when.
    sweep_at_len: usize,
    sweep_at_ns: u64,
}

impl Table {
    /// Takes `count` from the bucket of `key`. A bucket for which there is no room is taken for full:
    /// then that many others are not.
    ///
    /// # Errors
    ///
    /// There is less; the time until there is as much.
    pub fn take(&mut self, rate: Rate, key: u64, now_ns: u64, count: u32) -> Result<(), Duration> {
        if let Some(full_at_ns) = self.full_at_ns.get_mut(&key) {
            return rate.take(full_at_ns, now_ns, count);
        }
        if self.full_at_ns.len() >= self.sweep_at_len.max(SWEEP_LEN_MIN)
            && self.sweep_at_ns <= now_ns
        {
            self.sweep(now_ns);
        }
        let mut full_at_ns = 0;
        rate.take(&mut full_at_ns, now_ns, count)?;
        if self.full_at_ns.len() < RATED_MAX {
            self.full_at_ns.insert(key, full_at_ns);
        }
        Ok(())
    }

    /// Forgets full buckets, which are like none. It is done again when there are twice as many as
    /// are left now, so it costs little, and a burst leaves no large table behind.
    fn sweep(&mut self, now_ns: u64) {
        self.full_at_ns.retain(|_, full_at_ns| *full_at_ns > now_ns);
        let left = self.full_at_ns.len();
        self.sweep_at_len = (2 * left).clamp(SWEEP_LEN_MIN, RATED_MAX);
        self.full_at_ns.shrink_to(self.sweep_at_len);
        if left > RATED_MAX / 2 {
            self.sweep_at_ns = now_ns + ns(SWEEP_PAUSE);
        }
    }
}

/// Time between two sweeps of a table that is nearly full; each takes about a millisecond.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
