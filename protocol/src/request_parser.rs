//! What finds requests in input; part of [`request`](crate::request).

use crate::{
    bad::{BadRequest, BadRequestKind},
    command::{self, Command, DataLine, DataOf, Refused},
    limits::Limits,
    request::{Request, StoreVerb},
    scan::{self, Line},
};

/// What stands at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// No whole request yet.
    Incomplete,
    /// A request.
    Request {
        /// What is asked.
        request: Request<'a>,
        /// How many bytes of the input it takes.
        consumed: usize,
    },
    /// Something else.
    Bad {
        /// What was wrong with it, hence what to answer: [`BadRequest::reply`].
        answer: BadRequest<'a>,
        /// memcached says nothing then, not even that it went wrong: the client said `noreply`.
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
    /// The next request begins after what was consumed.
    Continue,
    /// So many bytes are to be thrown away after what was consumed, as they come in.
    Swallow(usize),
    /// Where the next request begins can't be known: answer and close.
    Close,
}

/// Reads the requests of one connection.
///
/// The input always begins where the last request ended, and is given again, with more behind it,
/// while a request is not whole. The parser remembers how far it has looked, so input in small
/// pieces costs no more than whole.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    limits: Limits,
    /// The first bytes of the input that hold no newline.
    seen: usize,
    /// The next request has at least so many bytes.
    need: usize,
}

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

    /// The first request in `input`.
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        if input.len() < self.need {
            return Parsed::Incomplete;
        }
        let parsed = match command::usual_set(input, &self.limits) {
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
                let at = self.limits.line_bytes_max;
                let kind = BadRequestKind::LineTooLong;
                return Parsed::Bad {
                    answer: BadRequest { kind, at },
                    noreply: false,
                    consumed: input.len(),
                    next: Next::Close,
                };
            }
            Line::Whole(line) => line,
        };
        match command::parse(scan::trimmed(line), &self.limits) {
            Ok(Command::Whole(request)) => Parsed::Request {
                request,
                consumed: line.len(),
            },
            Ok(Command::Data(data)) => self.with_data(data, input, line.len()),
            Err(refused) => refused.parsed(line),
        }
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
        let DataLine {
            key,
            bytes,
            noreply,
            of,
        } = data;
        if bytes > self.limits.value_bytes_max {
            let (base64, removes) = match of {
                DataOf::Store { verb, .. } => (false, verb == StoreVerb::Set),
                DataOf::Meta(flags) => (flags.has(b'b'), true),
            };
            let kind = BadRequestKind::TooLarge {
                key,
                base64,
                removes,
            };
            return Parsed::Bad {
                answer: BadRequest {
                    kind,
                    at: line_bytes,
                },
                noreply,
                consumed: line_bytes,
                next: Next::Swallow(bytes + 2),
            };
        }
        let consumed = line_bytes + bytes + 2;
        let Some(data) = input.get(line_bytes..consumed) else {
            self.need = consumed;
            return Parsed::Incomplete;
        };
        let Some(value) = data.strip_suffix(b"\r\n") else {
            let (kind, at) = (BadRequestKind::DataChunk, line_bytes + bytes);
            return Parsed::Bad {
                answer: BadRequest { kind, at },
                noreply,
                consumed,
                next: Next::Continue,
            };
        };
        let request = match of {
            DataOf::Store {
                verb,
                flags,
                exptime,
            } => Request::Store {
                verb,
                key,
                flags,
                exptime,
                value,
                noreply,
            },
            DataOf::Meta(flags) => Request::MetaSet { key, value, flags },
        };
        Parsed::Request { request, consumed }
    }
}

/// The first request in `input`, as [`Parser::parse`] of a new parser.
///
/// Parsing again after more input costs the length of the request's line, never that of a value.
#[must_use]
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Parsed<'a> {
    Parser::new(*limits).parse(input)
}

fn asks_for_keys(start: &[u8]) -> bool {
    let blanks = start.iter().take_while(|&&byte| byte == b' ').count();
    let text = &start[blanks..];
    [&b"get "[..], b"gets ", b"gat ", b"gats "]
        .iter()
        .any(|command| text.starts_with(command))
}

impl<'a> Refused<'a> {
    fn parsed(self, line: &'a [u8]) -> Parsed<'a> {
        let kind = self.kind;
        let at = scan::offset(self.word, line);
        let next = match (kind, self.swallow) {
            (BadRequestKind::Http, _) => Next::Close,
            (_, Some(bytes)) => Next::Swallow(bytes),
            (_, None) => Next::Continue,
        };
        Parsed::Bad {
            answer: BadRequest { kind, at },
            noreply: self.noreply,
            consumed: line.len(),
            next,
        }
    }
}
