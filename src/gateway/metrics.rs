//! What the edge counts.

use std::array;

use presenced_session::metrics::Counter;
use presenced_tls::Established;

use super::refusal::Refusal;

/// What the edge counts.
#[derive(Debug)]
pub struct GatewayMetrics {
    /// Requests refused, in the order of [`Refusal::ALL`].
    pub refusals: [Counter; Refusal::ALL.len()],
    /// Tokens refused that were to renew a session, in the same order.
    pub renewals_refused: [Counter; Refusal::ALL.len()],
    /// HTTP requests answered, but for handshakes.
    pub requests: Counter,
    /// TLS handshakes that were done, in the order of [`TLS_HANDSHAKES`].
    pub tls_handshakes: [Counter; TLS_HANDSHAKES.len()],
}

/// Kinds of TLS handshakes: the version, and whether the client came back with a ticket.
pub const TLS_HANDSHAKES: [(&str, bool); 4] =
    [("1.2", false), ("1.2", true), ("1.3", false), ("1.3", true)];

impl Default for GatewayMetrics {
    fn default() -> GatewayMetrics {
        GatewayMetrics {
            refusals: array::from_fn(|_| Counter::default()),
            renewals_refused: array::from_fn(|_| Counter::default()),
            requests: Counter::default(),
            tls_handshakes: array::from_fn(|_| Counter::default()),
        }
    }
}

impl GatewayMetrics {
    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        count(&self.refusals, refusal);
    }

    /// Counts a TLS handshake that was done.
    pub fn tls_handshake(&self, done: &Established) {
        let kind = 2 * usize::from(done.records.is_tls13()) + usize::from(done.is_resumed);
        self.tls_handshakes[kind].add(1);
    }

    /// Counts a token that is refused to renew a session.
    pub fn renewal_refused(&self, refusal: Refusal) {
        count(&self.renewals_refused, refusal);
    }
}

fn count(refusals: &[Counter], refusal: Refusal) {
    let place = Refusal::ALL.iter().position(|other| *other == refusal);
    debug_assert!(place.is_some(), "{refusal:?} is not in Refusal::ALL");
    if let Some(place) = place {
        refusals[place].add(1);
    }
}
