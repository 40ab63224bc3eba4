//! How a look sees the sentinel and the marker.

use presenced_protocol::{Key, Reply, Request, encode};

use crate::MemcachedError;
use crate::connection::{Connection, foreign};

/// What a look has found.
pub(super) struct Seen {
    /// The sentinel's value, if there is a sentinel.
    pub(super) sentinel: Option<Vec<u8>>,
    /// The marker's value, if there is a marker.
    pub(super) marker: Option<Vec<u8>>,
}

/// Touches the sentinel and the marker, and reads them.
pub(super) async fn see(
    connection: &mut Connection,
    sentinel: Option<Key<'_>>,
    marker: Key<'_>,
    exptime: i64,
) -> Result<Seen, MemcachedError> {
    let keys: Vec<_> = sentinel.into_iter().chain([marker]).collect();
    let mut commands = Vec::new();
    for &key in &keys {
        let touch = Request::Touch {
            key,
            exptime,
            noreply: false,
        };
        encode::request(&mut commands, &touch);
    }
    encode::get(&mut commands, keys.iter().copied());
    connection.send_bytes(&commands).await?;
    for _ in &keys {
        match connection.reply().await? {
            Reply::Touched | Reply::NotFound => {}
            reply => return Err(foreign(&reply)),
        }
    }
    let mut values = connection.values(&keys).await?;
    let marker = values.pop().flatten();
    Ok(Seen {
        sentinel: values.pop().flatten(),
        marker,
    })
}
