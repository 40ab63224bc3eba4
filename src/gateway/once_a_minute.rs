//! Warnings of refusals, of which there may be any number: each kind is said once a minute.

use std::sync::{Mutex, PoisonError};

use presenced_memcached::LogThrottle;

use crate::limits::REFUSALS_LOG_PAUSE;

/// When a warning was last logged.
#[derive(Debug, Default)]
pub struct OnceAMinute(Mutex<LogThrottle>);

impl OnceAMinute {
    /// Whether the warning may be logged again. If it may, it counts as logged now.
    pub fn is_due(&self) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.is_due(REFUSALS_LOG_PAUSE)
    }
}
