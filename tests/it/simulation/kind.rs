//! What may happen in a run, and how often.

use std::time::Duration;

use presenced_presence::limits::REFILL_RATE;
use presenced_testkit::simulation::LINK_DELAY;

use super::faults::Fault;
use super::run::USERS;

/// One in so many steps ends one, or begins another at the same time.
const STEPS_TO_END: u32 = 20;

/// The same where faults are long.
const STEPS_TO_END_LONG: u32 = 120;

/// The same where writes are held: the entries of devices that answer at once end after half a minute at the
/// earliest, and a marker that was renewed is whole again after a TTL and a flush interval.
const STEPS_TO_LET_ON: u32 = 160;

/// Memory of a node that is filled by others: room for some 50 of their items.
const SMALL_NODE_BYTES: usize = 64 * 1024;

/// Memory of a node otherwise: nothing is evicted.
const NODE_BYTES: usize = 64 * 1024 * 1024;

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind<'a> {
    pub(super) faults: &'a [Fault],
    /// Faults at the same time, at most.
    pub(super) at_once: usize,
    /// Nobody comes or goes while there is a fault: a user who waits would by itself make an edge late.
    pub(super) is_calm: bool,
    /// Faults last for a minute rather than for ten seconds: entries end meanwhile, and markers become whole.
    pub(super) are_long: bool,
    /// The last edge has no users, and only asks.
    pub(super) has_observer: bool,
    /// Users whom an edge writes again in a second.
    pub(super) refill_rate: u32,
    /// How long bytes take from an edge to a node, if nothing else is wrong.
    pub(super) link_delay: Duration,
}

impl Kind<'_> {
    /// One fault at a time.
    pub(super) fn of(faults: &[Fault]) -> Kind<'_> {
        Kind {
            faults,
            at_once: 1,
            is_calm: false,
            are_long: false,
            has_observer: false,
            refill_rate: REFILL_RATE,
            link_delay: LINK_DELAY,
        }
    }

    /// Two at a time.
    pub(super) fn two_of(faults: &[Fault]) -> Kind<'_> {
        Kind {
            at_once: 2,
            ..Kind::of(faults)
        }
    }

    /// As [`Kind::are_long`].
    pub(super) fn long(self) -> Self {
        Kind {
            are_long: true,
            ..self
        }
    }

    pub(super) fn node_bytes(&self) -> usize {
        match self.faults.contains(&Fault::Evict) {
            true => SMALL_NODE_BYTES,
            false => NODE_BYTES,
        }
    }

    /// How long it takes to write all users again.
    pub(super) fn refill_time(&self) -> Duration {
        Duration::from_secs(1) * USERS as u32 / self.refill_rate
    }

    /// One in so many steps ends a fault, or begins another.
    pub(super) fn steps_to_end(&self, fault: Fault) -> u32 {
        match fault {
            Fault::HoldWrites => STEPS_TO_LET_ON,
            _ if self.are_long => STEPS_TO_END_LONG,
            _ => STEPS_TO_END,
        }
    }
}
