//! How often settings were read again, and what came of it.

use std::sync::atomic::{AtomicBool, Ordering};

use presenced_session::metrics::Counter;

/// How reloads have ended.
#[derive(Debug, Default)]
pub struct Reloads {
    counts: [Counter; Outcome::ALL.len()],
    is_stale: AtomicBool,
}

/// How a reload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something has changed.
    Ok,
    /// The settings are wrong, and nothing has changed.
    Refused,
    /// The settings are what they were.
    Unchanged,
}

impl Outcome {
    /// All, in their order.
    pub const ALL: [Outcome; 3] = [Outcome::Ok, Outcome::Refused, Outcome::Unchanged];

    /// What metrics call it.
    pub const fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Refused => "refused",
            Outcome::Unchanged => "unchanged",
        }
    }
}

impl Reloads {
    /// One more has ended so.
    pub fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].add(1);
        self.is_stale
            .store(outcome == Outcome::Refused, Ordering::Relaxed);
    }

    /// How many have ended in each way: its label, and the number.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let labels = Outcome::ALL.iter().map(|outcome| outcome.label());
        labels.zip(self.counts.iter().map(Counter::value))
    }

    /// Whether the last one was refused: the server runs with other settings than its files have.
    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }
}
