//! Our memcached client: text protocol, pipelined, over TCP or a Unix socket.
//!
//! - [`pipeline`] (pure): which replies are expected, in order.
//! - [`connection`]: one connection that carries a pipeline of `set`s.
//! - [`lookup`]: one connection that asks for many keys at once.
//! - [`ring`] (pure): which node has a key.
//! - [`address`] (pure): nodes as an operator lists them.
//! - [`cluster`]: the nodes, their state, and dialling them.

pub mod address;
pub mod cluster;
pub mod connection;
pub mod lookup;
pub mod pipeline;
pub mod ring;

use std::io;

use thiserror::Error;

pub use self::address::{NodeAddr, NodeAddrError, NodeSpec};
pub use self::cluster::{Backoff, Cluster, Node};
pub use self::connection::Connection;
pub use self::lookup::{Found, Lookup};

/// Why a connection to memcached ended. Whatever it was, what was not answered is unknown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemcachedError {
    /// It could not be made.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// It broke.
    #[error("connection broken: {0}")]
    Io(#[from] io::Error),
    /// The other side ended it.
    #[error("connection closed by memcached")]
    Closed,
    /// No reply in time while commands were in flight.
    #[error("no reply within {0:?}")]
    Timeout(std::time::Duration),
    /// A reply that does not fit the command it answers: the connection is out of step.
    #[error("reply out of step: {0}")]
    OutOfStep(&'static str),
}

impl MemcachedError {
    /// Label in `/metrics`.
    pub fn label(&self) -> &'static str {
        match self {
            MemcachedError::Connect(_) => "connect",
            MemcachedError::Io(_) | MemcachedError::Closed => "io",
            MemcachedError::Timeout(_) => "timeout",
            MemcachedError::OutOfStep(_) => "protocol",
        }
    }
}
