//! How much a session may send: a token bucket in four bytes (the generic cell rate algorithm:
//! what is kept is the time at which the bucket will be full again).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::{DEAR_TIME_MAX, FRAMES_BURST_TIME, PING_INTERVAL_MAX};

// An old time is told from one ahead by being more than a burst ahead, in 32 bits of µs (71
// minutes); each ping of the wheel renews it.
const _: () =
    assert!(PING_INTERVAL_MAX.as_micros() + 2 * FRAMES_BURST_TIME.as_micros() < u32::MAX as u128);

/// The rate of all sessions.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Time in which one frame's worth flows back, µs.
    cost_us: u32,
}

impl Rate {
    /// So many frames a second on average; ten seconds' worth at once.
    pub fn per_second(frames: u32) -> Rate {
        Rate {
            cost_us: 1_000_000 / frames.max(1),
        }
    }
}

/// One session's bucket; full at first, if it is made with the time of its making.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    full_at_us: u32,
}

impl TokenBucket {
    /// A full bucket. `now_us` is the low 32 bits of a monotonic time in µs, here and below.
    pub fn full(now_us: u32) -> TokenBucket {
        TokenBucket { full_at_us: now_us }
    }

    /// Takes one frame's worth, if it is there.
    #[inline]
    pub fn take(&mut self, rate: Rate, now_us: u32) -> bool {
        self.take_us(rate.cost_us, now_us)
    }

    /// Takes what a message costs beside its own frames, in frames, if it is there.
    pub fn take_more(&mut self, rate: Rate, frames: u32, now_us: u32) -> bool {
        let cost_us = rate.cost_us.saturating_mul(frames);
        self.take_us(cost_us.min(DEAR_US_MAX), now_us)
    }

    #[inline]
    fn take_us(&mut self, cost_us: u32, now_us: u32) -> bool {
        let ahead_us = self.ahead_us(now_us) + cost_us;
        if ahead_us > BURST_US {
            return false;
        }
        self.full_at_us = now_us.wrapping_add(ahead_us);
        true
    }

    /// Keeps an old time from coming round again. Call it at least once an hour.
    #[inline]
    pub fn renew(&mut self, now_us: u32) {
        self.full_at_us = now_us.wrapping_add(self.ahead_us(now_us));
    }

    #[inline]
    fn ahead_us(self, now_us: u32) -> u32 {
        let ahead_us = self.full_at_us.wrapping_sub(now_us);
        if ahead_us > BURST_US { 0 } else { ahead_us }
    }
}

const BURST_US: u32 = FRAMES_BURST_TIME.as_micros() as u32;

const DEAR_US_MAX: u32 = DEAR_TIME_MAX.as_micros() as u32;

/// The low 32 bits of a time in µs.
#[inline]
pub fn us(time: Duration) -> u32 {
    time.as_micros() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::MALFORMED_FRAMES;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::per_second(20);
        let start = u32::MAX - 5_000_000; // comes round in between
        let mut bucket = TokenBucket::full(start);
        let burst = (0..).take_while(|_| bucket.take(rate, start)).count();
        assert_eq!(burst, 200);
        let mut passed = 0;
        for ms in 1..=10_000u32 {
            passed += u32::from(bucket.take(rate, start.wrapping_add(ms * 1000)));
        }
        assert_eq!(passed, 200, "20 a second for 10 s");
    }

    #[test]
    fn malformed_messages_cost_twenty_and_never_all_of_a_burst() {
        // Frames a second, and malformed messages at once.
        for (frames, at_once) in [(1000, 500), (20, 10), (2, 1), (1, 1)] {
            let rate = Rate::per_second(frames);
            let mut bucket = TokenBucket::full(0);
            let mut take = || bucket.take(rate, 0) && bucket.take_more(rate, MALFORMED_FRAMES, 0);
            assert_eq!((0..).take_while(|_| take()).count(), at_once, "{frames}");
        }
    }

    #[test]
    fn a_long_silence_fills_it_and_no_more() {
        let rate = Rate::per_second(1);
        let mut bucket = TokenBucket::full(0);
        while bucket.take(rate, 0) {}
        let mut now = 0u32;
        for _ in 0..5 {
            now = now.wrapping_add(PING_INTERVAL_MAX.as_micros() as u32);
            bucket.renew(now);
        }
        assert_eq!((0..).take_while(|_| bucket.take(rate, now)).count(), 10);
    }

    proptest! {
        /// Against the plain form of a token bucket, in real numbers.
        #[test]
        fn as_a_token_bucket(rate in 1..1000u32, waits in prop::collection::vec(0..3_000_000u32, 1..200)) {
            let mut bucket = TokenBucket::full(0);
            let cost_us = f64::from(1_000_000 / rate);
            let (mut now, mut level_us) = (0u32, f64::from(BURST_US));
            for wait in waits {
                now = now.wrapping_add(wait);
                level_us = (level_us + f64::from(wait)).min(f64::from(BURST_US));
                let passes = level_us >= cost_us;
                prop_assert_eq!(bucket.take(Rate::per_second(rate), now), passes);
                if passes {
                    level_us -= cost_us;
                }
            }
        }
    }
}
