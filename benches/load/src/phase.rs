//! The phases of a run, which all its processes go through in step.

use std::io;
use std::time::Duration;

use crate::client::{Client, Watch};
use crate::counts::Counts;
use crate::flags::Flags;

/// What sessions do in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connect,
    Settle,
    Measure,
}

impl Phase {
    const ALL: [Phase; 3] = [Phase::Connect, Phase::Settle, Phase::Measure];

    /// As a process of a fleet is told.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Settle => "settle",
            Phase::Measure => "measure",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.word() == word)
    }

    /// Nothing for as long as it takes.
    pub(crate) fn time(self, flags: &Flags) -> Option<Duration> {
        match self {
            Phase::Connect => None,
            Phase::Settle => Some(flags.settle),
            Phase::Measure => Some(flags.duration),
        }
    }

    /// Lets the sessions of this process do it.
    pub(crate) fn run(
        self,
        client: &mut Client,
        flags: &Flags,
        watch: Watch<'_>,
    ) -> io::Result<Counts> {
        match self.time(flags) {
            None => client.connect(watch),
            Some(time) => client.run(time, watch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_by_a_word() {
        for phase in Phase::ALL {
            assert_eq!(Phase::of_word(phase.word()), Some(phase));
        }
        assert_eq!(Phase::of_word("dance"), None);
    }
}
