//! What the edge counts.

use presenced_session::metrics::Counter;

use super::refusal::Refusal;

/// What the edge counts.
#[derive(Debug, Default)]
pub struct GatewayMetrics {
    /// Requests refused, by [`Refusal`].
    pub refusals: [Counter; Refusal::ALL.len()],
    /// HTTP requests answered, but for handshakes.
    pub requests: Counter,
}

impl GatewayMetrics {
    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].add(1);
    }
}
