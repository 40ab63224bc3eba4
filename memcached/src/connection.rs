//! A connection that asks and waits for the answer, one exchange after another: for what is asked seldom.

use bytes::{Buf, Bytes, BytesMut};
use presenced_protocol::reply::{self, Reply};
use presenced_protocol::{Key, Limits, Request, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::greeting::greet;
use crate::limits::PROBE_ANSWER_BYTES_MAX;
use crate::reader::ENDLESS;
use crate::stream::Stream;
use crate::values::{Progress, Values};
use crate::{MemcachedError, Misfit, Node};

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    inbox: BytesMut,
    /// Bytes that came since the last command.
    answered: usize,
    parser: reply::Parser,
    /// Of one answer.
    answer_bytes_max: usize,
}

impl Connection {
    /// Connects and greets; for short answers without values.
    pub(crate) async fn dial(node: &Node) -> Result<Connection, MemcachedError> {
        // Values are read by `Connection::values`.
        Connection::dial_for(node, 0, PROBE_ANSWER_BYTES_MAX).await
    }

    /// The same for answers of `answer_bytes_max` at most. [`Connection::reply`] takes values of
    /// `value_bytes_max`.
    pub(crate) async fn dial_for(
        node: &Node,
        value_bytes_max: usize,
        answer_bytes_max: usize,
    ) -> Result<Connection, MemcachedError> {
        let mut stream = node.dial().await?;
        greet(&mut stream, node).await?;
        Ok(Connection {
            stream,
            inbox: BytesMut::new(),
            answered: 0,
            parser: reply::Parser::new(Limits {
                value_bytes_max,
                ..Limits::default()
            }),
            answer_bytes_max,
        })
    }

    /// Sends `requests` at once. Nothing may be left to read.
    pub(crate) async fn send(&mut self, requests: &[Request<'_>]) -> Result<(), MemcachedError> {
        let mut commands = Vec::new();
        for request in requests {
            encode::request(&mut commands, request);
        }
        self.send_bytes(&commands).await
    }

    /// The same, already encoded.
    pub(crate) async fn send_bytes(&mut self, commands: &[u8]) -> Result<(), MemcachedError> {
        if !self.inbox.is_empty() {
            return Err(out_of_step(UNASKED, &self.inbox));
        }
        self.stream.expect_silence().await?;
        self.answered = 0;
        self.stream.write_all(commands).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply<Bytes>, MemcachedError> {
        loop {
            let taken = self.parser.take(&mut self.inbox);
            let taken = taken.map_err(|_| out_of_step("not a memcached reply", &self.inbox));
            match taken? {
                Some(reply) => return Ok(reply),
                None if self.answered > self.answer_bytes_max => return Err(ENDLESS),
                None => {}
            }
            match self.stream.read_buf(&mut self.inbox).await? {
                0 => return Err(MemcachedError::Closed),
                count => self.answered += count,
            }
        }
    }

    /// The answer to a `get` of `keys`: the value of each, empty if it is longer than a look-up
    /// shows.
    pub(crate) async fn values(
        &mut self,
        keys: &[Key<'_>],
    ) -> Result<Vec<Option<Vec<u8>>>, MemcachedError> {
        let (mut values, mut found) = (Values::new(keys), vec![None; keys.len()]);
        loop {
            let read = values.read(&self.inbox, |index, value| {
                found[index] = Some(value.unwrap_or_default().to_vec());
            });
            match read.map_err(MemcachedError::OutOfStep)? {
                Progress::Part(taken) => self.inbox.advance(taken),
                Progress::Whole(_) => {
                    self.inbox.clear();
                    return Ok(found);
                }
            }
            if self.answered > self.answer_bytes_max {
                return Err(ENDLESS);
            }
            match self.stream.read_buf(&mut self.inbox).await? {
                0 => return Err(MemcachedError::Closed),
                count => self.answered += count,
            }
        }
    }

    /// Waits for the connection to end, or for something that was not asked for.
    pub(crate) async fn end(&mut self) -> MemcachedError {
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) => MemcachedError::Closed,
            Ok(_) => out_of_step(UNASKED, &self.inbox),
            Err(error) => error.into(),
        }
    }
}

const UNASKED: &str = "a reply without a command";

const NO_ANSWER: &str = "not an answer to the question";

/// What is not an answer to what was asked, where there are no words.
pub(crate) const FOREIGN: MemcachedError = MemcachedError::OutOfStep(Misfit::unquoted(NO_ANSWER));

/// The same of a reply.
pub(crate) fn foreign(reply: &Reply<Bytes>) -> MemcachedError {
    let mut line = Vec::new();
    encode::reply_bytes(&mut line, reply);
    out_of_step(NO_ANSWER, &line)
}

fn out_of_step(why: &'static str, said: &[u8]) -> MemcachedError {
    MemcachedError::OutOfStep(Misfit::new(why, said))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::writer::tests::node;

    const PAUSE: Duration = Duration::from_millis(100);

    /// Asks two questions of a node that has said `unasked` by the second one, `PAUSE` after the
    /// first answer, or at once with it; the second answer.
    async fn second_answer(
        unasked: &'static [u8],
        at_once: bool,
    ) -> Result<Reply<Bytes>, MemcachedError> {
        let node = node(move |mut stream| async move {
            let mut asked = [0; 64];
            // The greeting, and the first question.
            for answer in [b"VERSION 1\r\n", b"VERSION 2\r\n"] {
                assert!(stream.read(&mut asked).await.unwrap() > 0);
                let said = match (answer, at_once) {
                    (b"VERSION 2\r\n", true) => [answer, unasked].concat(),
                    _ => answer.to_vec(),
                };
                stream.write_all(&said).await.unwrap();
            }
            if !at_once {
                sleep(PAUSE).await;
                stream.write_all(unasked).await.unwrap();
            }
            if stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                let _ = stream.write_all(b"VERSION 3\r\n").await;
            }
        });
        let mut connection = Connection::dial(&node).await.unwrap();
        connection.send(&[Request::Version]).await.unwrap();
        let first = connection.reply().await.unwrap();
        assert_eq!(first, Reply::Version(Bytes::from_static(b"2")));
        sleep(2 * PAUSE).await;
        connection.send(&[Request::Version]).await?;
        connection.reply().await
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_before_a_question_is_not_taken_for_its_answer() {
        for at_once in [true, false] {
            let answer = second_answer(b"", at_once).await.unwrap();
            assert_eq!(answer, Reply::Version(Bytes::from_static(b"3")));
            // Whole replies, and the start of one.
            for unasked in [&b"VERSION 9\r\n"[..], b"VERSION 9\r\nVER", b"VERSION 9"] {
                let error = second_answer(unasked, at_once).await.unwrap_err();
                assert!(matches!(error, MemcachedError::OutOfStep(_)), "{error}");
                assert!(error.to_string().contains("a reply without a"), "{error}");
            }
        }
    }
}
