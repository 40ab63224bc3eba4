//! The ping wheel: whose turn it is, without a timer a session and without a list of sessions.
//!
//! A session's index in the slab is its place on the wheel. Two hands go round once in a ping
//! interval: the first pings; the second, the ping timeout behind, judges. They come to neighbours
//! in groups, as a walk over memory that no cache holds costs more than the work at each entry. A
//! round has as many steps as a chunk of the slab has groups; in each step each chunk has one
//! group due, at a moment of the step that is the chunk's own. So N sessions on an interval of 25 s
//! are N/25 pings a second, evenly but for the groups, a growing slab moves no one's moment, and a
//! turn costs nothing but the groups that it finds due.
//!
//! The wheel has a time of its own, which never jumps: after a stall it goes on from where it was,
//! at most [`WHEEL_CATCH_UP`] in one turn, so that a machine that slept sends no burst of pings and
//! judges no one before their time.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::WHEEL_CATCH_UP;

/// Places of the slab that are one chunk.
pub const CHUNK: u32 = 1024;

/// Places that are due together, the first of them a multiple of it.
pub const GROUP: u32 = 32;

/// Steps of a round.
const STEPS: u32 = CHUNK / GROUP;

/// A timing wheel over the entries of a slab.
#[derive(Debug)]
pub struct Wheel {
    interval_us: u64,
    timeout_us: u64,
    /// The wheel's own time.
    time_us: u64,
    last: Duration,
    /// Time of stalls that it has not made up for.
    behind: Duration,
    /// Each chunk's moment in a step and its number, by the moment.
    order: Vec<(u32, u32)>,
}

/// A stretch of the wheel's time, as its first hand sees it.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    from_us: u64,
    to_us: u64,
}

impl Wheel {
    /// A wheel that goes round once in `interval`, its second hand `timeout` behind the first.
    /// `now` is the time of its start.
    pub fn new(interval: Duration, timeout: Duration, now: Duration) -> Wheel {
        debug_assert!(timeout < interval);
        let interval_us = interval.as_micros().max(1) as u64;
        Wheel {
            interval_us,
            timeout_us: timeout.as_micros() as u64,
            // One round in, so that the second hand has a past.
            time_us: interval_us,
            last: now,
            behind: Duration::ZERO,
            order: Vec::new(),
        }
    }

    /// The slab has `chunks` chunks now; it never has fewer.
    pub fn grow(&mut self, chunks: u32) {
        for chunk in self.order.len() as u32..chunks {
            let entry = (offset(chunk).1, chunk);
            let at = self.order.partition_point(|other| *other < entry);
            self.order.insert(at, entry);
        }
    }

    /// Moves the hands on to `now`.
    pub fn turn(&mut self, now: Duration) -> Turn {
        let since_last = now.saturating_sub(self.last);
        let passed = since_last.min(WHEEL_CATCH_UP);
        self.behind += since_last - passed;
        self.last = self.last.max(now);
        let from_us = self.time_us;
        self.time_us += passed.as_micros() as u64;
        Turn {
            from_us,
            to_us: self.time_us,
        }
    }

    /// How far its own time is behind that of the clock by now, for all its stalls.
    pub fn behind(&self) -> Duration {
        self.behind
    }

    /// Adds the first index of each group that is to be pinged to `groups`.
    pub fn to_ping(&self, turn: Turn, groups: &mut Vec<u32>) {
        self.due(turn, 0, groups);
    }

    /// Adds the first index of each group that was pinged the timeout ago, and is to be checked,
    /// to `groups`.
    pub fn to_check(&self, turn: Turn, groups: &mut Vec<u32>) {
        self.due(turn, self.timeout_us, groups);
    }

    fn due(&self, turn: Turn, behind_us: u64, groups: &mut Vec<u32>) {
        let (from_step, from) = self.step(turn.from_us - behind_us);
        let (to_step, to) = self.step(turn.to_us - behind_us);
        for step in from_step..=to_step {
            let first = if step == from_step { from } else { 0 };
            let begin = self.order.partition_point(|(moment, _)| *moment < first);
            let due = self.order[begin..]
                .iter()
                .take_while(|(moment, _)| step < to_step || *moment < to);
            groups.extend(due.map(|&(_, chunk)| {
                let step = step.wrapping_sub(offset(chunk).0.into());
                chunk * CHUNK + scattered(step as u32, STEPS) * GROUP
            }));
        }
    }

    /// The step at a time, and the moment in it in 2^-32.
    fn step(&self, time_us: u64) -> (u64, u32) {
        let moment =
            ((u128::from(time_us) * u128::from(STEPS)) << 32) / u128::from(self.interval_us);
        ((moment >> 32) as u64, moment as u32)
    }
}

