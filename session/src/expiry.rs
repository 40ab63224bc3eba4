//! When sessions end because their time is over, and when their clients are told before.
//!
//! A session keeps when it ends, and has no timer. The wheel looks at it once in a ping interval
//! anyhow: only if something is due before the next look does it get an entry in a queue. What is
//! due, and when, follows from a session's key and its [`Term`]. So an entry is found again though
//! nobody remembers it, a session has one at most, and none outlives its session or a token that
//! another has replaced.
//!
//! The moment of a warning is random, so that the clients of a fleet, whose tokens may all end at
//! once, do not all ask for new ones at once.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::slab::SessionKey;
use crate::limits::{EXPIRY_LAG_MAX, EXPIRY_WARNING_MAX, EXPIRY_WARNING_MIN};

/// A time of the clock in quarters of a second: enough for 34 years. The last one never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quarters(u32);

impl Quarters {
    /// The first that is not before `time`.
    pub(super) fn not_before(time: Duration) -> Quarters {
        let count = time.as_nanos().div_ceil(QUARTER.as_nanos());
        Quarters(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The last that has come at the time `now`.
    #[inline]
    pub(super) fn come(now: Duration) -> Quarters {
        let of_second = u64::from(now.subsec_millis()) / QUARTER.as_millis() as u64;
        let count = now
            .as_secs()
            .saturating_mul(PER_SECOND)
            .saturating_add(of_second);
        Quarters(count.min(u64::from(NEVER - 1)) as u32)
    }

    /// From `now` to this one.
    pub(super) fn since(self, now: Duration) -> Duration {
        (QUARTER * self.0).saturating_sub(now)
    }
}

const PER_SECOND: u64 = 4;
const QUARTER: Duration = Duration::from_millis(1000 / PER_SECOND);
const NEVER: u32 = u32::MAX;

const fn quarters(time: Duration) -> u32 {
    (time.as_millis() / QUARTER.as_millis()) as u32
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its client is still to be told when its time is over.
    Unwarned,
    /// Its client was told.
    Warned,
    /// A close frame was sent; the rest of the input is ignored (RFC 6455 §1.4).
    Closing,
}

/// A session's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) ends_at: Quarters,
    pub(super) stage: Stage,
}

/// The sessions of which something is due before the wheel looks at them again.
#[derive(Debug)]
pub(super) struct Expiring {
    /// One at most for each session that is not closing.
    due: BTreeSet<(Quarters, SessionKey)>,
    random: FixedState,
    /// Longest time between two looks of the wheel at a session.
    look_within: u32,
}

impl Expiring {
    /// Of sessions that the wheel looks at once in `ping_interval`. The moments of warnings follow
    /// from `random`.
    pub(super) fn new(ping_interval: Duration, random: FixedState) -> Expiring {
        Expiring {
            due: BTreeSet::new(),
            random,
            look_within: quarters(ping_interval + EXPIRY_LAG_MAX) + 1,
        }
    }

    /// Of sessions that end later, nothing is due before the next look.
    #[inline]
    pub(super) fn horizon(&self, now: Duration) -> Quarters {
        let ahead = self.look_within + quarters(EXPIRY_WARNING_MAX);
        Quarters(Quarters::come(now).0.saturating_add(ahead))
    }

    /// Looks at a session: an entry for it if something is due before the next look.
    // Out of line, so that the path of a ping stays short.
    #[inline(never)]
    pub(super) fn look(&mut self, key: SessionKey, term: Term, now: Duration) {
        let next_look = Quarters::come(now).0.saturating_add(self.look_within);
        if let Some(due) = self.due(key, term)
            && due <= Quarters(next_look)
        {
            self.due.insert((due, key));
        }
    }

    /// The session has a later or an earlier end from now on. Its client knows of it: there is no
    /// warning whose time has come already. Returns its new term.
    pub(super) fn renew(
        &mut self,
        key: SessionKey,
        term: Term,
        ends_at: Duration,
        now: Duration,
    ) -> Term {
        self.forget(key, term);
        let mut term = Term {
            ends_at: Quarters::not_before(ends_at),
            stage: Stage::Unwarned,
        };
        if self.is_due(key, term, now) {
            term.stage = Stage::Warned;
        }
        self.look(key, term, now);
        term
    }

    /// The session is about to have another term, or none.
    pub(super) fn forget(&mut self, key: SessionKey, term: Term) {
        if let Some(due) = self.due(key, term) {
            self.due.remove(&(due, key));
        }
    }

    /// Whether the next thing is due now.
    pub(super) fn is_due(&self, key: SessionKey, term: Term, now: Duration) -> bool {
        let due = self.due(key, term);
        due.is_some_and(|due| due <= Quarters::come(now))
    }

