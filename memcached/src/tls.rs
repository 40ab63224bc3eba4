//! TLS to memcached (its `-Z`).

use std::io;

pub use presenced_net::tls::{Tls, TlsError};
use presenced_net::tls::{TlsConnectError, TlsStream};
use tokio::net::TcpStream;

use super::MemcachedError;

/// The peer must prove that it is `host`, a name or an address.
pub(super) async fn connect(
    tls: &Tls,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, MemcachedError> {
    let connected = tls.connect(host, stream).await;
    connected.map_err(|error| match error {
        TlsConnectError::ServerName => MemcachedError::ServerName,
        TlsConnectError::Io(error) => MemcachedError::Connect(error),
        TlsConnectError::NotTls => {
            MemcachedError::Connect(io::Error::other("it does not speak TLS (memcached's -Z)"))
        }
        error => MemcachedError::Connect(io::Error::other(error)),
    })
}
