//! Our memcached client: text protocol, pipelined, over TCP or a Unix socket.
//!
//! - [`pipeline`] (pure): which replies are expected, in order.
//! - [`writer`]: one connection that carries a pipeline of `set`s; `window` (pure): how many at
//!   once.
//! - [`reader`]: one connection that asks for many keys at once.
//! - `greeting`: how each connection begins.
//! - `same_server`: whether both lead to the server that the probe asks.
//! - [`values`] (pure): what it is answered.
//! - [`misfit`] (pure): an answer that does not fit, in the peer's words.
//! - [`ring`] (pure): which node has a key.
//! - [`address`] (pure): nodes as an operator lists them.
//! - [`node`]: one node: how it does, and dialling it over a [`stream`] ([`tls`]), with pauses
//!   ([`backoff`]).
//! - [`network`]: what it takes from the world around it: name resolution, connections and
//!   randomness.
//! - [`credentials`]: what a node may ask for before it lets us in.
//! - [`cluster`]: the nodes, and which of them are on the ring.
//! - [`per_node`]: what is kept for each node, as they come and go.
//! - [`log_throttle`]: warnings about what lasts.
//! - [`node_list`]: which nodes an operator lists.
//! - [`settings_file`]: files that an operator names, read with a limit.
//! - [`discovery`]: which nodes there are, as names and files say.
//! - [`shared_log`]: values that edges tell each other, each with a number.
//! - [`marker`] (pure): the key on each node that tells whether what is not found is not there.
//! - [`probe`]: asks each node how it is, and keeps its marker; `hold_down` (pure): how long it
//!   stays off the ring.

pub mod address;
pub mod backoff;
pub mod cluster;
pub mod codec;
pub mod config;
mod connection;
pub mod credentials;
pub mod discovery;
pub mod endpoint;
mod greeting;
mod hold_down;
pub mod limits;
pub mod log_throttle;
pub mod marker;
pub mod misfit;
pub mod network;
pub mod node;
pub mod node_list;
pub mod per_node;
pub mod pipeline;
pub mod probe;
pub mod reader;
pub mod ring;
mod same_server;
pub mod settings_file;
pub mod shared_log;
pub mod stream;
pub mod tls;
pub mod values;
mod window;
pub mod writer;

use std::io;

use thiserror::Error;

pub use self::address::{NodeAddr, NodeAddrError, NodeSpec};
pub use self::backoff::Backoff;
pub use self::cluster::Cluster;
pub use self::config::{Config, ConnectOptions, OnFailure};
pub use self::endpoint::Endpoint;
pub use self::log_throttle::LogThrottle;
pub use self::misfit::Misfit;
pub use self::network::Network;
pub use self::node::Node;
pub use self::node_list::NodeList;
pub use self::per_node::PerNode;
pub use self::reader::Reader;
pub use self::shared_log::SharedLog;
pub use self::writer::Writer;

/// Why a connection to memcached ended. Whatever it was, what was not answered is unknown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemcachedError {
    /// It could not be made.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// With TLS a node needs a name that a certificate can be for.
    #[error("the node's name is none that a certificate can be for")]
    ServerName,
    /// It has as many connections as it takes.
    #[error("memcached has no room for another connection: its -c")]
    Full,
    /// It asks for a user and a password, and we have none.
    #[error("memcached asks for a user and password: --memcached-auth-file")]
    Unauthenticated,
    /// It does not know our user, or that password.
    #[error("{0}")]
    Authentication(Misfit),
    /// It broke.
    #[error("connection broken: {0}")]
    Io(#[source] io::Error),
    /// The other side ended it.
    #[error("connection closed by memcached")]
    Closed,
    /// No reply in time while commands were in flight.
    #[error("no reply within {0:?}")]
    Timeout(std::time::Duration),
    /// It answers the greeting in a way that memcached would not.
    #[error("{0}")]
    Greeting(Misfit),
    /// A reply that does not fit the command it answers: the connection is out of step.
    #[error("reply out of step: {0}")]
    OutOfStep(Misfit),
}

impl From<io::Error> for MemcachedError {
    /// TLS tells apart how a connection was closed; for us it is closed.
    fn from(error: io::Error) -> MemcachedError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => MemcachedError::Closed,
            _ => MemcachedError::Io(error),
        }
    }
}

impl MemcachedError {
    /// Whether the node could not be reached, or ceased to answer; other errors are answers that it
    /// gave.
    pub(crate) fn is_away(&self) -> bool {
        matches!(
            self,
            MemcachedError::Connect(_)
                | MemcachedError::Io(_)
                | MemcachedError::Closed
                | MemcachedError::Timeout(_)
        )
    }

    /// What kind of trouble it is: an operator does something else about each. A node that is
    /// restarted closes connections, refuses them and keeps silent in turn, which is one kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            // It is there, but with a certificate that is not accepted, or without TLS.
            MemcachedError::Connect(error) | MemcachedError::Io(error)
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                "tls"
            }
            _ if self.is_away() => "away",
            MemcachedError::Greeting(misfit) | MemcachedError::OutOfStep(misfit) => misfit.why(),
            MemcachedError::Full => "full",
            MemcachedError::Unauthenticated => "no password",
            MemcachedError::Authentication(_) => "wrong password",
            _ => "name",
        }
    }

    /// Label in `/metrics`.
    pub fn label(&self) -> &'static str {
        match self {
            MemcachedError::Connect(_) | MemcachedError::ServerName | MemcachedError::Full => {
                "connect"
            }
            MemcachedError::Unauthenticated | MemcachedError::Authentication(_) => "auth",
            MemcachedError::Io(_) | MemcachedError::Closed => "io",
            MemcachedError::Timeout(_) => "timeout",
            MemcachedError::OutOfStep(_) | MemcachedError::Greeting(_) => "protocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_does_something_else_about_is_another_kind() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let of = |kind| MemcachedError::from(io(kind)).kind();
        // A restart, in its turns.
        assert_eq!(of(io::ErrorKind::ConnectionReset), "away");
        assert_eq!(of(io::ErrorKind::UnexpectedEof), "away");
        let refused = MemcachedError::Connect(io(io::ErrorKind::ConnectionRefused));
        assert_eq!(refused.kind(), "away");
        // It is back with another certificate.
        let certificate = MemcachedError::Connect(io(io::ErrorKind::InvalidData));
        assert_eq!(certificate.kind(), "tls");
        assert!(certificate.is_away());
        assert_eq!(MemcachedError::Unauthenticated.kind(), "no password");
        let closed = MemcachedError::from(io(io::ErrorKind::UnexpectedEof)).to_string();
        assert_eq!(closed, "connection closed by memcached");
    }
}
