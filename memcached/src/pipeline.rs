//! The commands of one connection that wait for a reply, in order.
//!
//! memcached answers in the order of the commands; that is all there is to tell which reply is
//! whose ([`WriteCommand::Ms`]: whose group's). So anything that does not fit ends the connection:
//! the caller returns what is unanswered and never guesses.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;

use presenced_protocol::reply::{self, MetaStatus, Reply};
use presenced_protocol::{Limits, encode};

use super::misfit::Misfit;
use crate::limits::QUIET_GROUP_MAX;

/// How an entry is written. What is stored is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum WriteCommand {
    /// Every write is acknowledged; works with every memcached, and with everything else that speaks
    /// its protocol
    #[default]
    Set,
    /// Quiet meta sets: only failures are answered; an `mn` after each batch, and after every 128
    /// users, confirms everything before it. Less work for both sides; needs memcached 1.6.6 or later
    Ms,
}

/// What memcached said of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// It is not, for a reason of its own (`SERVER_ERROR`, `NOT_STORED`); the next may be.
    Refused,
}

/// Items (commands that write) in flight, oldest first.
#[derive(Debug)]
pub struct Pipeline<T> {
    command: WriteCommand,
    expected: VecDeque<T>,
    /// Of quiet commands, how many are before each `mn` that was sent, from the one before it.
    groups: VecDeque<usize>,
    /// How many are behind the last `mn`.
    open: usize,
    /// memcached has refused one of the oldest group.
    has_refused: bool,
    /// What it said of the first that it refused, until that is taken.
    refusal: Option<Vec<u8>>,
    limits: Limits,
}

impl<T> Default for Pipeline<T> {
    fn default() -> Pipeline<T> {
        Pipeline::new(WriteCommand::default())
    }
}

impl<T> Pipeline<T> {
    /// Empty; for commands of one kind.
    pub fn new(command: WriteCommand) -> Pipeline<T> {
        Pipeline {
            command,
            expected: VecDeque::new(),
            groups: VecDeque::new(),
            open: 0,
            has_refused: false,
            refusal: None,
            limits: Limits::default(),
        }
    }

    /// Notes that the command of `item` was sent after all those before it.
    pub fn push(&mut self, item: T) {
        self.expected.push_back(item);
        self.open += 1;
    }

    /// Whether an `mn` is to be sent before the next command: each answer shows that the node goes
    /// on.
    #[inline]
    #[must_use]
    pub fn is_group_full(&self) -> bool {
        self.open >= QUIET_GROUP_MAX && self.command == WriteCommand::Ms
    }

