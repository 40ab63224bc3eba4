//! One connection that asks for many keys at once, apart from the flush so that a question never
//! waits behind a shard's worth of `set`s.
//!
//! Nothing in an answer says which question it belongs to, but for the keys of its values. So a question
//! is sent only when there is nothing to read, and an answer is believed only if nothing follows it: one
//! stray `END` would otherwise answer every later question in place of its own answer, and say "offline"
//! of users who are online.
//!
//! What that leaves open: a stray `END` that comes after the question was sent and before its answer is
//! taken for an answer that found nothing. The true one is noticed behind it, at the latest before the
//! next question, but then the users of one command have been called offline. Only a key that is known to
//! be there, and asked for last in each command, would tell the two apart.

use std::sync::Arc;
use std::time::Duration;

use presenced_protocol::{Key, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::MemcachedError;
use super::node::Node;
use super::stream::Stream;
use super::values::{Progress, Values};
use super::writer::greet;
use crate::limits::{KEYS_PER_GET_MAX, LOOKUP_BUFFER_BYTES};

/// One connection to one node, for look-ups.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    timeout: Duration,
}

impl Reader {
    /// Connects and greets. The node does not count it as up: between two questions no one reads
    /// from it, so that its end would not be noticed.
    ///
    /// # Errors
    ///
    /// If the node does not accept the connection, does not answer in time, or refuses our
    /// credentials.
    pub async fn dial(node: &Arc<Node>) -> Result<Reader, MemcachedError> {
        let mut stream = node.dial().await?;
        greet(&mut stream, node).await?;
        Ok(Reader {
            stream,
            timeout: node.timeout(),
        })
    }

    /// Asks for `keys` in commands of up to 100, each sent when the one before is answered. `found` is
    /// told which of them have a value, and the value if it is not too long to be ours. After an error the
    /// connection is out of step and must be dropped, and nothing that was found is to be believed.
    ///
    /// # Errors
    ///
    /// If there was something to read before the question or behind its answer, if the answer does
    /// not fit, or if it did not come in time.
    pub async fn get(
        &mut self,
        keys: &[Key<'_>],
        mut found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemcachedError> {
        // Between two questions it would only be held.
        let mut buffer = Vec::with_capacity(LOOKUP_BUFFER_BYTES);
        for (number, keys) in keys.chunks(KEYS_PER_GET_MAX).enumerate() {
            // All at once could fill both socket buffers, and neither side would go on.
            in_time(self.timeout, self.ask(&mut buffer, keys)).await?;
            let base = number * KEYS_PER_GET_MAX;
            self.read_answer(&mut buffer, keys, |index, value| found(base + index, value))
                .await?;
        }
        Ok(())
    }

    async fn ask(&mut self, buffer: &mut Vec<u8>, keys: &[Key<'_>]) -> Result<(), MemcachedError> {
        self.stream.expect_silence().await?;
        buffer.clear();
        encode::get(buffer, keys.iter().copied());
        self.stream.write_all(buffer).await?;
        Ok(self.stream.flush().await?)
    }

    async fn read_answer(
        &mut self,
        buffer: &mut Vec<u8>,
        keys: &[Key<'_>],
        mut found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemcachedError> {
        let mut values = Values::new(keys);
        buffer.clear();
        loop {
            let read = async { Ok(self.stream.read_buf(buffer).await?) };
            if in_time(self.timeout, read).await? == 0 {
                return Err(MemcachedError::Closed);
            }
            match values.read(buffer, &mut found) {
                // Less than one reply is left, so there is always room to read more.
                Ok(Progress::Part(taken)) => drop(buffer.drain(..taken)),
                Ok(Progress::Whole) => return Ok(()),
                Err(why) => return Err(MemcachedError::OutOfStep(why)),
            }
        }
    }
}

async fn in_time<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, MemcachedError>>,
) -> Result<T, MemcachedError> {
    let done = timeout(limit, step).await;
    done.unwrap_or(Err(MemcachedError::Timeout(limit)))
}
