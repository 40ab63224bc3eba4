//! Warnings about what lasts: said at once, again when it becomes something else, and now and
//! again.

use std::time::Duration;

use tokio::time::Instant;

/// When a warning was last logged, for each kind of what it warns of.
#[derive(Debug, Default)]
pub struct LogThrottle {
    logged_at: Vec<(&'static str, Instant)>,
}

impl LogThrottle {
    /// Whether a warning of one kind only is due: it has not been logged for `pause`. If it is, it
    /// counts as logged now.
    pub fn is_due(&mut self, pause: Duration) -> bool {
        self.is_due_for("", pause)
    }

    /// The same for this kind of trouble, whatever was logged of others.
    pub fn is_due_for(&mut self, kind: &'static str, pause: Duration) -> bool {
        self.logged_at.retain(|(_, at)| at.elapsed() < pause);
        let is_due = self.logged_at.iter().all(|(known, _)| *known != kind);
        if is_due {
            self.logged_at.push((kind, Instant::now()));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn another_kind_is_said_at_once_and_the_same_one_after_the_pause() {
        let mut throttle = LogThrottle::default();
        assert!(throttle.is_due_for("away", PAUSE));
        advance(PAUSE / 2).await;
        assert!(!throttle.is_due_for("away", PAUSE));
        assert!(throttle.is_due_for("full", PAUSE));
        // A node that goes to and fro does not fill the log.
        assert!(!throttle.is_due_for("away", PAUSE));
        advance(PAUSE / 2).await;
        assert!(throttle.is_due_for("away", PAUSE));
        assert!(!throttle.is_due_for("full", PAUSE));
        assert!(throttle.is_due(PAUSE));
    }
}
