//! What finds requests in input; part of [`request`](crate::request).

use super::line::{Command, DataLine, DataOf, Refused, Rest};
use super::{command, storage};
use crate::limits::Limits;
use crate::request::{Received, StoreVerb};
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
    },
    /// Something else.
    Bad {
        /// What was wrong with it, hence what to answer: [`BadRequest::reply`].
        answer: BadRequest<'a>,
        /// No answer is to be sent, not even that it went wrong: the client said `noreply`, or the answer
        /// was given before the value came.
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
        if input.len() < self.need {
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
        match command::parse(scan::trimmed(line), &self.limits) {
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
        match refused.followed_by {
            Rest::Request => {}
            Rest::Value(bytes) => self.swallow = Some(bytes),
            Rest::Unknown => return self.lost(answer, noreply, consumed),
        }
        Parsed::Bad {
            answer,
            noreply,
            consumed,
            next: Next::Continue,
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
            // The answer was given at the line.
            _ => return self.bad_chunk(0, true, input.len()),
        };
        self.swallow = swallow;
        Parsed::Swallowed { consumed }
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
            return self.too_large(&data, line_bytes);
        }
        let consumed = line_bytes + bytes + 2;
        let Some(value_and_end) = input.get(line_bytes..consumed) else {
            self.need = consumed;
            return Parsed::Incomplete;
        };
        let Some(value) = value_and_end.strip_suffix(b"\r\n") else {
            return self.bad_chunk(line_bytes + bytes, noreply, consumed);
        };
        let request = data.with(value);
        Parsed::Request { request, consumed }
    }

    /// Answers at the line, and swallows the value.
    #[cold]
    fn too_large<'a>(&mut self, data: &DataLine<'a>, line_bytes: usize) -> Parsed<'a> {
        self.swallow = Some(data.bytes);
        let (base64, removes) = match data.of {
            DataOf::Store { verb, .. } => (false, verb == StoreVerb::Set),
            DataOf::Meta(flags) => (flags.has(b'b'), true),
        };
        let kind = BadRequestKind::TooLarge {
            key: data.key,
            base64,
            removes,
        };
        let at = line_bytes;
        Parsed::Bad {
            answer: BadRequest { kind, at },
            noreply: data.noreply,
            consumed: line_bytes,
            next: Next::Continue,
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