    /// Whether an `mn` is to be sent now, as otherwise nothing would be answered; notes that it
    /// was.
    #[must_use]
    pub fn close_group(&mut self) -> bool {
        let is_due = self.command == WriteCommand::Ms && self.open > 0;
        if is_due {
            self.groups.push_back(self.open);
        }
        self.open = 0;
        is_due
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
    ///
    /// Of quiet commands it is known that one was refused, but not which. So all of its group are
    /// [`Outcome::Refused`]: what is written again is not lost.
    ///
    /// # Errors
    ///
    /// If the input is no reply that fits the commands in flight.
    pub fn read(
        &mut self,
        input: &[u8],
        mut answered: impl FnMut(T, Outcome),
    ) -> Result<usize, Misfit> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            if self.command == WriteCommand::Set {
                let run = reply::stored_run(rest);
                if run > self.expected.len() {
                    return Err(Misfit::new(TOO_MANY, rest));
                }
                taken += run * b"STORED\r\n".len();
                self.answer(run, Outcome::Stored, &mut answered);
            }
            let rest = &input[taken..];
            let parsed = reply::parse(rest, &self.limits);
            let parsed = parsed.map_err(|_| Misfit::new("not a memcached reply", rest))?;
            let Some((reply, length)) = parsed else {
                return Ok(taken);
            };
            let fits = self.take(&reply, &mut answered);
            fits.map_err(|why| Misfit::new(why, &rest[..length]))?;
            taken += length;
        }
    }

    fn take(
        &mut self,
        reply: &Reply<&[u8]>,
        answered: &mut impl FnMut(T, Outcome),
    ) -> Result<(), &'static str> {
        use WriteCommand::{Ms, Set};
        if self.expected.is_empty() {
            return Err(TOO_MANY);
        }
        self.note_refusal(reply);
        match (self.command, reply) {
            (_, Reply::ServerError(why)) if !is_in_step(why) => {
                return Err("an error that may leave the value unread");
            }
            (Set, Reply::Stored) => self.answer(1, Outcome::Stored, answered),
            (Set, Reply::NotStored | Reply::ServerError(_)) => {
                self.answer(1, Outcome::Refused, answered);
            }
            (Ms, Reply::MetaNoop) => {
                let count = self.groups.pop_front().ok_or(TOO_MANY)?;
                let outcome = match std::mem::take(&mut self.has_refused) {
                    true => Outcome::Refused,
                    false => Outcome::Stored,
                };
                self.answer(count, outcome, answered);
            }
            (Ms, Reply::ServerError(_)) => self.has_refused = true,
            (Ms, Reply::Meta { status, .. }) if *status == MetaStatus::NotStored => {
                self.has_refused = true;
            }
            _ => return Err("not a reply to a command that writes"),
        }
        Ok(())
    }

    fn note_refusal(&mut self, reply: &Reply<&[u8]>) {
        let is_one = match reply {
            Reply::ServerError(_) | Reply::NotStored => true,
            Reply::Meta { status, .. } => *status == MetaStatus::NotStored,
            _ => false,
        };
        if is_one && self.refusal.is_none() {
            let mut line = Vec::new();
            encode::reply(&mut line, reply);
            self.refusal = Some(line);
        }
    }

    #[inline]
    fn answer(&mut self, count: usize, outcome: Outcome, answered: &mut impl FnMut(T, Outcome)) {
        for item in self.expected.drain(..count) {
            answered(item, outcome);
        }
    }

    /// memcached's reply to the first item that it refused since this was last asked.
    pub fn take_refusal(&mut self) -> Option<Vec<u8>> {
        self.refusal.take()
    }

    /// What was never answered, in order.
    pub fn into_unanswered(self) -> impl Iterator<Item = T> {
        self.expected.into_iter()
    }
}

