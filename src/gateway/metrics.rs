//! What the edge counts.

use std::array;

use presenced_session::metrics::Counter;

use super::refusal::Refusal;

/// What the edge counts.
#[derive(Debug)]
pub struct GatewayMetrics {
    /// Requests refused, in the order of [`Refusal::ALL`].
    pub refusals: [Counter; Refusal::ALL.len()],
    /// HTTP requests answered, but for handshakes.
    pub requests: Counter,
}

impl Default for GatewayMetrics {
    fn default() -> GatewayMetrics {
        GatewayMetrics {
            refusals: array::from_fn(|_| Counter::default()),
            requests: Counter::default(),
        }
    }
}

impl GatewayMetrics {
    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        let place = Refusal::ALL.iter().position(|other| *other == refusal);
        debug_assert!(place.is_some(), "{refusal:?} is not in Refusal::ALL");
        if let Some(place) = place {
            self.refusals[place].add(1);
        }
    }
}
