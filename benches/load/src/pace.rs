//! What is to be done so many times a second, evenly.

use std::time::{Duration, Instant};

/// Most that is made up for at once after a stall: beyond it the load would be a burst.
const BEHIND_MAX: u32 = 1_000;

/// Spreads a number of events evenly over each second.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    /// `count` times in each `time`, first after one period from `now`. Nothing for 0 times, or
    /// no time.
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

    /// How many times by now.
    pub(crate) fn due(&mut self, now: Instant) -> u32 {
        let Some(late) = now.checked_duration_since(self.next) else {
            return 0;
        };
        let count = late.as_nanos() / self.period.as_nanos() + 1;
        if count > BEHIND_MAX.into() {
            self.next = now + self.period;
            return BEHIND_MAX;
        }
        self.next += self.period * count as u32;
        count as u32
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn as_many_as_asked_for_and_evenly() {
        let begun = Instant::now();
        let mut pace = Pace::new(18_000, Duration::from_secs(1), begun).unwrap();
        let counts: Vec<_> = (1..=1000).map(|ms| pace.due(begun + ms * MS)).collect();
        let sum: u32 = counts.iter().sum();
        assert!((17_990..=18_010).contains(&sum), "{sum}");
        assert!(counts.iter().all(|count| (17..=19).contains(count)));
    }

    #[test]
    fn seldom() {
        let begun = Instant::now();
        let mut pace = Pace::new(2, 10 * MS, begun).unwrap();
        assert_eq!(pace.due(begun + 4 * MS), 0);
        assert_eq!(pace.next(), begun + 5 * MS);
        assert_eq!(pace.due(begun + 5 * MS), 1);
        assert_eq!(pace.due(begun + 5 * MS), 0);
        assert_eq!(pace.due(begun + 16 * MS), 2);
    }

    #[test]
    fn a_stall_is_not_made_up_for_in_a_burst() {
        let begun = Instant::now();
        let mut pace = Pace::new(1000, MS, begun).unwrap();
        assert_eq!(pace.due(begun + 1000 * MS), BEHIND_MAX);
        assert!(pace.next() > begun + 1000 * MS);
    }

    #[test]
    fn never() {
        let now = Instant::now();
        assert!(Pace::new(0, MS, now).is_none());
        assert!(Pace::new(1, Duration::ZERO, now).is_none());
    }
}
