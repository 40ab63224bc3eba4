//! Pauses between tries.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// Exponential with full jitter, so that a fleet does not dial in step.
#[derive(Debug)]
pub struct Backoff {
    bound: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { bound: BACKOFF_MIN }
    }
}

impl Backoff {
    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.bound.mul_f64(fastrand::f64());
        self.bound = (self.bound * 2).min(BACKOFF_MAX);
        pause
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        assert!((0..20).all(|_| backoff.pause() <= BACKOFF_MAX));
        assert_eq!(backoff.bound, BACKOFF_MAX);
        backoff.reset();
        assert!(backoff.pause() <= BACKOFF_MIN);
    }
}
