//! What goes wrong with a node: counted, and said in the log now and then.

use std::sync::atomic::Ordering;

use super::{Node, lock};
use crate::MemcachedError;
use crate::limits::{PEER_WORDS_BYTES_MAX, WARNING_PAUSE};

/// Labels of the errors that a node counts.
pub const NODE_ERRORS: [&str; 6] = ["connect", "auth", "io", "timeout", "protocol", "refused"];

impl Node {
    /// Counts an error.
    pub fn failed(&self, error: &MemcachedError) {
        tracing::debug!(node = %self.addr, %error, "a connection to memcached failed");
        if matches!(error, MemcachedError::Full) && lock(&self.full_logged).is_due(WARNING_PAUSE) {
            tracing::warn!(
                node = %self.addr,
                "memcached has no room for all of our connections: raise its -c"
            );
        }
        self.count(error.label(), 1);
    }

    /// It has refused something with this `reply`: said in the log, now and then while it lasts.
    pub(crate) fn refuses(&self, reply: &[u8]) {
        if lock(&self.refusals_logged).is_due(WARNING_PAUSE) {
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

/// What a peer said, for the log: bytes that could do something to a terminal are escaped, and only the
/// start of it is kept.
fn quoted(words: &[u8]) -> String {
    let words = words.trim_ascii_end();
    let start = &words[..words.len().min(PEER_WORDS_BYTES_MAX)];
    start.escape_ascii().to_string()
}
