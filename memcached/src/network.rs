//! What the client takes from the world around it: name resolution, connections and randomness.
//!
//! All of it is the system's by default. A simulation gives its own, and reads the time from
//! tokio's paused clock: then the whole client runs in one thread, in virtual time, and the same
//! seed gives the same run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use fastrand::Rng;
use presenced_net::Watchable;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use super::stream::Stream;
use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};

type Answer<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// What the client takes from the world around it.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Finds the addresses of names.
    pub resolver: Resolver,
    /// Makes connections.
    pub dialler: Dialler,
    /// Spreads what a fleet should not do in step.
    pub random: Random,
}

/// Finds the addresses of a name.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(String, u16) -> Answer<Vec<SocketAddr>> + Send + Sync>);

impl Resolver {
    /// One that asks `resolve` for the addresses of a host and a port.
    pub fn new(
        resolve: impl Fn(String, u16) -> Answer<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Resolver {
        Resolver(Arc::new(resolve))
    }

    pub(super) fn resolve(&self, host: &str, port: u16) -> Answer<Vec<SocketAddr>> {
        (self.0)(host.to_owned(), port)
    }
}

/// The system's resolver.
impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::new(|host, port| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, port)).await?;
                Ok(found.collect())
            })
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first of these addresses that accepts.
    Tcp(Vec<SocketAddr>),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Makes connections. The client bounds the time that it takes.
#[derive(Clone)]
pub struct Dialler(Arc<dyn Fn(Target) -> Answer<Stream> + Send + Sync>);

impl Dialler {
    /// One that connects as `dial` does, mostly with a [`Stream::Simulated`].
    pub fn new(dial: impl Fn(Target) -> Answer<Stream> + Send + Sync + 'static) -> Dialler {
        Dialler(Arc::new(dial))
    }

    pub(super) fn dial(&self, target: Target) -> Answer<Stream> {
        (self.0)(target)
    }
}

/// The system's sockets. TCP connections have `TCP_NODELAY` set and are kept alive.
impl Default for Dialler {
    fn default() -> Dialler {
        Dialler::new(|target| {
            Box::pin(async move {
                Ok(match target {
                    Target::Tcp(addresses) => {
                        Stream::Tcp(Watchable::Watched(dial_tcp(&addresses).await?))
                    }
                    Target::Unix(path) => {
                        Stream::Unix(Watchable::Watched(UnixStream::connect(path).await?))
                    }
                })
            })
        })
    }
}

async fn dial_tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

/// Where the client's random numbers come from.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<Rng>>);

impl Random {
    /// The same numbers for the same seed, as long as they are asked for in the same order.
    pub fn seeded(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(Rng::with_seed(seed))))
    }

    /// A generator of its own for whoever needs one.
    pub(super) fn fork(&self) -> Rng {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.fork()
    }
}

/// Seeded by the system.
impl Default for Random {
    fn default() -> Random {
        Random(Arc::new(Mutex::new(Rng::new())))
    }
}
