//! When the server pings, and until when it must be answered.
//!
//! A worker that looks at all of its sessions in turn has no need of this: it may ping when it
//! comes by. What both must keep: nothing that a client sends starts a timer anew without end.

use std::time::Duration;

use crate::end::End;
use crate::limits::{PING_INTERVAL, PING_TIMEOUT};

/// How often, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the handshake or a pong to the next ping.
    pub interval: Duration,
    /// From a ping to the latest moment of its pong.
    pub timeout: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            interval: PING_INTERVAL,
            timeout: PING_TIMEOUT,
        }
    }
}

/// The heartbeat of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When something is due.
    at: Duration,
    owed: Owed,
}

/// Whether a pong is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    No,
    Yes,
    /// Another packet came, which gave the client the time-out once more.
    Prolonged,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Beat {
    /// Nothing yet.
    Nothing,
    /// A ping.
    Ping,
}

impl Heartbeat {
    /// Of a session that begins at `now`.
    pub fn new(now: Duration, timing: &Timing) -> Heartbeat {
        Heartbeat {
            at: now + timing.interval,
            owed: Owed::No,
        }
    }

    /// When [`Heartbeat::tick`] has something to do.
    pub fn deadline(&self) -> Duration {
        self.at
    }

    /// Looks at the clock.
    ///
    /// # Errors
    ///
    /// The pong has not come in time.
    pub fn tick(&mut self, now: Duration, timing: &Timing) -> Result<Beat, End> {
        if now < self.at {
            return Ok(Beat::Nothing);
        }
        match self.owed {
            Owed::No => {
                *self = Heartbeat {
                    at: now + timing.timeout,
                    owed: Owed::Yes,
                };
                Ok(Beat::Ping)
            }
            Owed::Yes | Owed::Prolonged => Err(End::PingTimeout),
        }
    }

    /// A pong has come. One that nobody has asked for changes nothing.
    pub fn pong(&mut self, now: Duration, timing: &Timing) {
        if self.owed != Owed::No {
            *self = Heartbeat::new(now, timing);
        }
    }

    /// Another packet has come: while a pong is owed, the first one starts the time-out anew, since
    /// timers of hidden tabs are late.
    pub fn heard(&mut self, now: Duration, timing: &Timing) {
        if self.owed == Owed::Yes {
            self.at = now + timing.timeout;
            self.owed = Owed::Prolonged;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        interval: Duration::from_secs(25),
        timeout: Duration::from_secs(20),
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_ping_an_interval_after_the_handshake_and_after_each_pong() {
        let mut heart = Heartbeat::new(s(100), &TIMING);
        assert_eq!(heart.tick(s(124), &TIMING), Ok(Beat::Nothing));
        assert_eq!(heart.deadline(), s(125));
        assert_eq!(heart.tick(s(125), &TIMING), Ok(Beat::Ping));
        assert_eq!(heart.tick(s(126), &TIMING), Ok(Beat::Nothing));
        heart.pong(s(127), &TIMING);
        assert_eq!(heart.deadline(), s(152));
        assert_eq!(heart.tick(s(152), &TIMING), Ok(Beat::Ping));
        assert_eq!(heart.tick(s(171), &TIMING), Ok(Beat::Nothing));
        assert_eq!(heart.tick(s(172), &TIMING), Err(End::PingTimeout));
    }

    /// netty-socketio #572: a flood of pongs, each of which started a timer.
    #[test]
    fn pongs_that_nobody_asked_for_change_nothing() {
        let mut heart = Heartbeat::new(s(0), &TIMING);
        for second in 0..25 {
            heart.pong(s(second), &TIMING);
            heart.heard(s(second), &TIMING);
        }
        assert_eq!(heart.deadline(), s(25));
    }

    /// socket.io #4040: pongs that are delayed by throttled timers.
    #[test]
    fn another_packet_prolongs_the_time_out_once() {
        let mut heart = Heartbeat::new(s(0), &TIMING);
        assert_eq!(heart.tick(s(25), &TIMING), Ok(Beat::Ping));
        heart.heard(s(44), &TIMING);
        assert_eq!(heart.deadline(), s(64));
        heart.heard(s(60), &TIMING);
        assert_eq!(heart.deadline(), s(64));
        assert_eq!(heart.tick(s(63), &TIMING), Ok(Beat::Nothing));
        let mut late = heart;
        assert_eq!(late.tick(s(64), &TIMING), Err(End::PingTimeout));
        heart.pong(s(63), &TIMING);
        assert_eq!(heart.deadline(), s(88));
    }
}
