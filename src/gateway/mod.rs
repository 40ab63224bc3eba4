//! The way in: listeners, HTTP, the WebSocket handshake, and who may pass.
//!
//! - [`listener`]: accepts, serves HTTP with hyper, hands upgraded connections to the worker.
//! - `socket`: a connection that the runtime watches only when it must wait.
//! - [`routes`]: which path does what.
//! - [`handshake`]: RFC 6455 §4.2.1, in its order.
//! - [`origin`]: which web pages may connect.
//! - [`auth`]: who a token says.
//! - [`response`]: HTTP answers.
//! - [`demo`]: the page and the tokens of the keyless mode.

pub mod auth;
pub mod demo;
pub mod handshake;
pub mod listener;
pub mod metrics;
pub mod origin;
pub mod refusal;
pub mod response;
pub mod routes;
mod socket;

use std::sync::Arc;

use self::auth::Auth;
use self::demo::Demo;
use self::metrics::EdgeMetrics;
use self::origin::Origins;
use presenced_session::Seats;
use presenced_session::clock::Clock;

/// What all listeners share.
#[derive(Debug)]
pub struct Edge {
    /// Checks tokens.
    pub auth: Auth,
    /// Checks where pages come from.
    pub origins: Origins,
    /// Whether `?token=` is looked at.
    pub allow_query_token: bool,
    /// The keyless mode's page, when there is no key.
    pub demo: Option<Demo>,
    /// Sessions that there may be; closed when the server stops.
    pub seats: Arc<Seats>,
    /// HTTP connections, handshakes among them, that each listener serves at once.
    pub connections_max: usize,
    /// Time.
    pub clock: Clock,
    /// What is counted here.
    pub metrics: Arc<EdgeMetrics>,
}

impl Edge {
    /// Whether the server stops: no new sessions.
    pub fn is_draining(&self) -> bool {
        self.seats.is_closed()
    }
}
