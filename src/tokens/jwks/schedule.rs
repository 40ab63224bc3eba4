//! When keys are fetched again.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use fastrand::Rng;

use crate::limits::{
    KEYS_REFRESH, KEYS_REFRESH_MAX, KEYS_REFRESH_MIN, KEYS_RETRY_MAX, KEYS_RETRY_MIN,
};

/// Pauses between fetches, each a little shorter than it may be, by chance: a fleet that was started
/// at once does not fetch at once for ever.
#[derive(Debug)]
pub(super) struct Schedule {
    retry: Duration,
    random: Rng,
}

impl Schedule {
    pub(super) fn new(random: Rng) -> Schedule {
        Schedule {
            retry: KEYS_RETRY_MIN,
            random,
        }
    }

    /// After keys have come that are good for `fresh_for`, if the provider has said so: that long,
    /// within bounds.
    pub(super) fn after_success(&mut self, fresh_for: Option<Duration>) -> Duration {
        self.retry = KEYS_RETRY_MIN;
        let pause = fresh_for.unwrap_or(KEYS_REFRESH);
        self.shortened(pause.clamp(KEYS_REFRESH_MIN, KEYS_REFRESH_MAX), 0.1)
    }

    /// After a fetch that failed: ever longer.
    pub(super) fn after_failure(&mut self) -> Duration {
        let pause = self.retry;
        self.retry = (pause * 2).min(KEYS_RETRY_MAX);
        self.shortened(pause, 0.5)
    }

    fn shortened(&mut self, pause: Duration, by_at_most: f64) -> Duration {
        pause.mul_f64(1.0 - by_at_most * self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(pause: Duration, least_s: f64, most_s: f64) -> bool {
        (least_s..=most_s).contains(&pause.as_secs_f64())
    }

    #[test]
    fn keys_are_fetched_again_when_the_provider_says_within_bounds() {
        let mut schedule = Schedule::new(Rng::with_seed(1));
        for (fresh_for_s, most_s) in [
            (None, 300.0),
            (Some(0), 60.0),
            (Some(900), 900.0),
            (Some(u64::MAX), 3600.0),
        ] {
            let pause = schedule.after_success(fresh_for_s.map(Duration::from_secs));
            assert!(
                within(pause, most_s * 0.9, most_s),
                "{fresh_for_s:?}: {pause:?}"
            );
        }
    }

    #[test]
    fn pauses_after_failures_grow_to_a_minute_and_begin_anew_after_a_success() {
        let mut schedule = Schedule::new(Rng::with_seed(1));
        for bound_s in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let pause = schedule.after_failure();
            assert!(
                within(pause, bound_s / 2.0, bound_s),
                "{pause:?} of {bound_s}"
            );
        }
        schedule.after_success(None);
        assert!(within(schedule.after_failure(), 0.5, 1.0));
    }
}
