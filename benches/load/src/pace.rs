//! Spreads events evenly over time.

use std::time::{Duration, Instant};

/// How many missed events are made up for after a stall; more would be a burst.
const CATCH_UP_MAX: u32 = 1_000;

/// Spreads events evenly over time.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    /// `count` events in each `time`, the first one period after `now`. `None` if either is zero.
    pub(crate) fn new(count: usize, time: Duration, now: Instant) -> Option<Pace> {
        if count == 0 || time.is_zero() {
            return None;
        }
        let period = time.div_f64(count as f64).max(Duration::from_nanos(1));
        Some(Pace {
            period,
            next: now + period,
        })
    }

    /// How many events are due by now; they count as done.
    pub(crate) fn due(&mut self, now: Instant) -> u32 {
        let Some(late) = now.checked_duration_since(self.next) else {
            return 0;
        };
        let count = late.as_nanos() / self.period.as_nanos() + 1;
        if count > CATCH_UP_MAX.into() {
            self.next = now + self.period;
            return CATCH_UP_MAX;
        }
        self.next += self.period * count as u32;
        count as u32
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn events_are_evenly_spread() {
        let started = Instant::now();
        let mut pace = Pace::new(18_000, Duration::from_secs(1), started).unwrap();
        let counts: Vec<_> = (1..=1000).map(|ms| pace.due(started + ms * MS)).collect();
        let sum: u32 = counts.iter().sum();
        assert!((17_990..=18_010).contains(&sum), "{sum}");
        assert!(counts.iter().all(|count| (17..=19).contains(count)));
    }

    #[test]
    fn rare_events_are_due_one_at_a_time() {
        let started = Instant::now();
        let mut pace = Pace::new(2, 10 * MS, started).unwrap();
        assert_eq!(pace.due(started + 4 * MS), 0);
        assert_eq!(pace.next(), started + 5 * MS);
        assert_eq!(pace.due(started + 5 * MS), 1);
        assert_eq!(pace.due(started + 5 * MS), 0);
        assert_eq!(pace.due(started + 16 * MS), 2);
    }

    #[test]
    fn a_stall_is_not_made_up_for_in_a_burst() {
        let started = Instant::now();
        let mut pace = Pace::new(1000, MS, started).unwrap();
        assert_eq!(pace.due(started + 1000 * MS), CATCH_UP_MAX);
        assert!(pace.next() > started + 1000 * MS);
    }

    #[test]
    fn no_events_for_a_zero_count_or_time() {
        let now = Instant::now();
        assert!(Pace::new(0, MS, now).is_none());
        assert!(Pace::new(1, Duration::ZERO, now).is_none());
    }
}
