//! For operators: metrics and health, on a listener of their own.

mod encode;
pub mod exposition;
mod netstat;
mod process;
pub mod prometheus;
pub mod routes;

use std::net::SocketAddr;

/// Where operators look.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The listener's address.
    pub listen: SocketAddr,
}
