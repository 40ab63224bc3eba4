//! The memcached nodes: their addresses and state, and which has a key.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use super::MemcachedError;
use super::address::{NodeAddr, NodeSpec};
use super::ring::{Member, Ring, RingKind};
use crate::limits::{
    MEMCACHED_BACKOFF_MAX, MEMCACHED_BACKOFF_MIN, MEMCACHED_CONNECT_TIMEOUT, NODES_MAX, WINDOW_TCP,
    WINDOW_UNIX,
};

/// A connection to a node, of either kind.
pub type Stream = Either<TcpStream, UnixStream>;

/// How nodes are spoken to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How keys are spread over them.
    pub ring: RingKind,
}

/// One node: its address and how it does. Shared by all connections to it.
#[derive(Debug)]
pub struct Node {
    addr: NodeAddr,
    /// Connections for the flush that are up; those are read all the time.
    up: AtomicUsize,
    /// Whether "down" was logged last.
    down_logged: AtomicBool,
    errors: [AtomicU64; NODE_ERRORS.len()],
}

/// Labels of the errors that a node counts.
pub const NODE_ERRORS: [&str; 5] = ["connect", "io", "timeout", "protocol", "refused"];

impl Node {
    fn new(addr: NodeAddr) -> Node {
        Node {
            addr,
            up: AtomicUsize::new(0),
            down_logged: AtomicBool::new(false),
            errors: Default::default(),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> &NodeAddr {
        &self.addr
    }

    /// Whether at least one connection for the flush is up.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed) > 0
    }

    /// Connects; the caller greets memcached before it calls the connection up.
    pub(super) async fn dial(&self) -> Result<Stream, MemcachedError> {
        let connect = async {
            match &self.addr {
                NodeAddr::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Ok(Either::Left(stream))
                }
                NodeAddr::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
            }
        };
        match timeout(MEMCACHED_CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(MemcachedError::Connect),
            Err(_) => Err(MemcachedError::Timeout(MEMCACHED_CONNECT_TIMEOUT)),
        }
    }

    /// `set` commands that may be in flight on one connection.
    pub fn window(&self) -> usize {
        match self.addr {
            NodeAddr::Tcp(..) => WINDOW_TCP,
            NodeAddr::Unix(_) => WINDOW_UNIX,
        }
    }

    /// Counts a connection that is up, until the result is dropped; logs when it is the first.
    pub(super) fn connected(self: &std::sync::Arc<Node>) -> Up {
        let before = self.up.fetch_add(1, Ordering::Relaxed);
        if before == 0 && self.down_logged.swap(false, Ordering::Relaxed) {
            tracing::info!(node = %self.addr, "memcached answers again");
        }
        Up(self.clone())
    }

    /// Counts an error; logs it when no connection is left and that was not logged yet.
    pub fn failed(&self, error: &MemcachedError) {
        self.count(error.label());
        if !self.is_up() && !self.down_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = %self.addr, %error, "memcached does not answer");
        }
    }

    /// Counts a `set` that memcached refused.
    pub fn refused(&self) {
        self.count("refused");
    }

    fn count(&self, label: &str) {
        if let Some(place) = NODE_ERRORS.iter().position(|known| *known == label) {
            self.errors[place].fetch_add(1, Ordering::Relaxed);
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

/// A connection that is up; see [`Node::connected`].
#[derive(Debug)]
pub(super) struct Up(std::sync::Arc<Node>);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.up.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All nodes and the ring.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<std::sync::Arc<Node>>,
    ring: Ring,
}

impl Cluster {
    /// A cluster of `nodes`, at most 255.
    pub fn new(nodes: Vec<NodeSpec>, options: &Options) -> Cluster {
        debug_assert!(!nodes.is_empty() && nodes.len() <= NODES_MAX);
        let member = |(spec, node): (&NodeSpec, u8)| Member {
            name: spec.addr.ring_name(),
            weight: spec.weight,
            node,
        };
        let members: Vec<_> = nodes.iter().zip(0..).map(member).collect();
        Cluster {
            ring: Ring::new(options.ring, &members),
            nodes: nodes
                .into_iter()
                .map(|spec| std::sync::Arc::new(Node::new(spec.addr)))
                .collect(),
        }
    }

    /// The nodes, by number.
    pub fn nodes(&self) -> &[std::sync::Arc<Node>] {
        &self.nodes
    }

    /// The number of the node that has `key`.
    pub fn node_of(&self, key: &[u8]) -> u8 {
        if self.nodes.len() == 1 {
            return 0;
        }
        self.ring.node_of(key)
    }

    /// Whether at least one node answers.
    pub fn is_up(&self) -> bool {
        self.nodes.iter().any(|node| node.is_up())
    }
}

/// Pauses between tries: exponential with full jitter, so that a fleet does not dial in step.
#[derive(Debug)]
pub struct Backoff {
    bound: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            bound: MEMCACHED_BACKOFF_MIN,
        }
    }
}

impl Backoff {
    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.bound.mul_f64(fastrand::f64());
        self.bound = (self.bound * 2).min(MEMCACHED_BACKOFF_MAX);
        pause
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        assert!((0..20).all(|_| backoff.pause() <= MEMCACHED_BACKOFF_MAX));
        assert_eq!(backoff.bound, MEMCACHED_BACKOFF_MAX);
        backoff.reset();
        assert!(backoff.pause() <= MEMCACHED_BACKOFF_MIN);
    }
}
