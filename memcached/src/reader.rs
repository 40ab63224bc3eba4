//! One connection that asks for many keys at once, apart from the flush so that a question never
//! waits behind a shard's worth of `set`s.
//!
//! Nothing in an answer says which question it belongs to, but for the keys of its values. So a
//! question is sent only when there is nothing to read, and an answer is believed only if nothing
//! follows it: one stray `END` would otherwise answer every later question in place of its own
//! answer. And each command asks last for the node's [`marker`](super::marker), without which what
//! was not found may be there all the same: because the node has lost it, has not been told of it,
//! or the answer is a stray `END`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use presenced_protocol::{Key, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::MemcachedError;
use super::greeting::greet;
use super::misfit::Misfit;
use super::node::{Node, Up};
use super::stream::Stream;
use super::values::{Progress, Values};
use crate::limits::{KEYS_PER_GET_MAX, LOOKUP_ANSWER_BYTES_MAX, LOOKUP_BUFFER_BYTES};

/// An answer that is longer than any that may be ours.
pub(super) const ENDLESS: MemcachedError =
    MemcachedError::OutOfStep(Misfit::unquoted("an answer without end"));

/// One connection to one node, for look-ups.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    timeout: Duration,
    _up: Up,
}

impl Reader {
    /// Connects and greets.
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
            _up: node.reader_is_up(),
        })
    }

    /// Asks for `keys` in commands of up to 100, each sent when the one before is answered, and in
    /// each of them for `marks` at the end. `found` is told which of the keys has a value, and the
    /// value if it is not too long to be ours; `answered`, for each command, which keys it asked
    /// for, when it was sent, and what the marks' values are. After an error the connection is out
    /// of step and must be dropped, and nothing that was found is to be believed.
    ///
    /// # Errors
    ///
    /// If there was something to read before the question or behind its answer, if the answer does
    /// not fit, or if it did not come in time.
    pub async fn get(
        &mut self,
        keys: &[Key<'_>],
        marks: &[Key<'_>],
        mut found: impl FnMut(usize, Option<&[u8]>),
        mut answered: impl FnMut(Range<usize>, Instant, &[Option<Vec<u8>>]),
    ) -> Result<(), MemcachedError> {
        // Between two questions it would only be held.
        let mut buffer = Vec::with_capacity(LOOKUP_BUFFER_BYTES);
        let mut asked = Vec::with_capacity(keys.len().min(KEYS_PER_GET_MAX) + marks.len());
        let mut next = 0;
        for keys in keys.chunks(KEYS_PER_GET_MAX) {
            asked.clear();
            asked.extend_from_slice(keys);
            asked.extend_from_slice(marks);
            let sent_at = Instant::now();
            // All at once could fill both socket buffers, and neither side would go on.
            in_time(self.timeout, self.ask(&mut buffer, &asked)).await?;
            let (first, mut values) = (next, vec![None; marks.len()]);
            next += keys.len();
            self.read_answer(&mut buffer, &asked, |index, value| {
                match index.checked_sub(keys.len()) {
                    None => found(first + index, value),
                    Some(mark) => values[mark] = value.map(<[u8]>::to_vec),
                }
            })
            .await?;
            answered(first..next, sent_at, &values);
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
        let mut answered = 0;
        loop {
            let read = async { Ok(self.stream.read_buf(buffer).await?) };
            match in_time(self.timeout, read).await? {
                0 => return Err(MemcachedError::Closed),
                count => answered += count,
            }
            if answered > LOOKUP_ANSWER_BYTES_MAX {
                return Err(ENDLESS);
            }
            match values.read(buffer, &mut found) {
                // Less than one reply is left, so there is always room to read more.
                Ok(Progress::Part(taken)) => drop(buffer.drain(..taken)),
                Ok(Progress::Whole) => return Ok(()),
                Err(misfit) => return Err(MemcachedError::OutOfStep(misfit)),
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
