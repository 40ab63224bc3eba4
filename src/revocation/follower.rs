//! Which entries of the log are to be read, as its last number tells.
//!
//! An edge that writes gets the number first and writes the entry then. So an entry that is missing
//! may be about to come: it is asked for again until [`REVOCATION_GAP_AFTER`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use presenced_memcached::shared_log::run_of;

use crate::limits::{REVOCATION_GAP_AFTER, REVOCATIONS_MAX};

/// How far the log is read.
#[derive(Debug, Default)]
pub struct Follower {
    last: Option<u64>,
    /// The greatest number that was ever the last.
    greatest: u64,
    wanted: BTreeMap<u64, Wanted>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Whether it was given since we look: it must come. Others may have ended.
    is_new: bool,
    missing_since: Option<Duration>,
}

/// What a last number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The log goes on, or stays as it was.
    Goes,
    /// It is there, and was not before.
    Found,
    /// It was begun anew, or is gone. What is known may not be in it.
    Lost,
    /// It went back: the number is less than what was seen.
    Back,
}

impl Follower {
    /// The last number is this, or there is none.
    pub fn see(&mut self, last: Option<u64>) -> Seen {
        let before = std::mem::replace(&mut self.last, last);
        let Some(last) = last else {
            self.wanted.clear();
            return match before {
                Some(_) => Seen::Lost,
                None => Seen::Goes,
            };
        };
        let (run, greatest) = (run_of(last), self.greatest);
        self.greatest = greatest.max(last);
        match before {
            Some(before) if before == last => Seen::Goes,
            Some(before)
                if before < last && (run.contains(&before) || before + 1 == *run.start()) =>
            {
                let first = (before + 1).max(first_read(last));
                self.want(first..=last, true);
                Seen::Goes
            }
            _ => {
                self.read_again();
                match before {
                    _ if last < greatest => Seen::Back,
                    None => Seen::Found,
                    Some(_) => Seen::Lost,
                }
            }
        }
    }

    /// The log was begun anew at this number, as it had to be: that is no loss.
    pub fn begun(&mut self, number: u64) {
        self.greatest = self.greatest.max(number);
        self.last = None;
        self.wanted.clear();
    }

    /// From now on the whole log is to be read, as if nothing had been read of it.
    pub fn read_again(&mut self) {
        self.wanted.clear();
        if let Some(last) = self.last {
            self.want(first_read(last)..=last, false);
        }
    }

    fn want(&mut self, numbers: impl Iterator<Item = u64>, is_new: bool) {
        let wanted = Wanted {
            is_new,
            missing_since: None,
        };
        self.wanted.extend(numbers.map(|number| (number, wanted)));
        while self.wanted.len() > REVOCATIONS_MAX {
            self.wanted.pop_first();
        }
    }

    /// The greatest number that was ever the last, as far as this has seen.
    #[must_use]
    pub fn greatest(&self) -> u64 {
        self.greatest
    }

    /// What is to be asked for.
    pub fn wanted(&self) -> impl Iterator<Item = u64> {
        self.wanted.keys().copied()
    }

    /// All that was wanted was asked for: these were found, and of these the node does not answer.
    /// Returns how many were given up that must have been there.
    pub fn answered(
        &mut self,
        found: impl IntoIterator<Item = u64>,
        away: &[u64],
        now: Duration,
    ) -> u64 {
        for number in found {
            self.wanted.remove(&number);
        }
        let away: BTreeSet<_> = away.iter().collect();
        let last = self.last.unwrap_or_default();
        let mut gaps = 0;
        self.wanted.retain(|number, wanted| {
            if away.contains(number) {
                return true;
            }
            let since = *wanted.missing_since.get_or_insert(now);
            let is_recent = number + RECENT > last;
            let may_come = now.saturating_sub(since) < REVOCATION_GAP_AFTER;
            if may_come && (wanted.is_new || is_recent) {
                return true;
            }
            gaps += u64::from(wanted.is_new);
            false
        });
        gaps
    }
}

/// Numbers behind which an edge that has just begun to read takes a missing entry for one that is
/// about to be written: as many as edges write at once.
const RECENT: u64 = 256;

/// The first entry of the log that is read, if this is the last.
fn first_read(last: u64) -> u64 {
    let start = *run_of(last).start();
    start.max((last + 1).saturating_sub(REVOCATIONS_MAX as u64))
}

#[cfg(test)]
mod tests {
    use presenced_memcached::shared_log::new_run;
    use proptest::prelude::*;

    use super::*;

    const RUN: u64 = 1_800_000_000 << 20;

    fn wanted(follower: &Follower) -> Vec<u64> {
        follower
            .wanted()
            .map(|number| number.wrapping_sub(RUN))
            .collect()
    }

