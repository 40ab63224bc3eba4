//! [`AcceptPause`]: when accepting rests after an error, and when trouble begins and is over.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::limits::{ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, ACCEPT_RECOVERY};

/// Whether the error is of the connection that was to be accepted, which is gone: nothing is wrong
/// with the listener.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// How accepting on one listener goes.
///
/// Pauses double while there is trouble. It is over only when accepting has worked for
/// [`ACCEPT_RECOVERY`]: at the limit on open files, each connection that ends lets one in.
#[derive(Debug, Default)]
pub(crate) enum AcceptPause {
    #[default]
    Working,
    Failing {
        next_pause: Duration,
    },
    Recovering {
        next_pause: Duration,
        over_at: Instant,
    },
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) pause: Duration,
    /// Trouble begins: it is to be logged.
    pub(crate) is_first: bool,
}

impl AcceptPause {
    pub(crate) fn failed(&mut self) -> Failure {
        let (pause, is_first) = match *self {
            AcceptPause::Working => (ACCEPT_PAUSE_MIN, true),
            AcceptPause::Failing { next_pause } | AcceptPause::Recovering { next_pause, .. } => {
                (next_pause, false)
            }
        };
        let next_pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
        *self = AcceptPause::Failing { next_pause };
        Failure { pause, is_first }
    }

    pub(crate) fn accepted(&mut self, now: Instant) {
        if let AcceptPause::Failing { next_pause } = *self {
            *self = AcceptPause::Recovering {
                next_pause,
                over_at: now + ACCEPT_RECOVERY,
            };
        }
    }

    /// When trouble is over, unless accepting fails again before.
    pub(crate) fn over_at(&self) -> Option<Instant> {
        match *self {
            AcceptPause::Recovering { over_at, .. } => Some(over_at),
            _ => None,
        }
    }

    /// Whether trouble ends now, which is to be logged.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        let ends = self.over_at().is_some_and(|at| at <= now);
        if ends {
            *self = AcceptPause::Working;
        }
        ends
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "time is counted from some instant"
)]
mod tests {
    use super::*;

    fn failure(pause_ms: u64, is_first: bool) -> Failure {
        let pause = Duration::from_millis(pause_ms);
        Failure { pause, is_first }
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_only_the_first_error_is_told() {
        let mut pause = AcceptPause::default();
        assert_eq!(pause.failed(), failure(10, true));
        for pause_ms in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert_eq!(pause.failed(), failure(pause_ms, false));
        }
        assert_eq!(pause.over_at(), None);
    }

    #[test]
    fn trouble_is_over_when_accepting_has_worked_for_a_while() {
        let mut pause = AcceptPause::default();
        let start = Instant::now();
        pause.failed();
        assert!(!pause.ends(start + ACCEPT_RECOVERY * 9), "still failing");
        pause.accepted(start);
        pause.accepted(start + ACCEPT_RECOVERY / 2);
        let over_at = start + ACCEPT_RECOVERY;
        assert_eq!(pause.over_at(), Some(over_at), "from the first one");
        assert!(!pause.ends(over_at - Duration::from_nanos(1)));
        assert!(pause.ends(over_at));
        assert!(!pause.ends(over_at), "that is told once");
        assert_eq!(pause.failed(), failure(10, true));
    }

    /// At the limit on open files, where each connection that ends lets one in.
    #[test]
    fn connections_between_errors_are_no_end_of_trouble() {
        let mut pause = AcceptPause::default();
        let mut now = Instant::now();
        assert_eq!(pause.failed(), failure(10, true));
        for pause_ms in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            pause.accepted(now);
            now += ACCEPT_RECOVERY / 2;
            assert!(!pause.ends(now));
            assert_eq!(pause.failed(), failure(pause_ms, false));
        }
    }
}
