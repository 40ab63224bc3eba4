//! Signing users out: what operators revoke takes effect on every edge.
//!
//! - [`asked`] (pure): what an operator may ask for.
//! - [`revoker`]: does it here and now, and hands it to the log.
//! - [`entry`] (pure): an entry of the log that edges share.
//! - [`follower`] (pure): which of the log's entries are to be read.
//! - [`keeper`]: reads the log, and keeps it complete.
//! - [`sessions`]: ends the sessions of users whose tokens are revoked.
//! - [`metrics`]: what is counted.
//!
//! Tokens themselves are checked where they are verified, against
//! [`Revocations`](crate::tokens::Revocations).

pub mod asked;
pub mod entry;
pub mod follower;
pub mod keeper;
pub mod metrics;
pub mod revoker;
pub mod sessions;

use std::time::Duration;

use presenced_memcached::marker;

use crate::limits::{REVOCATION_TIME_MAX, TOKEN_LEEWAY};

/// How revocations are kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The key with the number of the log's last entry.
    pub log_key: String,
    /// How long a revocation lasts.
    pub lasts: Duration,
}

/// The key with the number of the log's last entry, for entries whose keys are made after
/// `template`: applications that share a memcached don't share revocations.
#[must_use]
pub fn log_key(template: &str) -> String {
    format!(
        "presenced:revocations:{:016x}",
        marker::template_hash(template)
    )
}

/// How long a revocation lasts where tokens may be valid for `lifetime_max`: until the last of them has
/// expired, whatever the clocks, but no longer than memcached takes for a time from now.
#[must_use]
pub fn lasts(lifetime_max: Duration) -> Duration {
    (lifetime_max + 2 * *TOKEN_LEEWAY.end()).min(REVOCATION_TIME_MAX)
}
