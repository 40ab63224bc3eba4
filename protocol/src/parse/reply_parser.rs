//! What finds replies in input; part of [`reply`](crate::reply).

use bytes::{Buf, Bytes, BytesMut};

use super::reply_line::{self, Head};
use crate::limits::Limits;
use crate::reply::Reply;
use crate::reply_error::{ReplyError, ReplyErrorKind};
use crate::scan::{self, Line};

/// Reads the replies of one connection.
///
/// The input always begins where the last reply ended, and is given again, with more behind it,
/// while a reply is not whole. The parser remembers how far it has looked, so input in small pieces
/// costs no more than whole.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    limits: Limits,
    /// The first bytes of the input that hold no newline.
    seen: usize,
    /// The least number of bytes that the next reply has.
    need: usize,
}

const STORED: &[u8; 8] = b"STORED\r\n";

impl Parser {
    /// At the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Parser {
        Parser {
            limits,
            seen: 0,
            need: 0,
        }
    }

    /// The first reply in `input` and how many bytes it takes; `None` while it is not whole.
    ///
    /// Lines must end in `\r\n`.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] as soon as no further input can make this a reply within the limits: a value
    /// too large is refused at its line, before any of its data. The caller must close the
    /// connection.
    #[inline]
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Parsed<Reply<&'a [u8]>> {
        // Less than eight bytes leave no memory behind, so here there is none.
        if input.starts_with(STORED) {
            return Ok(Some((Reply::Stored, STORED.len())));
        }
        self.parse_other(input)
    }

    /// Takes the first reply out of `input`, if it is whole. Its byte strings share the buffer's
    /// memory, none is copied.
    ///
    /// # Errors
    ///
    /// As [`Parser::parse`].
    #[inline]
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Reply<Bytes>>, ReplyError> {
        let Some((reply, consumed)) = self.parse(input)? else {
            return Ok(None);
        };
        let place = |part: &[u8]| {
            // What is empty may be no piece of the input.
            let start = scan::offset(part, input).min(consumed - part.len());
            start..start + part.len()
        };
        Ok(Some(match reply {
            // What flushes get, of which nothing is kept.
            Reply::Stored => {
                input.advance(consumed);
                Reply::Stored
            }
            // What a `get` is answered: two counts of references, one less than in the general way.
            Reply::Value {
                key,
                flags,
                value,
                cas,
            } => {
                let (key, value) = (place(key), place(value));
                let mut whole = input.split_to(consumed).freeze();
                let key = whole.slice(key);
                whole.truncate(value.end);
                whole.advance(value.start);
                Reply::Value {
                    key,
                    flags,
                    value: whole,
                    cas,
                }
            }
            reply => {
                let reply = reply.map(place);
                let whole = input.split_to(consumed).freeze();
                reply.map(|place| whole.slice(place))
            }
        }))
    }

    // Not cold at all, but a branch that is not taken is what makes a run of `STORED` fast.
    #[cold]
    fn parse_other<'a>(&mut self, input: &'a [u8]) -> Parsed<Reply<&'a [u8]>> {
        match reply_line::usual(input, &self.limits) {
            Some(usual) => {
                self.reset();
                Ok(Some(usual))
            }
            None => self.parse_any(input),
        }
    }

    /// Whatever stands there: what is not whole, not right, or not usual.
    #[cold]
    fn parse_any<'a>(&mut self, input: &'a [u8]) -> Parsed<Reply<&'a [u8]>> {
        if input.len() < self.need {
            return Ok(None);
        }
        let Some(line) = self.line(input)? else {
            return Ok(None);
        };
        let (head, bytes) = match reply_line::parse(line)? {
            Head::Whole(reply) => {
                self.reset();
                return Ok(Some((reply, line.len())));
            }
            Head::Value(head, bytes) => (head, bytes),
        };
        let at = reply_line::bytes_at(line);
        let bytes = match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.limits.value_bytes_max => bytes,
            _ => return Err(ReplyErrorKind::ValueTooLarge { bytes }.at(at)),
        };
        let data = &input[line.len()..];
        match data.get(bytes..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                self.reset();
                let value = &data[..bytes];
                Ok(Some((head.with(value), line.len() + bytes + 2)))
            }
            [] | [b'\r'] => {
                // One byte behind the value may already be wrong.
                let byte = data.len().saturating_sub(bytes) + 1;
                self.need = line.len() + bytes + byte;
                Ok(None)
            }
            end => {
                let at = line.len() + bytes + usize::from(end[0] == b'\r');
                Err(ReplyErrorKind::ValueEnd.at(at))
            }
        }
    }

    /// The first line of `input`, once it is whole.
    pub(crate) fn line<'a>(&mut self, input: &'a [u8]) -> Result<Option<&'a [u8]>, ReplyError> {
        match scan::first_line(input, self.seen, self.limits.line_bytes_max) {
            Line::Incomplete => {
                if input.len() >= STORED.len() {
                    (self.seen, self.need) = (input.len(), input.len() + 1);
                }
                Ok(None)
            }
            Line::TooLong => {
                let at = self.limits.line_bytes_max;
                Err(ReplyErrorKind::LineTooLong.at(at))
            }
            Line::Whole(line) => Ok(Some(line)),
        }
    }

    #[inline]
    pub(crate) fn reset(&mut self) {
        (self.seen, self.need) = (0, 0);
    }
}

/// What a parser says: a reply and the bytes it takes, nothing yet, or an error.
type Parsed<R> = Result<Option<(R, usize)>, ReplyError>;

/// The first reply in `input`, as [`Parser::parse`] of a new parser.
///
/// Parsing again after more input costs the length of the reply's first line, never that of a value.
///
/// # Errors
///
/// As [`Parser::parse`].
#[inline]
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Parsed<Reply<&'a [u8]>> {
    Parser::new(*limits).parse(input)
}

/// How many whole `STORED\r\n` stand at the start of `input`.
///
/// A flush's replies are these and next to nothing else; comparing eight bytes at once takes a
/// fraction of what [`parse`] does.
#[must_use]
pub fn stored_run(input: &[u8]) -> usize {
    let (eights, _) = input.as_chunks::<{ STORED.len() }>();
    eights.iter().take_while(|&eight| eight == STORED).count()
}
