//! What the pulls of all workers have in common.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::PullMetrics;
use super::{Asker, PullError};
use crate::limits::{PULL_CACHE, PULL_USERS_PER_SECOND};
use crate::token_buckets::{Rate, Table, ns};

/// What an operator may set of pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Users a second whom one user may ask for, on average.
    pub users_per_second: u32,
    /// How long it is believed that a user is online, once that was looked up; zero: not at all.
    pub cache: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            users_per_second: PULL_USERS_PER_SECOND,
            cache: PULL_CACHE,
        }
    }
}

/// What the pulls of all workers have in common.
#[derive(Debug)]
pub struct Pulls {
    /// What they count.
    pub metrics: PullMetrics,
    pub(super) cache: Duration,
    buckets: Mutex<Buckets>,
    started_at: Instant,
}

#[derive(Debug)]
struct Buckets {
    rate: Rate,
    /// By asker.
    table: Table,
}

impl Default for Pulls {
    fn default() -> Pulls {
        Pulls::new(Config::default())
    }
}

impl Pulls {
    /// None yet.
    pub fn new(config: Config) -> Pulls {
        Pulls {
            metrics: PullMetrics::default(),
            cache: config.cache,
            buckets: Mutex::new(Buckets {
                rate: Rate::per_second(config.users_per_second),
                table: Table::default(),
            }),
            started_at: Instant::now(),
        }
    }

    /// From now on each user may ask for so many users a second.
    pub fn set_users_per_second(&self, users: u32) {
        self.buckets().rate = Rate::per_second(users);
    }

    /// Counts users that are asked for.
    pub(super) fn charge(&self, asker: Asker, users: usize) -> Result<(), PullError> {
        if !asker.has_rate {
            return Ok(());
        }
        // At most as many as one pull may ask for.
        let count = users as u32;
        let now_ns = ns(self.started_at.elapsed());
        let mut buckets = self.buckets();
        let rate = buckets.rate;
        let taken = buckets.table.take(rate, asker.id, now_ns, count);
        taken.map_err(|wait| PullError::RateLimited {
            retry_s: wait.as_secs_f64().ceil().max(1.0) as u32,
        })
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_worth_at_once_and_then_the_rate() {
        let pulls = Pulls::new(Config {
            users_per_second: 100,
            ..Config::default()
        });
        let asker = |id, has_rate| Asker { id, has_rate };
        for _ in 0..2 {
            assert_eq!(pulls.charge(asker(1, true), 500), Ok(()));
        }
        let refused = |retry_s| Err(PullError::RateLimited { retry_s });
        assert_eq!(pulls.charge(asker(1, true), 1), refused(1));
        assert_eq!(pulls.charge(asker(1, true), 150), refused(2));
        // It costs nothing to be refused, nor others.
        assert_eq!(pulls.charge(asker(2, true), 500), Ok(()));
        assert_eq!(pulls.charge(asker(1, false), 500), Ok(()));
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(pulls.charge(asker(1, true), 151), refused(1));
        assert_eq!(pulls.charge(asker(1, true), 150), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_is_changed_applies_at_once_to_those_who_have_asked_before() {
        let pulls = Pulls::new(Config {
            users_per_second: 50,
            ..Config::default()
        });
        let asker = Asker {
            id: 1,
            has_rate: true,
        };
        assert_eq!(pulls.charge(asker, 500), Ok(()));
        assert!(pulls.charge(asker, 100).is_err());
        pulls.set_users_per_second(5000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulls.charge(asker, 500), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_pull_passes_at_the_lowest_rate() {
        let pulls = Pulls::new(Config {
            users_per_second: 1,
            ..Config::default()
        });
        let asker = Asker {
            id: 1,
            has_rate: true,
        };
        assert_eq!(pulls.charge(asker, 500), Ok(()));
        let refused = Err(PullError::RateLimited { retry_s: 500 });
        assert_eq!(pulls.charge(asker, 500), refused);
    }
}