const TOO_MANY: &str = "more replies than commands";

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
        let mut pipeline = Pipeline::new(WriteCommand::Set);
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

    /// With items 0, 1, … in groups of these sizes.
    fn quiet(groups: &[u32]) -> Pipeline<u32> {
        let mut pipeline = Pipeline::new(WriteCommand::Ms);
        let mut items = 0..;
        for &size in groups {
            items
                .by_ref()
                .take(size as usize)
                .for_each(|item| pipeline.push(item));
            assert!(pipeline.close_group());
        }
        pipeline
    }

    #[test]
    fn a_quiet_group_is_stored_when_its_mn_comes_and_no_one_was_refused() {
        let mut pipeline = quiet(&[2, 1, 2]);
        assert!(!pipeline.close_group(), "nothing was pushed since");
        pipeline.push(5);
        let mut seen = Vec::new();
        let input = b"MN\r\nSERVER_ERROR out of memory storing object\r\nMN\r\nMN\r\nM";
        let taken = pipeline.read(input, |item, outcome| seen.push((item, outcome)));
        assert_eq!(taken, Ok(input.len() - 1));
        use Outcome::{Refused, Stored};
        let expected = [
            (0, Stored),
            (1, Stored),
            (2, Refused),
            (3, Stored),
            (4, Stored),
        ];
        assert_eq!(seen, expected);
        assert_eq!(pipeline.into_unanswered().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn quiet_commands_are_answered_in_groups_and_others_one_by_one() {
        let mut quiet = Pipeline::new(WriteCommand::Ms);
        let mut full = Vec::new();
        for item in 1..=3 * QUIET_GROUP_MAX {
            quiet.push(item);
            if quiet.is_group_full() {
                assert!(quiet.close_group());
                full.push(item);
            }
        }
        assert_eq!(full, [1, 2, 3].map(|count| count * QUIET_GROUP_MAX));
        assert!(!quiet.close_group(), "nothing was pushed since");
        assert!(!pipeline(2 * QUIET_GROUP_MAX as u32).is_group_full());
    }

    #[test]
    fn one_refused_is_all_of_its_group() {
        let mut pipeline = quiet(&[3]);
        let mut refused = 0;
        let input = b"SERVER_ERROR object too large for cache\r\nNS \r\nMN\r\n";
        let taken = pipeline.read(input, |_, outcome| {
            refused += u32::from(outcome == Outcome::Refused);
        });
        assert_eq!((taken, refused), (Ok(input.len()), 3));
    }

    #[test]
    fn what_does_not_fit_quiet_commands_is_an_error() {
        for input in [
            "MN\r\nMN\r\n",
            "MN\r\nSERVER_ERROR out of memory storing object\r\n",
            "STORED\r\n",
            "HD\r\n",
            "ERROR\r\n",
            "CLIENT_ERROR bad data chunk\r\n",
            "SERVER_ERROR proxy write failed\r\n",
            "nonsense\r\n",
        ] {
            let read = quiet(&[1]).read(input.as_bytes(), |_, _| {});
            assert!(read.is_err(), "{input:?} gave {read:?}");
        }
        // Its `mn` has not been sent.
        let mut pipeline = Pipeline::new(WriteCommand::Ms);
        pipeline.push(1);
        assert!(pipeline.read(b"MN\r\n", |_, _| {}).is_err());
    }

    /// Of each item, whether it was refused, where replies come in pieces of `cut` bytes.
    fn refusals(pipeline: &mut Pipeline<u32>, input: &[u8], cut: usize) -> Vec<bool> {
        let (mut seen, mut buffer) = (Vec::new(), Vec::new());
        for piece in input.chunks(cut) {
            buffer.extend_from_slice(piece);
            let taken = pipeline.read(&buffer, |_, outcome| {
                seen.push(outcome == Outcome::Refused);
            });
            buffer.drain(..taken.unwrap());
        }
        assert!(buffer.is_empty());
        seen
    }

    proptest! {
        #[test]
        fn any_cut_of_quiet_replies_gives_the_same(
            groups in prop::collection::vec((1..9u32, any::<bool>()), 1..20),
            cut in 1..20usize,
        ) {
            let sizes: Vec<_> = groups.iter().map(|&(size, _)| size).collect();
            let mut pipeline = quiet(&sizes);
            let (mut input, mut expected) = (Vec::new(), Vec::new());
            for (size, refused) in groups {
                if refused {
                    input.extend_from_slice(b"SERVER_ERROR out of memory storing object\r\n");
                }
                input.extend_from_slice(b"MN\r\n");
                expected.extend((0..size).map(|_| refused));
            }
            prop_assert_eq!(refusals(&mut pipeline, &input, cut), expected);
            prop_assert!(pipeline.is_empty());
        }

        #[test]
        fn any_cut_gives_the_same(refused in prop::collection::vec(any::<bool>(), 1..40), cut in 1..20usize) {
            let mut input = Vec::new();
            for &refused in &refused {
                let reply: &[u8] = if refused { b"SERVER_ERROR out of memory\r\n" } else { b"STORED\r\n" };
                input.extend_from_slice(reply);
            }
            let mut pipeline = pipeline(refused.len() as u32);
            prop_assert_eq!(refusals(&mut pipeline, &input, cut), refused);
            prop_assert!(pipeline.is_empty());
        }
    }
}
