//! Counters of the sessions of one process in one phase.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::Latency;

/// Counts by name.
pub(crate) type CountsByName = BTreeMap<String, u64>;

/// Counters of the sessions of one process in one phase.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Counts {
    /// How long the phase took.
    pub(crate) seconds: f64,
    /// Sessions open at the end of the phase.
    pub(crate) open: u64,
    /// Handshakes that succeeded.
    pub(crate) connected: u64,
    /// What the TLS handshakes of open sessions have led to, by cipher suite, key exchange and kind.
    pub(crate) tls: CountsByName,
    /// Handshakes that were refused, by HTTP status, or `connect_error` (Socket.IO).
    pub(crate) refused: CountsByName,
    /// Handshakes that failed otherwise, by kind.
    pub(crate) connect_errors: CountsByName,
    /// Sessions that the server ended, by close code; 1006 without a close frame.
    pub(crate) lost: CountsByName,
    /// Pings that the server sent.
    pub(crate) pings: u64,
    /// Answers to the server's pings.
    pub(crate) pongs: u64,
    /// Pings that we sent; their answers are in `client_ping`.
    pub(crate) client_pings: u64,
    /// Pulls sent; their answers are in `pull`.
    pub(crate) pulls: u64,
    /// Pulls answered with an error, by its code.
    pub(crate) pull_errors: CountsByName,
    /// Users reported as online.
    pub(crate) pulled_online: u64,
    /// Users of whom the answer said nothing: they are offline.
    pub(crate) pulled_offline: u64,
    /// Users reported as unknown.
    pub(crate) pulled_unknown: u64,
    /// Pongs sent without a ping.
    pub(crate) heartbeats: u64,
    /// Sessions closed in order to reconnect.
    pub(crate) churned: u64,
    /// Counters of the flooding sessions.
    pub(crate) flood: Flood,
    /// Time from the loss of a session until it is open again, with --reconnect.
    pub(crate) away: Latency,
    /// Time from `connect` to an open session.
    pub(crate) handshake: Latency,
    /// Time from our ping to its answer.
    pub(crate) client_ping: Latency,
    /// Time from a pull to its answer.
    pub(crate) pull: Latency,
}

/// Counters of the flooding sessions.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Flood {
    /// Frames that the sockets have accepted.
    pub(crate) frames: u64,
    /// Connections that the server ended, by close code, or 1006.
    pub(crate) closed: CountsByName,
    /// Connections that were opened again.
    pub(crate) reconnects: u64,
}

impl Counts {
    /// Answered pulls.
    pub(crate) fn pulls_per_second(&self) -> f64 {
        ratio(self.pull.count() as f64, self.seconds)
    }

    /// Users of whom pulls were answered something.
    pub(crate) fn pulled_per_second(&self) -> f64 {
        let users = self.pulled_online + self.pulled_offline + self.pulled_unknown;
        ratio(users as f64, self.seconds)
    }

    /// Adds the counters of another process in the same phase.
    pub(crate) fn merge(&mut self, other: &Counts) {
        self.seconds = self.seconds.max(other.seconds);
        for (mine, others) in [
            (&mut self.open, other.open),
            (&mut self.connected, other.connected),
            (&mut self.pings, other.pings),
            (&mut self.pongs, other.pongs),
            (&mut self.client_pings, other.client_pings),
            (&mut self.pulls, other.pulls),
            (&mut self.pulled_online, other.pulled_online),
            (&mut self.pulled_offline, other.pulled_offline),
            (&mut self.pulled_unknown, other.pulled_unknown),
            (&mut self.heartbeats, other.heartbeats),
            (&mut self.churned, other.churned),
            (&mut self.flood.frames, other.flood.frames),
            (&mut self.flood.reconnects, other.flood.reconnects),
        ] {
            *mine += others;
        }
        add(&mut self.tls, &other.tls);
        add(&mut self.refused, &other.refused);
        add(&mut self.connect_errors, &other.connect_errors);
        add(&mut self.lost, &other.lost);
        add(&mut self.pull_errors, &other.pull_errors);
        add(&mut self.flood.closed, &other.flood.closed);
        self.away.merge(&other.away);
        self.handshake.merge(&other.handshake);
        self.client_ping.merge(&other.client_ping);
        self.pull.merge(&other.pull);
    }
}

/// `amount / count`, or 0 if there is nothing to divide by.
pub(crate) fn ratio(amount: f64, count: f64) -> f64 {
    if count > 0.0 { amount / count } else { 0.0 }
}

/// Adds counts by name.
pub(crate) fn add(mine: &mut CountsByName, others: &CountsByName) {
    for (name, count) in others {
        *mine.entry(name.clone()).or_default() += count;
    }
}

/// Adds one to the count of `name`.
pub(crate) fn count(counts: &mut CountsByName, name: &(impl ToString + ?Sized)) {
    *counts.entry(name.to_string()).or_default() += 1;
}

/// The counts in one line, such as `401: 3, 503: 1`.
pub(crate) fn join_counts(counts: &CountsByName) -> String {
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
    fn counters_of_processes_are_added_up() {
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
        assert_eq!(join_counts(&one.refused), "401: 2, 503: 1");
        assert_eq!(one.pull.max_us(), 7);
    }
}
