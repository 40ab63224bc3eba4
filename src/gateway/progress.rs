//! How far an HTTP connection has come, and by when it must have come further.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::HANDSHAKE_TIMEOUT;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a request has come.
    Idle,
    /// The head of a request is coming.
    Head,
    /// A request is being answered; its body may be coming.
    Request,
    /// The answer is being written.
    Answer,
}

/// What has happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes have come.
    Read,
    /// A head is there.
    Request,
    /// The answer is known.
    Answered,
    /// All that was to be written is written, and the next request is waited for.
    Written,
}

/// How far a connection has come. Times are those of a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    phase: Phase,
    deadline: Duration,
    keep_alive: Duration,
}

impl Progress {
    /// A new connection, which has sent something already or not. `keep_alive` is how long it may be idle
    /// after an answer.
    pub fn new(now: Duration, has_sent: bool, keep_alive: Duration) -> Progress {
        Progress {
            phase: match has_sent {
                true => Phase::Head,
                false => Phase::Idle,
            },
            deadline: now + HANDSHAKE_TIMEOUT,
            keep_alive,
        }
    }

    /// What it is at.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it must be further.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Takes note of `event`; true if the connection has begun to be idle, or has ended to be.
    pub fn note(&mut self, event: Event, now: Duration) -> bool {
        let (phase, time) = match (self.phase, event) {
            (Phase::Idle, Event::Read) => (Phase::Head, HANDSHAKE_TIMEOUT),
            (_, Event::Request) => (Phase::Request, HANDSHAKE_TIMEOUT),
            (_, Event::Answered) => (Phase::Answer, HANDSHAKE_TIMEOUT),
            (Phase::Answer, Event::Written) => (Phase::Idle, self.keep_alive),
            // More bytes of a head or body bring no more time.
            (_, Event::Read | Event::Written) => return false,
        };
        let was_idle = self.phase == Phase::Idle;
        self.phase = phase;
        self.deadline = now + time;
        was_idle != (phase == Phase::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn each_head_has_its_time_from_its_first_byte() {
        let mut progress = Progress::new(second(100), false, KEEP_ALIVE);
        assert_eq!(
            (progress.phase(), progress.deadline()),
            (Phase::Idle, second(110))
        );
        for began in [105, 205] {
            assert!(progress.note(Event::Read, second(began)));
            for later in 1..9 {
                assert!(!progress.note(Event::Read, second(began + later)));
                assert!(!progress.note(Event::Written, second(began + later)));
                assert_eq!(
                    (progress.phase(), progress.deadline()),
                    (Phase::Head, second(began + 10))
                );
            }
            let at = second(began + 9);
            assert!(!progress.note(Event::Request, at));
            assert!(!progress.note(Event::Read, at + second(5)), "of a body");
            assert_eq!(
                (progress.phase(), progress.deadline()),
                (Phase::Request, at + second(10))
            );
            assert!(!progress.note(Event::Answered, at + second(6)));
            assert!(
                !progress.note(Event::Read, at + second(7)),
                "of the next request"
            );
            assert_eq!(
                (progress.phase(), progress.deadline()),
                (Phase::Answer, at + second(16))
            );
            assert!(progress.note(Event::Written, at + second(7)));
            assert_eq!(
                (progress.phase(), progress.deadline()),
                (Phase::Idle, at + second(7) + KEEP_ALIVE)
            );
        }
    }

    #[test]
    fn a_whole_request_is_no_idle_time() {
        let mut progress = Progress::new(second(0), true, KEEP_ALIVE);
        assert_eq!(progress.phase(), Phase::Head);
        assert!(!progress.note(Event::Request, second(0)));
        assert!(!progress.note(Event::Answered, second(0)));
        assert!(progress.note(Event::Written, second(0)));
        // A request that is there whole when it is read for.
        assert!(progress.note(Event::Request, second(1)));
        // Two at once.
        assert!(!progress.note(Event::Answered, second(1)));
        assert!(!progress.note(Event::Request, second(1)));
    }
}
