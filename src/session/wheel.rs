//! The ping wheel: whose turn it is, without a timer a session and without a list.
//!
//! A session's place in the table is its place on the wheel. Two hands go round once in a ping
//! interval: the first pings; the second, the ping timeout behind, judges. A place of a chunk has
//! its moment in the round, and chunks are set off against each other, so that N sessions on an
//! interval of 25 s are N/25 pings a second, evenly, and a growing table moves no one's moment.
//!
//! The wheel has a time of its own, which never jumps: after a stall it goes on from where it was,
//! at most [`WHEEL_CATCH_UP`] in one turn, so that a machine that slept sends no burst of pings and
//! judges no one before their time.

use std::ops::Range;
use std::time::Duration;

use crate::limits::WHEEL_CATCH_UP;

/// Places of the table that share one offset on the wheel.
pub const CHUNK: u32 = 1024;

/// See the module's page.
#[derive(Debug)]
pub struct Wheel {
    interval_us: u64,
    timeout_us: u64,
    /// The wheel's own time.
    time_us: u64,
    last: Duration,
}

/// What has come under the hands in one turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    interval_us: u64,
    timeout_us: u64,
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
        }
    }

    /// Moves the hands on to `now`.
    pub fn turn(&mut self, now: Duration) -> Turn {
        let passed = now.saturating_sub(self.last).min(WHEEL_CATCH_UP);
        self.last = self.last.max(now);
        let from_us = self.time_us;
        self.time_us += passed.as_micros() as u64;
        Turn {
            interval_us: self.interval_us,
            timeout_us: self.timeout_us,
            from_us,
            to_us: self.time_us,
        }
    }
}

impl Turn {
    /// Places in a table of `chunks` chunks that are to be pinged.
    pub fn to_ping(self, chunks: u32) -> impl Iterator<Item = u32> {
        self.places(chunks, 0)
    }

    /// Places that were pinged the timeout ago and are to be judged.
    pub fn to_judge(self, chunks: u32) -> impl Iterator<Item = u32> {
        self.places(chunks, self.timeout_us)
    }

    fn places(self, chunks: u32, behind_us: u64) -> impl Iterator<Item = u32> {
        (0..chunks).flat_map(move |chunk| {
            self.steps(chunk, behind_us)
                .map(move |step| chunk * CHUNK + in_chunk(step))
        })
    }

    /// The chunk's moments that this turn has passed.
    fn steps(self, chunk: u32, behind_us: u64) -> Range<u64> {
        // The golden ratio sets any number of chunks off evenly.
        let offset_us =
            (f64::from(chunk) * 0.618_033_988_749_895).fract() * self.interval_us as f64;
        let step_at = |time_us: u64| {
            let time_us = time_us - behind_us + offset_us as u64;
            // Fits 64 bits for 500 years.
            time_us * u64::from(CHUNK) / self.interval_us
        };
        step_at(self.from_us)..step_at(self.to_us)
    }
}

/// The place of a chunk whose turn `step` is. Places fill up from 0; the reversed bits spread a
/// chunk's first sessions over the round.
pub(super) fn in_chunk(step: u64) -> u32 {
    ((step % u64::from(CHUNK)) as u32).reverse_bits() >> (32 - CHUNK.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_place_is_pinged_once_an_interval_and_judged_the_timeout_later() {
        let chunks = 3;
        let mut wheel = Wheel::new(INTERVAL, TIMEOUT, ms(0));
        let places = (chunks * CHUNK) as usize;
        let (mut pinged, mut judged) = (vec![Vec::new(); places], vec![Vec::new(); places]);
        let mut random = fastrand::Rng::with_seed(7);
        let mut now = 0;
        while now < 100_000 {
            now += random.u64(1..40);
            let turn = wheel.turn(ms(now));
            turn.to_ping(chunks)
                .for_each(|place| pinged[place as usize].push(now));
            turn.to_judge(chunks)
                .for_each(|place| judged[place as usize].push(now));
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
            let mut wheel = Wheel::new(INTERVAL, TIMEOUT, ms(0));
            let tenths = (1..=250u64).map(|n| wheel.turn(ms(n * 100)).to_ping(chunks).count());
            let even = f64::from(chunks * CHUNK) / 250.0;
            for count in tenths {
                let off = (count as f64 - even).abs();
                assert!(
                    off <= f64::from(chunks) + 1.0,
                    "{chunks} chunks: {count} against {even}"
                );
            }
        }
    }

    #[test]
    fn a_few_sessions_are_spread_over_the_round() {
        let mut wheel = Wheel::new(INTERVAL, TIMEOUT, ms(0));
        let mut at = Vec::new();
        for n in 1..=2500 {
            let turn = wheel.turn(ms(n * 10));
            at.extend(turn.to_ping(1).filter(|&place| place < 8).map(|_| n * 10));
        }
        at.sort_unstable();
        assert_eq!(at.len(), 8);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] > 2500), "{at:?}");
    }

    #[test]
    fn a_table_that_grows_moves_no_one() {
        let mut wheel = Wheel::new(INTERVAL, TIMEOUT, ms(0));
        let mut at = Vec::new();
        for n in 1..=5000u64 {
            let chunks = 1 + n as u32 / 50;
            if wheel
                .turn(ms(n * 10))
                .to_ping(chunks)
                .any(|place| place == 5)
            {
                at.push(n * 10);
            }
        }
        assert_eq!(at.len(), 2);
        assert!((24_980..=25_020).contains(&(at[1] - at[0])), "{at:?}");
    }

    #[test]
    fn a_stall_makes_no_burst_and_a_clock_that_goes_back_does_nothing() {
        let mut wheel = Wheel::new(INTERVAL, TIMEOUT, ms(0));
        wheel.turn(ms(1000));
        let burst = wheel.turn(ms(3_600_000)).to_ping(10).count();
        let even = 10.0 * f64::from(CHUNK) * WHEEL_CATCH_UP.as_secs_f64() / INTERVAL.as_secs_f64();
        assert!((burst as f64) <= even + 10.0, "{burst}");
        assert_eq!(wheel.turn(ms(5)).to_ping(10).count(), 0);
        assert!(wheel.turn(ms(3_600_100)).to_ping(10).count() <= 50);
    }
}
