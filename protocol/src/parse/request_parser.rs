//! What finds requests in input; part of [`request`](crate::request).

use super::line::{Command, DataLine, Refused, Rest};
use super::{command, storage};
use crate::limits::Limits;
use crate::request::Received;
use crate::request_error::{BadRequest, BadRequestKind};
use crate::scan::{self, Line};

/// What stands at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// No whole request yet.
    Incomplete,
    /// A request.
    Request {
        /// What is asked.
        request: Received<'a>,
        /// How many bytes of the input it takes.
        consumed: usize,
    },
    /// What has come of the value of a request that was refused: there is nothing to do but to drop
    /// it.
    Swallowed {
        /// How many bytes of the input are done with; at least 1.
        consumed: usize,
        /// That was the last of it: the answer is due ([`Next::Swallow`]).
        ended: bool,
    },
    /// Something else.
    Bad {
        /// What was wrong with it, hence what to answer: [`BadRequest::reply`].
        answer: BadRequest<'a>,
        /// No answer is to be sent, not even that it went wrong: the client said `noreply`, or the answer
        /// is known from the line before the value.
        noreply: bool,
        /// How many bytes of the input are done with; at least 1.
        consumed: usize,
        /// How to go on.
        next: Next,
    },
}

/// How a server goes on after a bad request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It parses what follows what was consumed.
    Continue,
    /// The same, but the request's value comes first, which is [`Parsed::Swallowed`]. The answer is to be
    /// sent when that has ended, as memcached does: a client that is answered while it still writes may
    /// take the answer for another request's, and a proxy may give it to another client.
    Swallow,
    /// Where the next request begins can't be known: it answers and closes. The parser takes all that
    /// follows as [`Parsed::Swallowed`].
    Close,
}

/// Reads the requests of one connection.
///
/// The input always begins where the last request ended, and is given again, with more behind it,
/// while a request is not whole. The parser remembers how far it has looked, so input in small
/// pieces costs no more than whole; and what is still to come of a refused value, so each connection
/// needs one parser for all its life.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    limits: Limits,
    /// The first bytes of the input that hold no newline.
    seen: usize,
    /// The least number of bytes that the next request has.
    need: usize,
    /// Bytes still to come of the value of a request that was refused, before the value's line end; no
    /// end of them where that is not known.
    swallow: Option<usize>,
}

