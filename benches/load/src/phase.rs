//! The phases of a run, which all its processes go through together.

use std::io;
use std::time::Duration;

use crate::client::{Client, Watch};
use crate::counts::Counts;
use crate::flags::Flags;

/// A phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connect,
    Settle,
    Measure,
    Burst,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Connect, Phase::Settle, Phase::Measure, Phase::Burst];

    /// The command for the processes of a fleet.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Settle => "settle",
            Phase::Measure => "measure",
            Phase::Burst => "burst",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// How long the phase lasts; `None` for as long as it takes.
    pub(crate) fn time(self, flags: &Flags) -> Option<Duration> {
        match self {
            Phase::Connect | Phase::Burst => None,
            Phase::Settle => Some(flags.settle),
            Phase::Measure => Some(flags.duration),
        }
    }

    /// Runs the phase in this process.
    pub(crate) fn run(
        self,
        client: &mut Client,
        flags: &Flags,
        watch: Watch<'_>,
    ) -> io::Result<Counts> {
        match self {
            Phase::Connect => client.connect(watch),
            Phase::Burst => client.burst(watch),
            Phase::Settle => client.run(flags.settle, watch),
            Phase::Measure => client.run(flags.duration, watch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_names() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
        }
        assert_eq!(Phase::from_name("dance"), None);
    }
}
