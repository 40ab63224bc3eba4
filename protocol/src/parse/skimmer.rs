//! Replies without their large values; part of [`reply`](crate::reply).

use super::reply_line::{self, Head};
use super::reply_parser::Parser;
use crate::limits::{ITEM_BYTES_MAX, Limits};
use crate::reply::Reply;
use crate::reply_error::{ReplyError, ReplyErrorKind};

/// Reads the replies of one connection as [`Parser`] does, but passes over values longer than
/// [`Limits::value_bytes_max`] as they come in, where a parser gives up.
///
/// Whatever a server has stored, the caller never waits for more than one line and one value within
/// the limits.
#[derive(Clone, Debug, Default)]
pub struct Skimmer {
    parser: Parser,
    /// Bytes still to come of the value that is passed over, the line end behind it included.
    left: usize,
    /// All bytes of the reply that has this value.
    reply_bytes: usize,
}

/// What a [`Skimmer`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skimmed<'a> {
    /// A whole reply.
    Whole(Reply<&'a [u8]>),
    /// The line of a reply whose value is too long, and is passed over.
    Large {
        /// The reply as if its value were empty.
        head: Reply<&'a [u8]>,
        /// How long the value is.
        bytes: usize,
    },
}

impl Skimmer {
    /// At the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Skimmer {
        Skimmer {
            parser: Parser::new(limits),
            left: 0,
            reply_bytes: 0,
        }
    }

    /// The first reply in `input`, if it is whole, and how many bytes are done with. These are not to
    /// be given again, even if there is no reply: what is passed over counts, too.
    ///
    /// # Errors
    ///
    /// As [`Parser::parse`]; but a value is too large only if it is longer than memcached could have,
    /// [`ITEM_BYTES_MAX`].
    #[inline]
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        if self.left == 0 {
            return self.reply(input);
        }
        let passed = self.pass_over(input)?;
        if self.left > 0 {
            return Ok((None, passed));
        }
        let (reply, taken) = self.reply(&input[passed..])?;
        Ok((reply, passed + taken))
    }

    #[inline]
    fn reply<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        match self.parser.parse(input) {
            Ok(Some((reply, taken))) => Ok((Some(Skimmed::Whole(reply)), taken)),
            Ok(None) => Ok((None, 0)),
            Err(error) => self.large(input, error),
        }
    }

    /// Whether `error` is no more than a value over the limits.
    #[cold]
    fn large<'a>(&mut self, input: &'a [u8], error: ReplyError) -> Parsed<'a> {
        let ReplyErrorKind::ValueTooLarge { bytes } = error.kind else {
            return Err(error);
        };
        let bytes = usize::try_from(bytes).map_err(|_| error)?;
        if bytes > ITEM_BYTES_MAX {
            return Err(error);
        }
        let line = self.parser.line(input)?.ok_or(error)?;
        let Head::Value(head, _) = reply_line::parse(line)? else {
            return Err(error);
        };
        self.left = bytes + LINE_END.len();
        self.reply_bytes = line.len() + self.left;
        // It knows no more than how far it has looked at this reply.
        self.parser.reset();
        let head = head.with(b"");
        Ok((Some(Skimmed::Large { head, bytes }), line.len()))
    }

    /// How many bytes at the start of `input` belong to the value that is passed over.
    fn pass_over(&mut self, input: &[u8]) -> Result<usize, ReplyError> {
        let mut passed = input.len().min(self.left.saturating_sub(LINE_END.len()));
        self.left -= passed;
        // What is left of the input, if anything, begins with the line end.
        for &byte in &input[passed..] {
            if self.left == 0 {
                break;
            }
            if byte != LINE_END[LINE_END.len() - self.left] {
                return Err(ReplyErrorKind::ValueEnd.at(self.reply_bytes - self.left));
            }
            self.left -= 1;
            passed += 1;
        }
        Ok(passed)
    }
}

const LINE_END: &[u8; 2] = b"\r\n";

/// What a skimmer says: a reply or none yet, and the bytes that are done with; or an error.
type Parsed<'a> = Result<(Option<Skimmed<'a>>, usize), ReplyError>;
