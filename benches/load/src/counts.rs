//! What the sessions of one process count in one phase.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::Latency;

/// How often, by name.
pub(crate) type ByName = BTreeMap<String, u64>;

/// What the sessions of one process count in one phase.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Counts {
    /// How long the phase took.
    pub(crate) seconds: f64,
    /// Sessions that are open at its end.
    pub(crate) open: u64,
    /// Handshakes that succeeded.
    pub(crate) connected: u64,
    /// Handshakes that were refused, by HTTP status, or `connect_error` (Socket.IO).
    pub(crate) refused: ByName,
    /// Handshakes that failed otherwise, by kind.
    pub(crate) connect_errors: ByName,
    /// Sessions that the server ended, by close code; 1006 without a close frame.
    pub(crate) lost: ByName,
    /// Pings of the server.
    pub(crate) pings: u64,
    /// Answers to them.
    pub(crate) pongs: u64,
    /// Pings of ours; their answers are in `client_ping`.
    pub(crate) client_pings: u64,
    /// Pulls asked; their answers are in `pull`.
    pub(crate) pulls: u64,
    /// Pulls answered with an error.
    pub(crate) pull_errors: u64,
    /// Users in answers that were said to be online.
    pub(crate) pulled_online: u64,
    /// The same, unknown.
    pub(crate) pulled_unknown: u64,
    /// Sessions closed to be opened anew.
    pub(crate) churned: u64,
    /// Sessions that flood.
    pub(crate) flood: Flood,
    /// From `connect` to an open session.
    pub(crate) handshake: Latency,
    /// From a ping of ours to its answer.
    pub(crate) client_ping: Latency,
    /// From a pull to its answer.
    pub(crate) pull: Latency,
}

/// What the sessions that flood count.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Flood {
    /// Frames that the sockets have taken.
    pub(crate) frames: u64,
    /// Connections that the server ended, by close code, or 1006.
    pub(crate) closed: ByName,
    /// Connections opened anew.
    pub(crate) reconnects: u64,
}

impl Counts {
    /// Adds what another process has counted in the same phase.
    pub(crate) fn merge(&mut self, other: &Counts) {
        self.seconds = self.seconds.max(other.seconds);
        for (mine, others) in [
            (&mut self.open, other.open),
            (&mut self.connected, other.connected),
            (&mut self.pings, other.pings),
            (&mut self.pongs, other.pongs),
            (&mut self.client_pings, other.client_pings),
            (&mut self.pulls, other.pulls),
            (&mut self.pull_errors, other.pull_errors),
            (&mut self.pulled_online, other.pulled_online),
            (&mut self.pulled_unknown, other.pulled_unknown),
            (&mut self.churned, other.churned),
            (&mut self.flood.frames, other.flood.frames),
            (&mut self.flood.reconnects, other.flood.reconnects),
        ] {
            *mine += others;
        }
        add(&mut self.refused, &other.refused);
        add(&mut self.connect_errors, &other.connect_errors);
        add(&mut self.lost, &other.lost);
        add(&mut self.flood.closed, &other.flood.closed);
        self.handshake.merge(&other.handshake);
        self.client_ping.merge(&other.client_ping);
        self.pull.merge(&other.pull);
    }
}

/// Adds counts by name.
pub(crate) fn add(mine: &mut ByName, others: &ByName) {
    for (name, count) in others {
        *mine.entry(name.clone()).or_default() += count;
    }
}

/// Counts one.
pub(crate) fn count(counts: &mut ByName, name: &(impl ToString + ?Sized)) {
    *counts.entry(name.to_string()).or_default() += 1;
}

/// For people: `401: 3, 503: 1`.
pub(crate) fn listed(counts: &ByName) -> String {
    let parts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn processes_are_added_up() {
        let mut one = Counts {
            seconds: 2.0,
            pings: 3,
            ..Counts::default()
        };
        count(&mut one.refused, &401);
        let mut two = one.clone();
        two.seconds = 2.5;
        count(&mut two.refused, &503);
        two.pull.record(Duration::from_micros(7));
        let text = serde_json::to_string(&two).unwrap();
        one.merge(&serde_json::from_str(&text).unwrap());
        assert_eq!((one.seconds, one.pings), (2.5, 6));
        assert_eq!(listed(&one.refused), "401: 2, 503: 1");
        assert_eq!(one.pull.max_us(), 7);
    }
}
