//! The pings that one session sends to measure latency.

use std::collections::VecDeque;
use std::time::Instant;

/// Unanswered pings remembered in a session; beyond it the oldest is given up.
const PROBES_MAX: usize = 64;

/// Unanswered pings of one session.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    sent: VecDeque<(u32, Instant)>,
    next: u32,
}

impl Probes {
    /// Gives up all of them.
    pub(crate) fn clear(&mut self) {
        self.sent.clear();
    }

    /// Records a ping that is sent now, and returns its id.
    pub(crate) fn send(&mut self, now: Instant) -> u32 {
        let id = self.next;
        self.next = id.wrapping_add(1);
        if self.sent.len() == PROBES_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((id, now));
        id
    }

    /// When the ping was sent; `None` if it is unknown or was answered before. Gives up earlier
    /// ones, as a server may answer only the latest ping (RFC 6455 §5.5.3).
    pub(crate) fn answered(&mut self, id: u32) -> Option<Instant> {
        let index = self.sent.iter().position(|(sent, _)| *sent == id)?;
        self.sent.drain(..=index).next_back().map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_leave_out_answers_to_earlier_pings() {
        let mut probes = Probes::default();
        let now = Instant::now();
        assert_eq!([0, 1, 2].map(|_| probes.send(now)), [0, 1, 2]);
        assert_eq!(probes.answered(1), Some(now));
        assert_eq!(probes.answered(0), None);
        assert_eq!(probes.answered(2), Some(now));
        for _ in 0..1000 {
            probes.send(now);
        }
        assert_eq!(probes.sent.len(), PROBES_MAX);
    }
}
