//! One look at a node by somebody who does not stay: is it there, and what does it say of itself?

use std::sync::Arc;

use bytes::Bytes;
use presenced_protocol::{Reply, Request};
use tokio::time::timeout;

use super::evictions::each;
use crate::connection::{Connection, foreign};
use crate::misfit::quoted;
use crate::{ConnectOptions, Endpoint, MemcachedError, Node};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its version, fit for a log.
    pub version: String,
    /// Its clock, in seconds of Unix time; `None` if it, or a proxy before it, does not tell.
    pub time_s: Option<u64>,
}

/// Connects to a node as all connections do, with TLS and a password if need be, and asks it. Nothing is stored.
///
/// # Errors
///
/// [`MemcachedError`] if it can't be reached, or is no memcached that lets us in.
pub async fn visit(
    endpoint: Endpoint,
    access: Arc<ConnectOptions>,
) -> Result<Visit, MemcachedError> {
    let limit = access.timeout;
    let node = Node::new(0, endpoint, access);
    let mut connection = Connection::dial(&node).await?;
    let version = timeout(limit, version(&mut connection)).await;
    let version = version.unwrap_or(Err(MemcachedError::Timeout(limit)))?;
    let mut time_s = None;
    let asked = each(&mut connection, b"stats\r\n", |name, value| {
        if name == b"time" {
            time_s = Some(value);
        }
    });
    // A proxy may have no `stats`, and close the connection for it.
    let _ = timeout(limit, asked).await;
    Ok(Visit {
        version: quoted(&version),
        time_s,
    })
}

async fn version(connection: &mut Connection) -> Result<Bytes, MemcachedError> {
    connection.send(&[Request::Version]).await?;
    match connection.reply().await? {
        Reply::Version(version) => Ok(version),
        reply => Err(foreign(&reply)),
    }
}
