//! Requests: what a client asks, parsed as a server reads it.
//!
//! Behaves as memcached 1.6.18 does, bad requests included: which get which answer, and where the
//! next request begins after one. Lines may end in `\n` alone. Words are parted by spaces, and
//! there may be several.

use crate::{
    command::{self, Command, DataLine, DataOf, Refused},
    key::Key,
    limits::Limits,
    meta::{Direction, Flags},
    scan::{self, Line},
};

pub use crate::{
    bad::{BadRequest, BadRequestKind},
    keys::Keys,
};

/// One request of `protocol.txt`, borrowed from the input; [`encode::request`](crate::encode::request)
/// writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `get <key>*` and `gets <key>*` (*Retrieval command*).
    Get {
        /// At least one.
        keys: Keys<'a>,
        /// It was `gets`: replies carry the CAS number.
        with_cas: bool,
    },
    /// `gat <exptime> <key>*` and `gats <exptime> <key>*` (*Get And Touch*).
    GetAndTouch {
        /// As in `set`.
        exptime: i64,
        /// There may be none: memcached answers `END`.
        keys: Keys<'a>,
        /// It was `gats`: replies carry the CAS number.
        with_cas: bool,
    },
    /// `<verb> <key> <flags> <exptime> <bytes> [<cas unique>] [noreply]` and the value (*Storage
    /// commands*).
    Store {
        /// Which of the six it is.
        verb: StoreVerb,
        /// Where to store.
        key: Key<'a>,
        /// To be given back with the value.
        flags: u32,
        /// As *Expiration times* has it: 0, negative, up to 30 days, or Unix time.
        exptime: i64,
        /// What to store, at most [`Limits::value_bytes_max`].
        value: &'a [u8],
        /// No answer is wanted.
        noreply: bool,
    },
    /// `incr <key> <value> [noreply]` and `decr <key> <value> [noreply]` (*Increment/Decrement*).
    Arithmetic {
        /// Which of the two it is.
        direction: Direction,
        /// Where the number is stored.
        key: Key<'a>,
        /// How much to add or subtract.
        delta: u64,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `touch <key> <exptime> [noreply]` (*Touch*).
    Touch {
        /// Whose expiry to change.
        key: Key<'a>,
        /// As in `set`.
        exptime: i64,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `delete <key> [0] [noreply]` (*Deletion*).
    Delete {
        /// What to remove.
        key: Key<'a>,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `mg <key> <flags>*` (*Meta Get*).
    MetaGet {
        /// What to look up; base64 with [`Flag::Base64Key`](crate::meta::Flag::Base64Key).
        key: Key<'a>,
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `ms <key> <bytes> <flags>*` and the value (*Meta Set*).
    MetaSet {
        /// Where to store; base64 likewise.
        key: Key<'a>,
        /// What to store, at most [`Limits::value_bytes_max`].
        value: &'a [u8],
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `md <key> <flags>*` (*Meta Delete*).
    MetaDelete {
        /// What to remove; base64 likewise.
        key: Key<'a>,
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `ma <key> <flags>*` (*Meta Arithmetic*).
    MetaArithmetic {
        /// Where the number is stored; base64 likewise.
        key: Key<'a>,
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `me <key> [b]` (*Meta Debug*).
    MetaDebug {
        /// What to describe.
        key: Key<'a>,
        /// The key is base64.
        base64: bool,
    },
    /// `mn` (*Meta No-Op*).
    MetaNoop,
    /// `version` (*Other commands*).
    Version,
    /// `verbosity <level> [noreply]` (*Other commands*).
    Verbosity {
        /// How much to log.
        level: u32,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `stats [<args>]` (*Statistics*).
    Stats {
        /// The words after it, often none.
        arguments: Keys<'a>,
    },
    /// `flush_all [delay] [noreply]` (*Other commands*).
    FlushAll {
        /// Seconds from now, or Unix time beyond 30 days. A delay of 0 or less is none.
        delay: Option<u32>,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `quit` (*Other commands*).
    Quit,
}

/// The storage commands (`protocol.txt`, *Storage commands*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// `set`: whatever was there.
    Set,
    /// `add`: only if there is nothing.
    Add,
    /// `replace`: only if there is something.
    Replace,
    /// `append`: after the value that is there; flags and expiry time stay.
    Append,
    /// `prepend`: before the value that is there; flags and expiry time stay.
    Prepend,
    /// `cas`: only if what is there has this CAS number.
    Cas {
        /// As `gets` told it.
        unique: u64,
    },
}

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

impl StoreVerb {
    /// The command's name.
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            StoreVerb::Set => b"set",
            StoreVerb::Add => b"add",
            StoreVerb::Replace => b"replace",
            StoreVerb::Append => b"append",
            StoreVerb::Prepend => b"prepend",
            StoreVerb::Cas { .. } => b"cas",
        }
    }
}
