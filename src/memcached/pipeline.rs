//! The commands of one connection that wait for a reply, in order.
//!
//! memcached answers in the order of the commands; that is all there is to tell which reply is
//! whose. So anything that does not fit ends the connection: the caller returns what is unanswered
//! and never guesses.

use std::collections::VecDeque;

use presenced_protocol::Limits;
use presenced_protocol::reply::{self, Reply};

/// What memcached said of one `set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// It is not, for a reason of its own (`SERVER_ERROR`, `NOT_STORED`); the next may be.
    Refused,
}

/// Items (`set` commands) in flight, oldest first.
#[derive(Debug)]
pub struct Pipeline<T> {
    expected: VecDeque<T>,
    limits: Limits,
}

impl<T> Default for Pipeline<T> {
    fn default() -> Pipeline<T> {
        Pipeline {
            expected: VecDeque::new(),
            limits: Limits::default(),
        }
    }
}

impl<T> Pipeline<T> {
    /// Notes that the command of `item` was sent after all those before it.
    pub fn push(&mut self, item: T) {
        self.expected.push_back(item);
    }

    /// Commands without a reply.
    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// Whether every command has its reply.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    /// Matches the whole replies at the start of `input` and returns the bytes they took; the
    /// rest is to be given again with more behind it. An error means: close the connection.
    pub fn read(
        &mut self,
        input: &[u8],
        mut answered: impl FnMut(T, Outcome),
    ) -> Result<usize, &'static str> {
        let mut taken = 0;
        loop {
            let run = reply::stored_run(&input[taken..]);
            if run > self.expected.len() {
                return Err("more replies than commands");
            }
            taken += run * b"STORED\r\n".len();
            for item in self.expected.drain(..run) {
                answered(item, Outcome::Stored);
            }
            let parsed = reply::parse(&input[taken..], &self.limits);
            let Some((reply, length)) = parsed.map_err(|_| "not a memcached reply")? else {
                return Ok(taken);
            };
            let outcome = match reply {
                Reply::Stored => Outcome::Stored,
                Reply::NotStored => Outcome::Refused,
                Reply::ServerError(why) if is_in_step(why) => Outcome::Refused,
                Reply::ServerError(_) => return Err("an error that may leave the value unread"),
                _ => return Err("not a reply to a set"),
            };
            let item = self
                .expected
                .pop_front()
                .ok_or("a reply without a command")?;
            answered(item, outcome);
            taken += length;
        }
    }

    /// What was never answered, in order.
    pub fn into_unanswered(self) -> impl Iterator<Item = T> {
        self.expected.into_iter()
    }
}

/// Whether memcached has read, or will skip, the value of the `set` that it answers so. Of another
/// error that is not known: it might take the value for commands.
fn is_in_step(server_error: &[u8]) -> bool {
    server_error.starts_with(b"out of memory") || server_error == b"object too large for cache"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pipeline(count: u32) -> Pipeline<u32> {
        let mut pipeline = Pipeline::default();
        (0..count).for_each(|item| pipeline.push(item));
        pipeline
    }

    #[test]
    fn replies_are_matched_in_order() {
        let mut pipeline = pipeline(5);
        let mut seen = Vec::new();
        let input =
            b"STORED\r\nSTORED\r\nSERVER_ERROR out of memory storing object\r\nSTORED\r\nSTO";
        let taken = pipeline.read(input, |item, outcome| seen.push((item, outcome)));
        assert_eq!(taken, Ok(input.len() - 3));
        use Outcome::{Refused, Stored};
        assert_eq!(seen, [(0, Stored), (1, Stored), (2, Refused), (3, Stored)]);
        assert_eq!(pipeline.into_unanswered().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for input in [
            "STORED\r\nSTORED\r\n",
            "ERROR\r\n",
            "SERVER_ERROR proxy write failed\r\n",
            "CLIENT_ERROR bad data chunk\r\n",
            "END\r\n",
            "VALUE a 0 1\r\nx\r\n",
            "nonsense\r\n",
        ] {
            let read = pipeline(1).read(input.as_bytes(), |_, _| {});
            assert!(read.is_err(), "{input:?} gave {read:?}");
        }
        assert!(pipeline(0).read(b"SERVER_ERROR x\r\n", |_, _| {}).is_err());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(refused in prop::collection::vec(any::<bool>(), 1..40), cut in 1..20usize) {
            let mut input = Vec::new();
            for &refused in &refused {
                let reply: &[u8] = if refused { b"SERVER_ERROR out of memory\r\n" } else { b"STORED\r\n" };
                input.extend_from_slice(reply);
            }
            let mut pipeline = pipeline(refused.len() as u32);
            let (mut seen, mut buffer) = (Vec::new(), Vec::new());
            for piece in input.chunks(cut) {
                buffer.extend_from_slice(piece);
                let taken = pipeline.read(&buffer, |_, outcome| seen.push(outcome == Outcome::Refused));
                buffer.drain(..taken.unwrap());
            }
            prop_assert_eq!(seen, refused);
            prop_assert!(pipeline.is_empty() && buffer.is_empty());
        }
    }
}