impl Parser {
    /// At the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Parser {
        Parser {
            limits,
            seen: 0,
            need: 0,
            swallow: None,
        }
    }

    /// The first request in `input`.
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        if input.is_empty() || input.len() < self.need {
            return Parsed::Incomplete;
        }
        if let Some(left) = self.swallow {
            return self.swallow(left, input);
        }
        let parsed = match storage::usual_set(input, &self.limits) {
            Some((data, line_bytes)) => self.with_data(data, input, line_bytes),
            None => self.parse_any(input),
        };
        if !matches!(parsed, Parsed::Incomplete) {
            (self.seen, self.need) = (0, 0);
        }
        parsed
    }

    /// The length of the request at the start of the input, where [`Parser::parse`] has found its line
    /// whole and its value not. 0 otherwise.
    #[must_use]
    pub fn need(&self) -> usize {
        if self.seen == 0 { self.need } else { 0 }
    }

    /// Refuses the value that has begun at the start of the input, for want of memory: it is answered
    /// and swallowed like one that is too large. `None` if it is a line that is not whole.
    #[cold]
    pub fn out_of_memory<'a>(&mut self, input: &'a [u8]) -> Option<Parsed<'a>> {
        let Line::Whole(line) = self.first_line(input) else {
            return None;
        };
        let Ok(Command::Data(data)) = command::parse(scan::trimmed(line)) else {
            return None;
        };
        (self.seen, self.need) = (0, 0);
        let (key, base64, removes) = data.target();
        let kind = BadRequestKind::OutOfMemory {
            key,
            base64,
            removes,
        };
        Some(self.refuse_value(kind, &data, line.len()))
    }

    fn parse_any<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        let line = match self.first_line(input) {
            Line::Incomplete => {
                (self.seen, self.need) = (input.len(), input.len() + 1);
                return Parsed::Incomplete;
            }
            Line::TooLong => {
                let (kind, at) = (BadRequestKind::LineTooLong, self.limits.line_bytes_max);
                return self.lost(BadRequest { kind, at }, false, input.len());
            }
            Line::Whole(line) => line,
        };
        match command::parse(scan::trimmed(line)) {
            Ok(Command::Whole(request)) => Parsed::Request {
                request,
                consumed: line.len(),
            },
            Ok(Command::Data(data)) => self.with_data(data, input, line.len()),
            Err(refused) => self.refuse(&refused, line),
        }
    }

    fn refuse<'a>(&mut self, refused: &Refused<'a>, line: &'a [u8]) -> Parsed<'a> {
        let (kind, at) = (refused.kind, scan::offset(refused.word, line));
        let (answer, noreply, consumed) = (BadRequest { kind, at }, refused.noreply, line.len());
        let next = match refused.followed_by {
            Rest::Request => Next::Continue,
            Rest::Value(bytes) => {
                self.swallow = Some(bytes);
                Next::Swallow
            }
            Rest::Unknown => return self.lost(answer, noreply, consumed),
        };
        Parsed::Bad {
            answer,
            noreply,
            consumed,
            next,
        }
    }

    /// For a value that does not end where its line said. memcached takes what follows for the next
    /// request; but so whoever writes the values of a client that counts characters for bytes writes
    /// commands, too.
    fn bad_chunk<'a>(&mut self, at: usize, noreply: bool, consumed: usize) -> Parsed<'a> {
        let kind = BadRequestKind::DataChunk;
        self.lost(BadRequest { kind, at }, noreply, consumed)
    }

    /// Whatever follows is no request, even if the caller does not close.
    fn lost<'a>(&mut self, answer: BadRequest<'a>, noreply: bool, consumed: usize) -> Parsed<'a> {
        self.swallow = Some(usize::MAX);
        Parsed::Bad {
            answer,
            noreply,
            consumed,
            next: Next::Close,
        }
    }

    /// Takes what has come of a refused value, of which `left` bytes and a line end were to come. One
    /// that does not end there has another length than its line said.
    #[cold]
    fn swallow<'a>(&mut self, left: usize, input: &'a [u8]) -> Parsed<'a> {
        let (consumed, swallow) = match input {
            [_, ..] if left > 0 => {
                let taken = left.min(input.len());
                (taken, Some(left - taken))
            }
            [b'\r', b'\n', ..] => (2, None),
            [] | [b'\r'] => return Parsed::Incomplete,
            // The answer is known from the line.
            _ => return self.bad_chunk(0, true, input.len()),
        };
        self.swallow = swallow;
        let ended = swallow.is_none();
        Parsed::Swallowed { consumed, ended }
    }

    /// Only requests for many keys may have long lines, and which it is must show within a short one.
    fn first_line<'a>(&self, input: &'a [u8]) -> Line<'a> {
        let short = self.limits.line_bytes_max;
        match scan::first_line(input, self.seen, short) {
            Line::TooLong if asks_for_keys(&input[..short]) => {
                let long = self.limits.get_line_bytes_max.max(short);
                scan::first_line(input, self.seen, long)
            }
            line => line,
        }
    }

    /// The request, once its value is there.
    fn with_data<'a>(
        &mut self,
        data: DataLine<'a>,
        input: &'a [u8],
        line_bytes: usize,
    ) -> Parsed<'a> {
        let (bytes, noreply) = (data.bytes, data.noreply);
        if bytes > self.limits.value_bytes_max {
            let (key, base64, removes) = data.target();
            let kind = BadRequestKind::TooLarge {
                key,
                base64,
                removes,
            };
            return self.refuse_value(kind, &data, line_bytes);
        }
        let consumed = line_bytes + bytes + 2;
        let Some(value_and_end) = input.get(line_bytes..consumed) else {
            (self.seen, self.need) = (0, consumed);
            return Parsed::Incomplete;
        };
        let Some(value) = value_and_end.strip_suffix(b"\r\n") else {
            return self.bad_chunk(line_bytes + bytes, noreply, consumed);
        };
        let request = data.with(value);
        Parsed::Request { request, consumed }
    }

    /// Refuses the value for its length, or for want of memory, and swallows it.
    #[cold]
    fn refuse_value<'a>(
        &mut self,
        kind: BadRequestKind<'a>,
        data: &DataLine<'a>,
        line_bytes: usize,
    ) -> Parsed<'a> {
        self.swallow = Some(data.bytes);
        let at = line_bytes;
        Parsed::Bad {
            answer: BadRequest { kind, at },
            noreply: data.noreply,
            consumed: line_bytes,
            next: Next::Swallow,
        }
    }
}

fn asks_for_keys(start: &[u8]) -> bool {
    let blanks = start.iter().take_while(|&&byte| byte == b' ').count();
    let text = &start[blanks..];
    [&b"get "[..], b"gets ", b"gat ", b"gats "]
        .iter()
        .any(|command| text.starts_with(command))
}
