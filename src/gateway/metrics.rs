//! What the edge counts.

use std::array;

use presenced_session::metrics::Counter;

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
}

impl Default for GatewayMetrics {
    fn default() -> GatewayMetrics {
        GatewayMetrics {
            refusals: array::from_fn(|_| Counter::default()),
            renewals_refused: array::from_fn(|_| Counter::default()),
            requests: Counter::default(),
        }
    }
}

impl GatewayMetrics {
    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        count(&self.refusals, refusal);
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
