//! Warnings about what lasts: said at once, and then now and again.

use std::time::Duration;

use tokio::time::Instant;

/// When a warning was last logged.
#[derive(Debug, Default)]
pub struct LogThrottle {
    logged_at: Option<Instant>,
}

impl LogThrottle {
    /// Whether the warning is due: it has not been logged for `pause`. If it is, it counts as logged now.
    pub fn is_due(&mut self, pause: Duration) -> bool {
        let is_due = self.logged_at.is_none_or(|at| at.elapsed() >= pause);
        if is_due {
            self.logged_at = Some(Instant::now());
        }
        is_due
    }
}
