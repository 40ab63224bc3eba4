//! How long a node that was ejected stays off the ring.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::limits::{READMIT_AFTER_MAX, READMIT_AFTER_MIN};

/// The time that an ejected node must answer before it is back on the ring.
///
/// It doubles with each ejection, so that a node that comes and goes does not move its users each
/// time, and is the shortest again for a node that has stayed on the ring for
/// [`READMIT_AFTER_MAX`].
#[derive(Debug)]
pub(super) struct HoldDown {
    time: Duration,
}

impl Default for HoldDown {
    fn default() -> HoldDown {
        HoldDown {
            time: READMIT_AFTER_MIN,
        }
    }
}

impl HoldDown {
    /// How long the node must answer now.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// It was ejected after it had been back on the ring for `held`.
    pub(super) fn ejected_again(&mut self, held: Duration) {
        self.time = match held >= READMIT_AFTER_MAX {
            true => READMIT_AFTER_MIN,
            false => (self.time * 2).min(READMIT_AFTER_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_a_node_comes_and_goes_and_is_short_again_when_it_has_stayed() {
        let mut hold_down = HoldDown::default();
        let mut off_the_ring = Duration::ZERO;
        for ejections in 0..8 {
            off_the_ring += hold_down.time();
            assert!(hold_down.time() <= READMIT_AFTER_MAX);
            assert!(
                hold_down.time() >= (READMIT_AFTER_MIN * (1 << ejections)).min(READMIT_AFTER_MAX)
            );
            hold_down.ejected_again(Duration::from_secs(1));
        }
        assert!(
            off_the_ring > Duration::from_secs(180),
            "eight ejections take minutes"
        );
        hold_down.ejected_again(READMIT_AFTER_MAX);
        assert_eq!(hold_down.time(), READMIT_AFTER_MIN);
    }
}