    fn at_s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_number_is_read_once_it_was_given() {
        let mut follower = Follower::default();
        assert_eq!(follower.see(None), Seen::Goes);
        assert_eq!(follower.see(Some(RUN)), Seen::Found);
        assert_eq!(wanted(&follower), [0; 0]);
        assert_eq!(follower.see(Some(RUN + 2)), Seen::Goes);
        assert_eq!(wanted(&follower), [1, 2]);
        assert_eq!(follower.answered([RUN + 1, RUN + 2], &[], at_s(0)), 0);
        assert_eq!(follower.see(Some(RUN + 2)), Seen::Goes);
        assert_eq!(wanted(&follower), [0; 0]);
    }

    #[test]
    fn an_entry_that_is_about_to_come_is_waited_for() {
        let mut follower = Follower::default();
        follower.see(Some(RUN));
        follower.see(Some(RUN + 3));
        // The node of the third does not answer.
        assert_eq!(follower.answered([RUN + 2], &[RUN + 3], at_s(10)), 0);
        assert_eq!(wanted(&follower), [1, 3]);
        let end = at_s(10) + REVOCATION_GAP_AFTER;
        let just_before = end - Duration::from_millis(1);
        assert_eq!(follower.answered([], &[RUN + 3], just_before), 0);
        assert_eq!(follower.answered([], &[RUN + 3], end), 1);
        assert_eq!(wanted(&follower), [3]);
        assert_eq!(follower.answered([], &[], 2 * end), 0);
        assert_eq!(follower.answered([RUN + 3], &[], 2 * end), 0);
        assert_eq!(wanted(&follower), [0; 0]);
    }

    #[test]
    fn who_begins_to_read_reads_the_last_run_and_misses_nothing_that_has_ended() {
        let mut follower = Follower::default();
        assert_eq!(follower.see(Some(RUN + 1000)), Seen::Found);
        assert_eq!(wanted(&follower).len(), 1000);
        assert_eq!(follower.answered([RUN + 1000], &[], at_s(0)), 0);
        assert_eq!(
            wanted(&follower),
            (1000 - RECENT + 1..1000).collect::<Vec<_>>()
        );
        assert_eq!(follower.answered([], &[], REVOCATION_GAP_AFTER), 0);
        assert_eq!(wanted(&follower), [0; 0]);
        let many = REVOCATIONS_MAX as u64 + 7;
        follower.see(Some(RUN + 1000 + many));
        assert_eq!(wanted(&follower).len(), REVOCATIONS_MAX);
        assert_eq!(follower.wanted().last(), Some(RUN + 1000 + many));
    }

    #[test]
    fn a_log_that_is_lost_begun_anew_or_older_is_read_whole() {
        let begun = |follower: &mut Follower| {
            *follower = Follower::default();
            follower.see(Some(RUN + 5));
            follower.answered((RUN + 1)..=(RUN + 5), &[], at_s(0));
        };
        let mut follower = Follower::default();
        begun(&mut follower);
        assert_eq!(follower.see(None), Seen::Lost);
        assert_eq!(follower.see(None), Seen::Goes);
        let next = new_run(RUN + 5, 0);
        assert_eq!(follower.see(Some(next + 2)), Seen::Found);
        assert_eq!(follower.wanted().collect::<Vec<_>>(), [next + 1, next + 2]);
        begun(&mut follower);
        assert_eq!(follower.see(Some(next + 1)), Seen::Lost);
        assert_eq!(follower.wanted().collect::<Vec<_>>(), [next + 1]);
        // Within a run, and to the one before; also if it was away in between.
        for is_away_before in [false, true] {
            for back in [RUN + 4, RUN - (1 << 20) + 3] {
                begun(&mut follower);
                if is_away_before {
                    follower.see(None);
                }
                assert_eq!(follower.see(Some(back)), Seen::Back);
                assert_eq!(follower.wanted().last(), Some(back));
                assert_eq!(follower.greatest(), RUN + 5);
            }
        }
    }

    proptest! {
        /// Whatever last numbers are told, and whatever is found.
        #[test]
        fn what_is_wanted_is_bounded_and_of_the_run(
            steps in prop::collection::vec((any::<bool>(), 0..4u64, 0..2000u64, 0..9u64), 1..12),
        ) {
            let mut follower = Follower::default();
            for (is_there, run, entries, seconds) in steps {
                let last = is_there.then_some(RUN + (run << 20) + entries);
                follower.see(last);
                let wanted: Vec<_> = follower.wanted().collect();
                prop_assert!(wanted.len() <= REVOCATIONS_MAX);
                prop_assert!(wanted.iter().all(|number| Some(*number) <= last));
                follower.answered(wanted.into_iter().step_by(2), &[], at_s(seconds));
            }
        }
    }
}