    /// Takes out a session of which something is due.
    pub(super) fn take(&mut self, now: Duration) -> Option<SessionKey> {
        let (due, _) = self.due.first()?;
        if *due > Quarters::come(now) {
            return None;
        }
        self.due.pop_first().map(|(_, key)| key)
    }

    /// When the next thing is due.
    fn due(&self, key: SessionKey, term: Term) -> Option<Quarters> {
        let Term { ends_at, stage } = term;
        match stage {
            Stage::Unwarned => {
                let spread = quarters(EXPIRY_WARNING_MAX) - quarters(EXPIRY_WARNING_MIN) + 1;
                let random = self.random.hash_one((key, ends_at.0)) % u64::from(spread);
                let before = quarters(EXPIRY_WARNING_MIN) + random as u32;
                Some(Quarters(ends_at.0.saturating_sub(before)))
            }
            Stage::Warned => Some(ends_at),
            Stage::Closing => None,
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::wheel::{CHUNK, GROUP, Wheel};

    const INTERVAL: Duration = Duration::from_secs(25);
    const TICK: Duration = Duration::from_millis(10);

    fn key(index: u32, generation: u32) -> SessionKey {
        SessionKey { index, generation }
    }

    /// A session as the property knows it.
    #[derive(Clone, Copy, Debug)]
    struct Known {
        key: SessionKey,
        term: Term,
        ends_at: Duration,
        /// Whether the warning came late because the token was that short.
        is_short: bool,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open { place: u32, lives_ms: u64 },
        Renew { place: u32, lives_ms: u64 },
        Close { place: u32 },
        Pass { ms: u64 },
        Stall { ms: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let place = || 0..200u32;
        let lives_ms = || prop_oneof![0..5_000u64, 0..200_000u64, 0..2_000_000u64];
        let step = prop_oneof![
            4 => (place(), lives_ms()).prop_map(|(place, lives_ms)| Step::Open { place, lives_ms }),
            2 => (place(), lives_ms()).prop_map(|(place, lives_ms)| Step::Renew { place, lives_ms }),
            1 => place().prop_map(|place| Step::Close { place }),
            4 => (0..60_000u64).prop_map(|ms| Step::Pass { ms }),
            1 => (0..60_000u64).prop_map(|ms| Step::Stall { ms }),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// Places of a slab, and the wheel over them, as the worker has them.
    struct Tried {
        now: Duration,
        /// What the wheel has not made up for at the last sweep.
        behind: Duration,
        wheel: Wheel,
        expiring: Expiring,
        sessions: HashMap<u32, Known>,
        generation: u32,
    }

    impl Tried {
        fn new(seed: u64) -> Tried {
            let now = Duration::from_millis(12_345);
            let mut wheel = Wheel::new(INTERVAL, INTERVAL / 2, now);
            wheel.grow(1);
            Tried {
                now,
                behind: Duration::ZERO,
                wheel,
                expiring: Expiring::new(INTERVAL, FixedState::with_seed(seed)),
                sessions: HashMap::new(),
                generation: 0,
            }
        }

        fn open(&mut self, place: u32, lives: Duration) {
            if self.sessions.contains_key(&place) {
                return;
            }
            self.generation += 1;
            let (key, ends_at) = (key(place, self.generation), self.now + lives);
            let mut term = Term {
                ends_at: Quarters::not_before(ends_at),
                stage: Stage::Unwarned,
            };
            let is_short = self.expiring.is_due(key, term, self.now);
            if is_short {
                term.stage = Stage::Warned;
            }
            self.expiring.look(key, term, self.now);
            let known = Known {
                key,
                term,
                ends_at,
                is_short,
            };
            self.sessions.insert(place, known);
        }

        fn renew(&mut self, place: u32, lives: Duration) {
            if let Some(known) = self.sessions.get_mut(&place) {
                known.ends_at = self.now + lives;
                known.term = self
                    .expiring
                    .renew(known.key, known.term, known.ends_at, self.now);
                known.is_short = known.term.stage == Stage::Warned;
            }
        }

        fn close(&mut self, place: u32) {
            if let Some(known) = self.sessions.remove(&place) {
                self.expiring.forget(known.key, known.term);
            }
        }

        /// The worker's tick.
        fn tick(&mut self, late: Duration) {
            let turn = self.wheel.turn(self.now);
            if self.wheel.behind() - self.behind > EXPIRY_LAG_MAX {
                self.behind = self.wheel.behind();
                for known in self.sessions.values() {
                    self.expiring.look(known.key, known.term, self.now);
                }
            }
            while let Some(key) = self.expiring.take(self.now) {
                let known = self
                    .sessions
                    .get_mut(&key.index)
                    .expect("no entry outlives its session");
                assert_eq!(known.key, key);
                let left = known.ends_at.checked_sub(self.now);
                if known.term.ends_at <= Quarters::come(self.now) {
                    assert!(known.ends_at <= self.now, "too early: {known:?}");
                    let past = self.now - known.ends_at;
                    assert!(
                        past <= QUARTER + TICK + late,
                        "{past:?} too late: {known:?}"
                    );
                    self.sessions.remove(&key.index);
                } else {
                    assert_eq!(known.term.stage, Stage::Unwarned, "warned twice: {known:?}");
                    let left = left.unwrap();
                    assert!(left <= EXPIRY_WARNING_MAX, "{left:?} {known:?}");
                    assert!(
                        left + QUARTER + TICK + late >= EXPIRY_WARNING_MIN,
                        "{left:?} {known:?}"
                    );
                    known.term.stage = Stage::Warned;
                    self.expiring.look(key, known.term, self.now);
                }
            }
            let mut groups = Vec::new();
            self.wheel.to_ping(turn, &mut groups);
            let horizon = self.expiring.horizon(self.now);
            for place in groups.into_iter().flat_map(|group| group..group + GROUP) {
                if let Some(known) = self.sessions.get(&place)
                    && known.term.ends_at <= horizon
                {
                    self.expiring.look(known.key, known.term, self.now);
                }
            }
            assert!(self.expiring.len() <= self.sessions.len());
            for known in self.sessions.values() {
                assert!(
                    self.now < known.ends_at + QUARTER + TICK + late,
                    "still there: {known:?}"
                );
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += TICK;
                self.tick(Duration::ZERO);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In whatever order sessions open, close and are renewed, and though the server may stand
        /// still: none ends before its time, or later than a quarter of a second after it; each is warned once for a token, a minute or two before; no entry outlives its session.
        #[test]
        fn sessions_end_in_time_and_are_warned_before(steps in steps(), seed: u64) {
            let mut tried = Tried::new(seed);
            for step in steps {
                match step {
                    Step::Open { place, lives_ms } => tried.open(place, Duration::from_millis(lives_ms)),
                    Step::Renew { place, lives_ms } => tried.renew(place, Duration::from_millis(lives_ms)),
                    Step::Close { place } => tried.close(place),
                    Step::Pass { ms } => tried.pass(Duration::from_millis(ms)),
                    Step::Stall { ms } => {
                        let stall = Duration::from_millis(ms);
                        tried.now += stall;
                        tried.tick(stall);
                    }
                }
            }
            // Whoever is left was warned, unless there is more than a minute to go.
            for known in tried.sessions.values() {
                let left = known.ends_at - tried.now.min(known.ends_at);
                let is_early = left + QUARTER + TICK >= EXPIRY_WARNING_MIN;
                prop_assert!(known.is_short || is_early || known.term.stage == Stage::Warned, "{known:?}");
            }
        }
    }

    #[test]
    fn warnings_of_tokens_that_end_at_once_are_spread_over_a_minute() {
        let expiring = Expiring::new(INTERVAL, FixedState::with_seed(7));
        let ends_at = Quarters::not_before(Duration::from_secs(10_000));
        let term = Term {
            ends_at,
            stage: Stage::Unwarned,
        };
        let mut by_second = [0; 61];
        for index in 0..61_000 {
            let due = expiring
                .due(key(index % CHUNK, index / CHUNK), term)
                .unwrap();
            let before = due.since(Duration::ZERO).as_secs() - (10_000 - 120);
            by_second[before as usize] += 1;
        }
        assert!(
            by_second[..60]
                .iter()
                .all(|count| (800..1200).contains(count)),
            "{by_second:?}"
        );
        // With another seed, at other moments.
        let other = Expiring::new(INTERVAL, FixedState::with_seed(8));
        let differ = (0..100)
            .filter(|&index| other.due(key(index, 0), term) != expiring.due(key(index, 0), term));
        assert!(differ.count() > 90);
    }

    #[test]
    fn quarters_are_never_early_and_the_last_never_comes() {
        let ns = Duration::from_nanos;
        assert_eq!(Quarters::not_before(ns(1)), Quarters(1));
        assert_eq!(Quarters::not_before(ns(250_000_000)), Quarters(1));
        assert_eq!(Quarters::not_before(ns(250_000_001)), Quarters(2));
        assert_eq!(Quarters::come(ns(249_999_999)), Quarters(0));
        assert_eq!(Quarters::come(ns(1_750_000_000)), Quarters(7));
        assert!(Quarters::come(Duration::MAX) < Quarters::not_before(Duration::MAX));
        let never = Quarters::not_before(Duration::MAX);
        let mut expiring = Expiring::new(INTERVAL, FixedState::with_seed(7));
        let term = Term {
            ends_at: never,
            stage: Stage::Unwarned,
        };
        expiring.look(key(1, 1), term, Duration::from_secs(30 * 365 * 86_400));
        assert_eq!(expiring.len(), 0);
    }
}
