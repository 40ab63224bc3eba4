//! What fetching takes from the world around it: connections, and who is trusted on them.
//!
//! Connections are the system's by default; a test gives its own, and reads the time from tokio's
//! paused clock.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::{fmt, io};

use presenced_net::tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

/// What fetching takes from the world around it.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Makes connections.
    pub dialler: Dialler,
    /// Makes them secret. Without it nothing is fetched over https.
    pub tls: Option<Tls>,
}

/// The bytes of a connection, whatever carries them.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    /// The host has no address that is known.
    Name(io::Error),
    /// None of its addresses accepts.
    Connect(io::Error),
}

type Answer = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, DialError>> + Send>>;

/// Makes connections to a host and a port. Whoever dials bounds the time.
#[derive(Clone)]
pub struct Dialler(Arc<dyn Fn(String, u16) -> Answer + Send + Sync>);

impl Dialler {
    /// One that connects as `dial` does.
    pub fn new(dial: impl Fn(String, u16) -> Answer + Send + Sync + 'static) -> Dialler {
        Dialler(Arc::new(dial))
    }

    pub(super) fn dial(&self, host: &str, port: u16) -> Answer {
        (self.0)(host.to_owned(), port)
    }
}

/// The system's resolver and sockets.
impl Default for Dialler {
    fn default() -> Dialler {
        Dialler::new(|host, port| {
            Box::pin(async move {
                let found = lookup_host((host, port)).await.map_err(DialError::Name)?;
                let addresses: Vec<SocketAddr> = found.collect();
                let stream = TcpStream::connect(&*addresses).await;
                Ok(Box::new(stream.map_err(DialError::Connect)?) as Box<dyn Stream>)
            })
        })
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}
