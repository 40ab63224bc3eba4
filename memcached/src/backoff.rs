//! Pauses between tries to connect.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use fastrand::Rng;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, STABLE_AFTER};

/// Exponential with full jitter, so that a fleet does not dial in step. Begins anew when a
/// connection has held for [`STABLE_AFTER`]: a node that accepts connections and ends them is
/// dialled ever more rarely.
#[derive(Debug)]
pub struct Backoff {
    bound: Duration,
    random: Rng,
}

impl Backoff {
    /// With the jitter that `random` gives.
    pub fn new(random: Rng) -> Backoff {
        Backoff {
            bound: BACKOFF_MIN,
            random,
        }
    }

    /// The pause before the next try. The connection that has ended held for `held`; zero if none
    /// could be made.
    pub fn pause(&mut self, held: Duration) -> Duration {
        if held >= STABLE_AFTER {
            self.bound = BACKOFF_MIN;
        }
        let pause = self.bound.mul_f64(self.random.f64());
        self.bound = (self.bound * 2).min(BACKOFF_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew_after_a_connection_that_held() {
        let mut backoff = Backoff::new(Rng::with_seed(1));
        let short = STABLE_AFTER - Duration::from_millis(1);
        assert!((0..20).all(|_| backoff.pause(short) <= BACKOFF_MAX));
        assert_eq!(backoff.bound, BACKOFF_MAX);
        assert!(backoff.pause(STABLE_AFTER) <= BACKOFF_MIN);
        assert_eq!(backoff.bound, BACKOFF_MIN * 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(Rng::with_seed(seed));
            std::array::from_fn::<_, 8, _>(|_| backoff.pause(Duration::ZERO))
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }
}
