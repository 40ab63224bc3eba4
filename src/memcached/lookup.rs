//! One connection that asks for many keys at once, apart from the flush so that a question never
//! waits behind a shard's worth of `set`s.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use presenced_protocol::{Key, Reply, encode};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::MemcachedError;
use super::connection::greet;
use super::node::Node;
use super::stream::Stream;
use crate::codec::ClientCodec;
use crate::limits::{KEYS_PER_GET_MAX, RECORD_BYTES_MAX};

/// A value that memcached has.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Which of the keys asked for.
    pub index: usize,
    /// What is stored.
    pub value: Bytes,
}

/// See the module's page.
#[derive(Debug)]
pub struct Lookup {
    framed: Framed<Stream, ClientCodec>,
    timeout: Duration,
}

impl Lookup {
    /// Connects and greets. The node does not count it as up: between two questions no one reads
    /// from it, so that its end would not be noticed.
    pub async fn dial(node: &Arc<Node>) -> Result<Lookup, MemcachedError> {
        let mut stream = node.dial().await?;
        greet(&mut stream, node).await?;
        Ok(Lookup {
            framed: Framed::new(stream, ClientCodec::default()),
            timeout: node.timeout(),
        })
    }

    /// Asks for `keys` in commands of up to 100, each sent when the one before is answered. After
    /// an error the connection is out of step and must be dropped.
    pub async fn get(&mut self, keys: &[Key<'_>]) -> Result<Vec<Found>, MemcachedError> {
        let mut found = Vec::with_capacity(keys.len());
        for (number, keys) in keys.chunks(KEYS_PER_GET_MAX).enumerate() {
            // All at once could fill both socket buffers, and neither side would go on.
            let get = |out: &mut BytesMut| {
                encode::get(out, keys.iter().copied());
            };
            in_time(self.timeout, self.framed.send(get)).await??;
            self.read_answer(keys, number * KEYS_PER_GET_MAX, &mut found)
                .await?;
        }
        Ok(found)
    }

    /// Values come in the order of the keys, those that are missing left out, then `END`.
    async fn read_answer(
        &mut self,
        keys: &[Key<'_>],
        base: usize,
        found: &mut Vec<Found>,
    ) -> Result<(), MemcachedError> {
        let mut rest = keys.iter().enumerate();
        loop {
            let reply = in_time(self.timeout, self.framed.next()).await?;
            let (key, value) = match reply.ok_or(MemcachedError::Closed)?? {
                Reply::End => return Ok(()),
                Reply::Value { key, value, .. } => (key, value),
                _ => return Err(MemcachedError::OutOfStep("not an answer to a get")),
            };
            let place = rest.find(|(_, asked)| asked.as_bytes() == key);
            let (index, _) = place.ok_or(MemcachedError::OutOfStep("a key not asked for"))?;
            // A foreign value may be as large as memcached allows. It is as foreign when it is empty,
            // and what is not kept holds no memory.
            let ours = value.len() <= RECORD_BYTES_MAX;
            found.push(Found {
                index: base + index,
                value: if ours { value } else { Bytes::new() },
            });
        }
    }
}

async fn in_time<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, MemcachedError> {
    timeout(limit, step)
        .await
        .map_err(|_| MemcachedError::Timeout(limit))
}
