//! The pings that one session sends, to measure how fast they are answered.

use std::collections::VecDeque;
use std::time::Instant;

/// Pings of ours that wait for their answer in a session; an older one is given up.
const PROBES_MAX: usize = 64;

/// Pings of ours in one session.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    sent: VecDeque<(u32, Instant)>,
    next: u32,
}

impl Probes {
    /// Gives up all that wait.
    pub(crate) fn clear(&mut self) {
        self.sent.clear();
    }

    /// Notes a ping that is sent now, and returns its number.
    pub(crate) fn send(&mut self, now: Instant) -> u32 {
        let id = self.next;
        self.next = id.wrapping_add(1);
        if self.sent.len() == PROBES_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((id, now));
        id
    }

    /// When that one was sent, the first time it is answered. Earlier ones may be left out by the
    /// server (RFC 6455 §5.5.3), and are given up.
    pub(crate) fn answered(&mut self, id: u32) -> Option<Instant> {
        let place = self.sent.iter().position(|(sent, _)| *sent == id)?;
        self.sent.drain(..=place).next_back().map(|(_, at)| at)
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
