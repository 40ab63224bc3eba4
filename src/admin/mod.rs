//! For operators: metrics, health and what they can do, on a listener of their own.
//!
//! - [`access`]: who may do more than ask for health and metrics.
//! - `answers`: the forms of answers.
//! - [`routes`]: the listener and its paths; `revocations`: one of them.
//! - [`reloads`]: how often settings were read again.
//! - [`prometheus`]: everything that is counted, in one of the forms of [`exposition`].

pub mod access;
mod answers;
mod encode;
pub mod exposition;
mod netstat;
mod process;
pub mod prometheus;
pub mod reloads;
mod revocations;
pub mod routes;

use std::net::SocketAddr;

use crate::tokens::Secret;

/// Where operators look.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener's address.
    pub listen: SocketAddr,
    /// What they must show to do more than ask for health and metrics.
    pub token: Option<Secret>,
}
