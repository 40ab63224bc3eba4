//! How far an HTTP connection has come, and by when it must have come further.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use super::places::Standing;
use crate::limits::{AWAITED_MIN, HANDSHAKE_TIMEOUT, PARTING_TIME};

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a request has come.
    Idle,
    /// The head of a request is coming.
    Head,
    /// The body of a request is coming.
    Body,
    /// A request is being answered.
    Request,
    /// The answer is being written.
    Answer,
}

impl Phase {
    /// What the connection waits for.
    pub fn standing(self) -> Standing {
        match self {
            Phase::Idle => Standing::Idle,
            Phase::Head | Phase::Body | Phase::Answer => Standing::Awaited,
            Phase::Request => Standing::Served,
        }
    }
}

/// What has happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes have come.
    Read,
    /// A head is there.
    Request {
        /// Whether a body comes behind it.
        has_body: bool,
    },
    /// The body is there, or nothing more of it will come.
    Body,
    /// The answer is known.
    Answered,
    /// All that was to be written is written, and the next request is waited for.
    Written,
}

/// How far a connection has come. Times are those of a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    phase: Phase,
    began: Duration,
    deadline: Duration,
    keep_alive: Duration,
    is_leaving: bool,
    has_changed: bool,
    /// When an idle connection that has begun a record must have ended it.
    record_deadline: Option<Duration>,
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
            began: now,
            deadline: now + HANDSHAKE_TIMEOUT,
            keep_alive,
            is_leaving: false,
            has_changed: false,
            record_deadline: None,
        }
    }

    /// What it is at.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when it is at that.
    pub fn began(&self) -> Duration {
        self.began
    }

    /// When it must be further.
    pub fn deadline(&self) -> Duration {
        let record = self.record_deadline;
        record.map_or(self.deadline, |record| record.min(self.deadline))
    }

    /// Whether a record of TLS has come in part, which takes memory. Anyone may be idle for long, but a record that is begun
    /// has the time of a head.
    pub fn set_begun_record(&mut self, is_begun: bool, now: Duration) {
        let counts = is_begun && self.phase == Phase::Idle;
        let deadline = self.record_deadline.unwrap_or(now + HANDSHAKE_TIMEOUT);
        self.record_deadline = counts.then_some(deadline);
    }

    /// Takes note of `event`.
    pub fn note(&mut self, event: Event, now: Duration) {
        let (phase, time) = match (self.phase, event) {
            (Phase::Idle, Event::Read) => (Phase::Head, HANDSHAKE_TIMEOUT),
            (_, Event::Request { has_body: true }) => (Phase::Body, HANDSHAKE_TIMEOUT),
            (_, Event::Request { has_body: false }) => (Phase::Request, HANDSHAKE_TIMEOUT),
            // The time until the answer goes on.
            (Phase::Body, Event::Body) => (Phase::Request, self.deadline.saturating_sub(now)),
            (_, Event::Answered) => (Phase::Answer, HANDSHAKE_TIMEOUT),
            (Phase::Answer, Event::Written) => (Phase::Idle, self.keep_alive),
            // More bytes of a head or body bring no more time.
            (_, Event::Read | Event::Body | Event::Written) => return,
        };
        self.phase = phase;
        self.began = now;
        self.deadline = now + time;
        self.record_deadline = None;
        self.has_changed = true;
        if self.is_leaving {
            self.hurry(now);
        }
    }

    /// Whether the phase has changed, or begun anew, since this was asked last.
    pub fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The connection has to leave: what it waits for from its peer has little time left, and none if it has
    /// waited for long.
    pub fn leave(&mut self, now: Duration) {
        self.is_leaving = true;
        self.hurry(now);
    }

    fn hurry(&mut self, now: Duration) {
        if self.phase.standing() == Standing::Awaited {
            let has_waited = now.saturating_sub(self.began) >= AWAITED_MIN;
            let left = if has_waited {
                Duration::ZERO
            } else {
                PARTING_TIME
            };
            self.deadline = self.deadline.min(now + left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);
    const BODILESS: Event = Event::Request { has_body: false };

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    impl Progress {
        /// What it is at, and by when it must be further.
        fn state(&self) -> (Phase, Duration) {
            (self.phase, self.deadline)
        }

        /// Whether `event` changed anything.
        fn noted(&mut self, event: Event, now: Duration) -> bool {
            self.note(event, now);
            self.has_changed()
        }
    }

    #[test]
    fn each_head_has_its_time_from_its_first_byte() {
        let mut progress = Progress::new(second(100), false, KEEP_ALIVE);
        assert_eq!(progress.state(), (Phase::Idle, second(110)));
        for began in [105, 205] {
            assert!(progress.noted(Event::Read, second(began)));
            for later in 1..9 {
                assert!(!progress.noted(Event::Read, second(began + later)));
                assert!(!progress.noted(Event::Written, second(began + later)));
                assert_eq!(progress.state(), (Phase::Head, second(began + 10)));
            }
            let at = second(began + 9);
            assert!(progress.noted(BODILESS, at));
            assert_eq!(progress.state(), (Phase::Request, at + second(10)));
            assert!(progress.noted(Event::Answered, at + second(6)));
            assert!(!progress.noted(Event::Read, at + second(7)), "of the next");
            assert_eq!(progress.state(), (Phase::Answer, at + second(16)));
            assert!(progress.noted(Event::Written, at + second(7)));
            let idle = (Phase::Idle, at + second(7) + KEEP_ALIVE);
            assert_eq!(progress.state(), idle);
        }
    }

    #[test]
    fn an_idle_connection_may_not_stay_for_long_within_a_record() {
        let mut progress = Progress::new(second(0), true, KEEP_ALIVE);
        progress.note(BODILESS, second(1));
        progress.note(Event::Answered, second(2));
        // Of the next request, while this one is answered: it counts from the end of that.
        progress.set_begun_record(true, second(3));
        assert_eq!(progress.deadline(), second(12));
        progress.note(Event::Written, second(4));
        let idle = second(4) + KEEP_ALIVE;
        assert_eq!(progress.deadline(), idle);
        // More bytes of it bring no more time, and its end takes none.
        for at in 5..9 {
            progress.set_begun_record(true, second(at));
            assert_eq!(progress.deadline(), second(15));
        }
        progress.set_begun_record(false, second(9));
        assert_eq!(progress.deadline(), idle);
        progress.set_begun_record(true, idle - second(1));
        assert_eq!(progress.deadline(), idle);
        // A request in it has its own time.
        progress.note(Event::Read, idle - second(1));
        assert_eq!(progress.state(), (Phase::Head, idle + second(9)));
        assert_eq!(progress.deadline(), idle + second(9));
    }

    #[test]
    fn a_body_is_awaited_within_the_time_of_the_request() {
        let mut progress = Progress::new(second(0), true, KEEP_ALIVE);
        let request = Event::Request { has_body: true };
        assert!(progress.noted(request, second(1)));
        assert_eq!(progress.state(), (Phase::Body, second(11)));
        assert_eq!(progress.phase().standing(), Standing::Awaited);
        assert!(!progress.noted(Event::Read, second(8)));
        assert!(progress.noted(Event::Body, second(9)));
        assert_eq!(progress.state(), (Phase::Request, second(11)));
        assert_eq!(progress.phase().standing(), Standing::Served);
        assert!(!progress.noted(Event::Body, second(10)), "once more");
    }

    #[test]
    fn a_request_that_is_there_whole_begins_anew_what_follows_it() {
        let mut progress = Progress::new(second(0), true, KEEP_ALIVE);
        assert_eq!(progress.phase(), Phase::Head);
        for at in [0, 1] {
            for event in [BODILESS, Event::Answered, Event::Written] {
                progress.note(event, second(at));
            }
            assert!(progress.has_changed());
            assert_eq!(progress.state(), (Phase::Idle, second(at) + KEEP_ALIVE));
        }
        // Two at once.
        assert!(progress.noted(BODILESS, second(2)));
        assert!(progress.noted(Event::Answered, second(2)));
        assert!(progress.noted(BODILESS, second(2)));
    }

    #[test]
    fn one_that_has_to_leave_waits_no_longer_than_a_moment() {
        let mut slow = Progress::new(second(0), true, KEEP_ALIVE);
        slow.leave(AWAITED_MIN);
        assert_eq!(slow.deadline(), AWAITED_MIN);

        let mut idle = Progress::new(second(0), false, KEEP_ALIVE);
        idle.leave(second(5));
        // Its request was on the way.
        idle.note(Event::Read, second(5));
        assert_eq!(idle.state(), (Phase::Head, second(5) + PARTING_TIME));
        idle.note(BODILESS, second(5));
        assert_eq!(idle.state(), (Phase::Request, second(15)), "it is served");
        idle.note(Event::Answered, second(14));
        assert_eq!(idle.state(), (Phase::Answer, second(14) + PARTING_TIME));
    }
}
