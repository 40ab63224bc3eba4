//! One connection that asks for many keys at once, apart from the flush so that a question never
//! waits behind a shard's worth of `set`s.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use presenced_protocol::reply::{self, Reply};
use presenced_protocol::{Key, encode};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder, Framed};

use super::MemcachedError;
use super::connection::greet;
use super::node::Node;
use super::stream::Stream;
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
    framed: Framed<Stream, GetCodec>,
    timeout: Duration,
}

impl Lookup {
    /// Connects and greets. The node does not count it as up: between two questions no one reads
    /// from it, so that its end would not be noticed.
    pub async fn dial(node: &Arc<Node>) -> Result<Lookup, MemcachedError> {
        let mut stream = node.dial().await?;
        greet(&mut stream, node).await?;
        Ok(Lookup {
            framed: Framed::new(stream, GetCodec::default()),
            timeout: node.timeout(),
        })
    }

    /// Asks for `keys` in commands of up to 100, each sent when the one before is answered. After
    /// an error the connection is out of step and must be dropped.
    pub async fn get(&mut self, keys: &[Key<'_>]) -> Result<Vec<Found>, MemcachedError> {
        let mut found = Vec::with_capacity(keys.len());
        for (number, keys) in keys.chunks(KEYS_PER_GET_MAX).enumerate() {
            // All at once could fill both socket buffers, and neither side would go on.
            in_time(self.timeout, self.framed.send(keys)).await??;
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
            let line = in_time(self.timeout, self.framed.next()).await?;
            let Some((key, value)) = line.ok_or(MemcachedError::Closed)?? else {
                return Ok(());
            };
            let place = rest.find(|(_, asked)| asked.as_bytes() == key);
            let (index, _) = place.ok_or(MemcachedError::OutOfStep("a key not asked for"))?;
            found.push(Found {
                index: base + index,
                value,
            });
        }
    }
}

async fn in_time<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, MemcachedError> {
    timeout(limit, step)
        .await
        .map_err(|_| MemcachedError::Timeout(limit))
}

/// `get` out; in a key with its value, or nothing for `END`.
#[derive(Debug, Default)]
struct GetCodec {
    parser: reply::Parser,
}

impl Encoder<&[Key<'_>]> for GetCodec {
    type Error = MemcachedError;

    fn encode(&mut self, keys: &[Key<'_>], out: &mut BytesMut) -> Result<(), MemcachedError> {
        encode::get(out, keys.iter().copied());
        Ok(())
    }
}

impl Decoder for GetCodec {
    type Item = Option<(Bytes, Bytes)>;
    type Error = MemcachedError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Self::Item>, MemcachedError> {
        // A foreign value may be as large as memcached allows; it is not ours, but in step.
        let taken = self.parser.take(input);
        let taken = taken.map_err(|_| MemcachedError::OutOfStep("not an answer to a get"))?;
        let Some(reply) = taken else {
            return Ok(None);
        };
        let item = match reply {
            Reply::End => None,
            // What is too large to be ours is not kept: it is as foreign when it is empty.
            Reply::Value { key, value, .. } if value.len() > RECORD_BYTES_MAX => {
                Some((Bytes::copy_from_slice(&key), Bytes::new()))
            }
            Reply::Value { key, value, .. } => Some((key, value)),
            _ => return Err(MemcachedError::OutOfStep("not an answer to a get")),
        };
        Ok(Some(item))
    }
}
