//! One connection that asks for many keys at once, apart from the flush so that a question never
//! waits behind a shard's worth of `set`s.
//!
//! A look-up is several commands, sent at once and answered in their order. Nothing in an answer says
//! which command it belongs to, but for the keys of its values. So a look-up begins only when there is
//! nothing to read, and is believed only if nothing follows its last answer: one stray `END` would
//! otherwise answer every later command in place of its own answer. Within a look-up, every other
//! command asks for its last key twice, so that an answer too many or too few is noticed at once. And
//! each command asks last for the node's [`marker`](super::marker), without which what was not found may
//! be there all the same: because the node has lost it, has not been told of it, or the answer is a
//! stray `END`.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use presenced_protocol::{Key, encode};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::MemcachedError;
use super::greeting::greet;
use super::misfit::Misfit;
use super::node::{Node, Up};
use super::stream::Stream;
use super::values::{Progress, Values, too_much};
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

    /// Asks for `keys` in commands of up to 100, and in each of them for `marks` at the end (in every
    /// other for the last of them twice). `found` is told which of the keys has a value, and the value
    /// if it is not too long to be ours; `answered`, for each command, which keys it asked for, when it
    /// was sent, and what the marks' values are. After an error the connection is out of step and must be
    /// dropped, and nothing that was found is to be believed.
    ///
    /// # Errors
    ///
    /// If there was something to read before the question or behind its answer, if the answer does
    /// not fit, or if nothing more of it came in time.
    pub async fn get(
        &mut self,
        keys: &[Key<'_>],
        marks: &[Key<'_>],
        mut found: impl FnMut(usize, Option<&[u8]>),
        mut answered: impl FnMut(Range<usize>, Instant, &[Option<Vec<u8>>]),
    ) -> Result<(), MemcachedError> {
        let commands = commands(keys, marks);
        let mut question = Vec::new();
        let ends: Vec<_> = commands
            .iter()
            .map(|command| {
                encode::get(&mut question, command.keys.iter().copied());
                question.len()
            })
            .collect();
        // Between two questions it would only be held.
        let mut buffer = Vec::with_capacity(LOOKUP_BUFFER_BYTES);
        self.stream.expect_silence().await?;
        let sent_at = Instant::now();
        let mut sent = 0;
        for (command, end) in commands.iter().zip(ends) {
            let (first, count) = (command.first, command.keys.len() - command.marks);
            let mut marks = vec![None; command.marks];
            let answer = Answer {
                values: Values::new(&command.keys),
                bytes: 0,
            };
            let show = |index: usize, value: Option<&[u8]>| match index.checked_sub(count) {
                None => found(first + index, value),
                Some(mark) => marks[mark] = value.map(<[u8]>::to_vec),
            };
            self.read_answer(&question, &mut sent, &mut buffer, answer, show)
                .await?;
            if sent < end {
                let misfit = Misfit::unquoted("an answer before its question");
                return Err(MemcachedError::OutOfStep(misfit));
            }
            if let [.., once, again] = &marks[..]
                && command.asks_again
                && once.is_some() != again.is_some()
            {
                let misfit = Misfit::unquoted("the answer to another command");
                return Err(MemcachedError::OutOfStep(misfit));
            }
            answered(first..first + count, sent_at, &marks);
        }
        match buffer.is_empty() {
            true => Ok(()),
            false => Err(MemcachedError::OutOfStep(too_much(&buffer))),
        }
    }

    /// Reads one answer from `buffer`, and what has to come to it, while the question is being sent:
    /// memcached reads no more of it as long as its answers are not taken.
    async fn read_answer(
        &mut self,
        question: &[u8],
        sent: &mut usize,
        buffer: &mut Vec<u8>,
        mut answer: Answer<'_>,
        mut show: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemcachedError> {
        let limit = self.timeout;
        loop {
            match answer.values.read_one(buffer, &mut show) {
                Ok(Progress::Whole(taken)) => {
                    buffer.drain(..taken);
                    return Ok(());
                }
                // Less than one reply is left, so there is always room to read more.
                Ok(Progress::Part(taken)) => drop(buffer.drain(..taken)),
                Err(misfit) => return Err(MemcachedError::OutOfStep(misfit)),
            }
            let exchange = poll_fn(|context| self.exchange(question, sent, buffer, context));
            match in_time(limit, exchange).await? {
                0 => return Err(MemcachedError::Closed),
                count => answer.bytes += count,
            }
            if answer.bytes > LOOKUP_ANSWER_BYTES_MAX {
                return Err(ENDLESS);
            }
        }
    }

    /// Sends what can be sent, and returns how much was read, as soon as there is something.
    fn exchange(
        &mut self,
        question: &[u8],
        sent: &mut usize,
        buffer: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, MemcachedError>> {
        let mut stream = Pin::new(&mut self.stream);
        while *sent < question.len() {
            match stream.as_mut().poll_write(context, &question[*sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(MemcachedError::Closed)),
                Poll::Ready(count) => *sent += count,
                Poll::Pending => break,
            }
        }
        // Of TLS some may be left to send, whatever was written.
        let _ = stream.as_mut().poll_flush(context)?;
        let mut read = pin!(stream.read_buf(buffer));
        read.as_mut().poll(context).map_err(Into::into)
    }
}

/// An answer that is being read.
struct Answer<'a> {
    values: Values<'a>,
    /// Bytes that were read while it was waited for.
    bytes: usize,
}

/// One command of a look-up.
struct Command<'a> {
    /// Those of users, then the marks.
    keys: Vec<Key<'a>>,
    /// How many of them are marks.
    marks: usize,
    /// The last mark is there twice.
    asks_again: bool,
    /// The number of the first key among those of the look-up.
    first: usize,
}

fn commands<'a>(keys: &[Key<'a>], marks: &[Key<'a>]) -> Vec<Command<'a>> {
    let commands = keys.chunks(KEYS_PER_GET_MAX).enumerate();
    let command = |(number, keys): (usize, &[Key<'a>])| {
        let again = marks.last().filter(|_| number % 2 == 1);
        let marks = marks.iter().chain(again).copied();
        Command {
            keys: keys.iter().copied().chain(marks.clone()).collect(),
            marks: marks.count(),
            asks_again: again.is_some(),
            first: number * KEYS_PER_GET_MAX,
        }
    };
    commands.map(command).collect()
}

async fn in_time<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, MemcachedError>>,
) -> Result<T, MemcachedError> {
    let done = timeout(limit, step).await;
    done.unwrap_or(Err(MemcachedError::Timeout(limit)))
}
