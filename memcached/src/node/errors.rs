//! What goes wrong with a node: counted, and said in the log now and then.

use std::sync::atomic::Ordering;

use super::{Node, lock};
use crate::MemcachedError;
use crate::limits::WARNING_PAUSE;
use crate::misfit::quoted;

/// Labels of the errors that a node counts.
pub const NODE_ERRORS: [&str; 6] = ["connect", "auth", "io", "timeout", "protocol", "refused"];

impl Node {
    /// Counts an error.
    pub fn failed(&self, error: &MemcachedError) {
        tracing::debug!(node = %self.addr, %error, "a connection to memcached failed");
        // While the probe is not answered, it says why.
        let is_said_here = match error {
            MemcachedError::Full => true,
            MemcachedError::Greeting(_) | MemcachedError::OutOfStep(_) => *self.answers.borrow(),
            _ => false,
        };
        if is_said_here && lock(&self.failures_logged).is_due_for(error.kind(), WARNING_PAUSE) {
            match error {
                MemcachedError::Full => tracing::warn!(
                    node = %self.addr,
                    "memcached has no room for all of our connections: raise its -c"
                ),
                _ => tracing::warn!(node = %self.addr, %error, "a connection to memcached failed"),
            }
        }
        self.count(error.label(), 1);
    }

    /// It has refused something with this `reply`: said in the log, now and then while it lasts.
    pub(crate) fn refuses(&self, reply: &[u8]) {
        if lock(&self.refusals_logged).is_due_for(kind_of_refusal(reply), WARNING_PAUSE) {
            tracing::warn!(
                node = %self.addr,
                reply = quoted(reply),
                "memcached refuses entries; their users are written again at each flush"
            );
        }
    }

    /// Counts `set`s that memcached refused.
    pub fn refused(&self, sets: u64) {
        self.count("refused", sets);
    }

    fn count(&self, label: &str, count: u64) {
        if let Some(index) = NODE_ERRORS.iter().position(|known| *known == label) {
            self.errors[index].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Errors so far, by label.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .errors
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        NODE_ERRORS.into_iter().zip(counts)
    }
}

/// What an operator can do about a refusal depends on it.
fn kind_of_refusal(reply: &[u8]) -> &'static str {
    let kinds = [
        "SERVER_ERROR out of memory",
        "SERVER_ERROR object too large",
    ];
    let known = kinds
        .into_iter()
        .find(|kind| reply.starts_with(kind.as_bytes()));
    known.unwrap_or(match reply.starts_with(b"SERVER_ERROR") {
        true => "SERVER_ERROR",
        false => "NOT_STORED",
    })
}
