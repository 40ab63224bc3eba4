//! What the server runs with: the sum of what its parts are set to.

use std::time::Duration;

use super::embedded;
use crate::{admin, gateway, pull, revocation};

/// Checked settings; [`cli`](crate::cli) makes them of flags and the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that serve sessions.
    pub workers: usize,
    /// Sessions on this server.
    pub sessions_max: usize,
    /// Time in which balancers learn that the server is about to stop, before it refuses sessions.
    pub drain_delay: Duration,
    /// Time over which sessions are closed when the server stops.
    pub drain: Duration,
    /// How sessions are pinged, and what each may take.
    pub session: presenced_session::Config,
    /// How users are kept and written.
    pub presence: presenced_presence::Config,
    /// The memcached nodes, and how they are spoken to; without a node there is an embedded store.
    pub memcached: presenced_memcached::Config,
    /// The embedded store.
    pub store: embedded::Config,
    /// How clients come in.
    pub gateway: gateway::Config,
    /// How others are asked for.
    pub pull: pull::Config,
    /// How revocations are kept.
    pub revocation: revocation::Config,
    /// What operators look at.
    pub admin: admin::Config,
}
