//! Sessions that come back after they were lost, as the browser client does (`client/presence.js`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::session::{Role, Stage};

/// After n failures in a row, a session waits for a random time between 0 and this × 2ⁿ, …
const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// … and never longer than this.
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// The sessions that wait until they connect again.
#[derive(Debug)]
pub(super) struct Reconnect {
    is_on: bool,
    /// When each is due. The first one is on top.
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Reconnect {
    pub(super) fn new(is_on: bool) -> Reconnect {
        Reconnect {
            is_on,
            waiting: BinaryHeap::new(),
        }
    }

    /// When the next session is due; `None` if no one waits.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((at, _))| *at)
    }

    fn push(&mut self, at: Instant, index: usize) {
        self.waiting.push(Reverse((at, index)));
    }

    /// Takes off a session that is due.
    fn pop(&mut self, now: Instant) -> Option<usize> {
        self.next().filter(|at| *at <= now)?;
        self.waiting.pop().map(|Reverse((_, index))| index)
    }
}

/// A random time after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    let longest = BACKOFF_BASE.saturating_mul(1 << failures.min(16));
    longest.min(BACKOFF_CAP).mul_f64(fastrand::f64())
}

impl Client {
    /// A session has ended, or could not be opened; `stage` is how far it had got. With --reconnect it
    /// tries again later.
    pub(super) fn come_back(&mut self, index: usize, stage: Stage) {
        let session = &mut self.sessions[index];
        let is_lasting = !matches!(session.role, Role::Flood | Role::Burst);
        if !self.reconnect.is_on || !is_lasting || stage == Stage::Disconnected {
            return;
        }
        let now = Instant::now();
        if stage == Stage::Open {
            session.lost_at = Some(now);
            session.failures = 0;
        }
        self.reconnect.push(now + backoff(session.failures), index);
        session.failures = session.failures.saturating_add(1);
    }

    /// Connects the sessions that have waited long enough. An error is a fault of this machine.
    pub(super) fn reconnect_due(&mut self, now: Instant) -> io::Result<()> {
        while let Some(index) = self.reconnect.pop(now) {
            self.start_handshake(index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_the_failures_up_to_its_cap() {
        for (failures, longest_ms) in [
            (0, 500),
            (1, 1_000),
            (5, 16_000),
            (6, 30_000),
            (u32::MAX, 30_000),
        ] {
            let longest = Duration::from_millis(longest_ms);
            let waits: Vec<_> = (0..1000).map(|_| backoff(failures)).collect();
            assert!(waits.iter().all(|wait| *wait <= longest), "{failures}");
            // A thousand waits miss a tenth of their range once in 10^45 times.
            assert!(
                waits.iter().any(|wait| *wait > longest.mul_f64(0.9)),
                "{failures}"
            );
            assert!(
                waits.iter().any(|wait| *wait < longest.mul_f64(0.1)),
                "{failures}"
            );
        }
    }

    #[test]
    fn sessions_come_up_in_the_order_of_time_and_not_before_it() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut reconnect = Reconnect::new(true);
        assert_eq!((reconnect.next(), reconnect.pop(now)), (None, None));
        for (ms, index) in [(30, 1), (10, 2), (20, 3)] {
            reconnect.push(at(ms), index);
        }
        assert_eq!(reconnect.next(), Some(at(10)));
        assert_eq!(reconnect.pop(at(9)), None);
        assert_eq!(reconnect.pop(at(25)), Some(2));
        assert_eq!(reconnect.pop(at(25)), Some(3));
        assert_eq!(reconnect.pop(at(25)), None);
        assert_eq!(reconnect.next(), Some(at(30)));
    }
}
