//! When which shard is flushed: evenly, whatever happens. Pure: time is an argument.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::SHARDS;

/// The turns of one worker's shards. All workers' turns lie on one grid of [`SHARDS`] a period, so
/// that no two workers flush at once.
#[derive(Debug)]
pub(super) struct FlushSchedule {
    period: Duration,
    /// Between two turns.
    spacing: Duration,
    /// The next turn's place on the grid.
    on_grid: Duration,
    /// When it is due; later than that after a stall.
    due: Duration,
}

impl FlushSchedule {
    /// For the worker that has each of `workers`-th shards from number `worker` on; `now` is time
    /// since an origin that all workers share.
    pub(super) fn new(
        period: Duration,
        worker: usize,
        workers: usize,
        now: Duration,
    ) -> FlushSchedule {
        let spacing = period * workers as u32 / SHARDS as u32;
        let offset = period * worker as u32 / SHARDS as u32;
        let turns = now.saturating_sub(offset).as_nanos() / spacing.as_nanos().max(1) + 1;
        let first = offset + Duration::from_nanos((spacing.as_nanos() * turns) as u64);
        FlushSchedule {
            period,
            spacing,
            on_grid: first,
            due: first,
        }
    }

    /// When the next turn is due.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// A turn was had at `now`. One that is late is made up for a little at a time: after a stall
    /// memcached gets a quarter more than usual, and no burst. More than a period is not made up
    /// for.
    pub(super) fn had(&mut self, now: Duration) {
        self.on_grid = self.on_grid.max(now.saturating_sub(self.period)) + self.spacing;
        self.due = self.on_grid.max(now + self.spacing * 4 / 5);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    /// Turns of `workers` in `time`, each `lateness` after it was due.
    fn turns(
        workers: usize,
        time: Duration,
        mut lateness: impl FnMut() -> Duration,
    ) -> Vec<Duration> {
        let mut turns = Vec::new();
        for worker in 0..workers {
            let mut schedule = FlushSchedule::new(PERIOD, worker, workers, Duration::ZERO);
            let mut now = Duration::ZERO;
            while now < time {
                now = now.max(schedule.due()) + lateness();
                turns.push(now);
                schedule.had(now);
            }
        }
        turns.sort_unstable();
        turns
    }

    fn most_in_100_ms(turns: &[Duration]) -> usize {
        let within = |from: &Duration| {
            let to = *from + Duration::from_millis(100);
            turns.iter().filter(|at| (*from..to).contains(at)).count()
        };
        turns.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn each_shard_has_its_turn_in_each_period_and_no_two_at_once() {
        for workers in [1, 2, 3, 8, 64] {
            let turns = turns(workers, PERIOD * 4, || Duration::ZERO);
            let in_second = turns
                .iter()
                .filter(|at| (PERIOD..2 * PERIOD).contains(at))
                .count();
            let per_worker = SHARDS / workers * workers;
            assert!(
                (per_worker - workers..=SHARDS + workers).contains(&in_second),
                "{in_second}"
            );
            assert!(most_in_100_ms(&turns) <= 2, "3.1 % of a period");
        }
    }

    #[test]
    fn a_stall_is_made_up_for_without_a_burst() {
        let mut left = 100;
        let stalls = || {
            left -= 1;
            if left == 50 {
                Duration::from_secs(2)
            } else {
                Duration::ZERO
            }
        };
        let turns = turns(1, PERIOD * 8, stalls);
        assert!(most_in_100_ms(&turns) <= 2);
        // The first of them is one spacing after the start.
        assert!(turns.len() >= 8 * SHARDS - 1, "{}", turns.len());
    }

    proptest! {
        #[test]
        fn however_late_turns_are_they_never_bunch(late in prop::collection::vec(0..80_000u64, 200)) {
            let mut late = late.into_iter().cycle();
            let turns = turns(1, PERIOD * 3, || Duration::from_micros(late.next().unwrap()));
            // Lateness itself may bring two together: a third comes no sooner than its spacing
            // allows.
            prop_assert!(most_in_100_ms(&turns) <= 2);
        }
    }
}