/// How far a chunk's first entry is from the start of a round: whole steps, and 2^-32 of one. The
/// golden ratio sets any number of chunks off evenly.
fn offset(chunk: u32) -> (u32, u32) {
    let round = u64::from(chunk).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = STEPS.trailing_zeros();
    ((round >> (64 - bits)) as u32, (round >> (32 - bits)) as u32)
}

/// The `step`th of `count` things, a power of two, in an order in which the first few are far from
/// each other: the reversed bits. A slab fills up from its first entries.
pub(super) fn scattered(step: u32, count: u32) -> u32 {
    (step % count).reverse_bits() >> (32 - count.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A wheel for a slab of `chunks`, with its entries due in one turn.
    struct Tried(Wheel);

    impl Tried {
        fn new(chunks: u32) -> Tried {
            let mut wheel = Wheel::new(INTERVAL, TIMEOUT, ms(0));
            wheel.grow(chunks);
            Tried(wheel)
        }

        /// Places to ping and to judge.
        fn turn(&mut self, now_ms: u64) -> (Vec<u32>, Vec<u32>) {
            let turn = self.0.turn(ms(now_ms));
            let (mut ping, mut judge) = (Vec::new(), Vec::new());
            self.0.to_ping(turn, &mut ping);
            self.0.to_check(turn, &mut judge);
            let indexes =
                |groups: Vec<u32>| groups.into_iter().flat_map(|group| group..group + GROUP);
            (indexes(ping).collect(), indexes(judge).collect())
        }
    }

    #[test]
    fn each_place_is_pinged_once_an_interval_and_judged_the_timeout_later() {
        let chunks = 3;
        let mut wheel = Tried::new(chunks);
        let indexes = (chunks * CHUNK) as usize;
        let (mut pinged, mut judged) = (vec![Vec::new(); indexes], vec![Vec::new(); indexes]);
        let mut random = fastrand::Rng::with_seed(7);
        let mut now = 0;
        while now < 100_000 {
            now += random.u64(1..40);
            let (ping, judge) = wheel.turn(now);
            for index in ping {
                pinged[index as usize].push(now);
            }
            for index in judge {
                judged[index as usize].push(now);
            }
        }
        for (pinged, judged) in pinged.iter().zip(&judged) {
            assert!(pinged.len() >= 3);
            for pair in pinged.windows(2) {
                assert!((24_960..=25_040).contains(&(pair[1] - pair[0])), "{pair:?}");
            }
            let after = pinged[0] + 20_000;
            assert!(
                judged.iter().any(|&at| at.abs_diff(after) <= 40),
                "{pinged:?} {judged:?}"
            );
        }
    }

    #[test]
    fn pings_are_even() {
        for chunks in [1, 2, 7, 40] {
            let mut wheel = Tried::new(chunks);
            let tenths = (1..=250u64).map(|n| wheel.turn(n * 100).0.len());
            let even = f64::from(chunks * CHUNK) / 250.0;
            for count in tenths {
                let off = (count as f64 - even).abs();
                assert!(
                    off <= f64::from((chunks / 8 + 2) * GROUP),
                    "{chunks} chunks: {count} against {even}"
                );
            }
        }
    }

    #[test]
    fn a_few_groups_are_spread_over_the_round() {
        let mut wheel = Tried::new(1);
        let mut at = Vec::new();
        for n in 1..=2500 {
            let (ping, _) = wheel.turn(n * 10);
            let firsts = ping.iter().filter(|&&index| index % GROUP == 0);
            at.extend(firsts.filter(|&&index| index < 8 * GROUP).map(|_| n * 10));
        }
        at.sort_unstable();
        assert_eq!(at.len(), 8);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] > 2500), "{at:?}");
    }

    #[test]
    fn a_table_that_grows_moves_no_one() {
        let mut wheel = Tried::new(1);
        let mut at = Vec::new();
        for n in 1..=5000u64 {
            wheel.0.grow(1 + n as u32 / 50);
            if wheel.turn(n * 10).0.contains(&5) {
                at.push(n * 10);
            }
        }
        assert_eq!(at.len(), 2);
        assert!((24_980..=25_020).contains(&(at[1] - at[0])), "{at:?}");
    }

    #[test]
    fn a_stall_makes_no_burst_and_a_clock_that_goes_back_does_nothing() {
        let mut wheel = Tried::new(10);
        wheel.turn(1000);
        let burst = wheel.turn(3_600_000).0.len();
        let even = 10.0 * f64::from(CHUNK) * WHEEL_CATCH_UP.as_secs_f64() / INTERVAL.as_secs_f64();
        assert!((burst as f64) <= even + f64::from(10 * GROUP), "{burst}");
        assert_eq!(wheel.turn(5).0.len(), 0);
        assert!(wheel.turn(3_600_100).0.len() <= 50 + 4 * GROUP as usize);
    }
}
