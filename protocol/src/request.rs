//! Requests: what a client asks, parsed as a server reads it.
//!
//! Behaves as memcached 1.6.18 does, bad requests included: which get which answer, and where the
//! next request begins after one. Lines may end in `\n` alone. Words are parted by spaces, and
//! there may be several.

use crate::{
    command::{self, Command, Refused, SetLine},
    key::Key,
    limits::Limits,
    line::{self, Line, Words},
};

pub use crate::error::BadRequest;

/// One request of `protocol.txt`, borrowed from the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get <key>*` and `gets <key>*` (*Retrieval command*).
    Get {
        /// At least one.
        keys: Keys<'a>,
        /// It was `gets`: replies carry the CAS number.
        with_cas: bool,
    },
    /// `set <key> <flags> <exptime> <bytes> [noreply]` and the value (*Storage commands*).
    Set {
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
    /// `version` (*Other commands*).
    Version,
    /// `stats [<argument>]` (*Statistics*).
    Stats {
        /// The word after it; further words are dropped.
        argument: Option<&'a [u8]>,
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

/// What stands at the start of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// The client said `noreply`: memcached says nothing then, not even that it went wrong.
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

/// The keys of a `get`: an iterator over the line, every key of which has been checked.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    /// Only made by the parser of the line, which has tried each word as a key.
    pub(crate) words: Words<'a>,
}

/// The first request in `input`.
///
/// Parsing again after more input costs the length of the request's line, never that of a value.
#[must_use]
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Parsed<'a> {
    let line = match first_line(input, limits) {
        Line::Incomplete => return Parsed::Incomplete,
        Line::TooLong => {
            return Parsed::Bad {
                answer: BadRequest::LineTooLong,
                noreply: false,
                consumed: input.len(),
                next: Next::Close,
            };
        }
        Line::Whole(line) => line,
    };
    match command::parse(line::trimmed(line), limits) {
        Ok(Command::Whole(request)) => Parsed::Request {
            request,
            consumed: line.len(),
        },
        Ok(Command::Set(set)) => set.with_data(input, line.len(), limits),
        Err(Refused { answer, noreply }) => Parsed::Bad {
            answer,
            noreply,
            consumed: line.len(),
            next: Next::Continue,
        },
    }
}

/// Only `get` and `gets` may have long lines, and which it is must show within a short one.
fn first_line<'a>(input: &'a [u8], limits: &Limits) -> Line<'a> {
    match line::first(input, limits.line_bytes_max) {
        Line::TooLong if is_get(&input[..limits.line_bytes_max]) => {
            line::first(input, limits.get_line_bytes_max.max(limits.line_bytes_max))
        }
        line => line,
    }
}

fn is_get(start: &[u8]) -> bool {
    let blanks = start.iter().take_while(|&&byte| byte == b' ').count();
    let text = &start[blanks..];
    text.starts_with(b"get ") || text.starts_with(b"gets ")
}

impl<'a> SetLine<'a> {
    /// The request, once its value is there.
    fn with_data(self, input: &'a [u8], line_bytes: usize, limits: &Limits) -> Parsed<'a> {
        let SetLine {
            key,
            flags,
            exptime,
            bytes,
            noreply,
        } = self;
        if bytes > limits.value_bytes_max {
            return Parsed::Bad {
                answer: BadRequest::TooLarge { key },
                noreply,
                consumed: line_bytes,
                next: Next::Swallow(bytes + 2),
            };
        }
        let consumed = line_bytes + bytes + 2;
        let Some(data) = input.get(line_bytes..consumed) else {
            return Parsed::Incomplete;
        };
        let Some(value) = data.strip_suffix(b"\r\n") else {
            return Parsed::Bad {
                answer: BadRequest::DataChunk,
                noreply,
                consumed,
                next: Next::Continue,
            };
        };
        Parsed::Request {
            request: Request::Set {
                key,
                flags,
                exptime,
                value,
                noreply,
            },
            consumed,
        }
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = Key<'a>;

    fn next(&mut self) -> Option<Key<'a>> {
        self.words.next().map(Key::checked_before)
    }
}

/// The same keys in the same order.
impl PartialEq for Keys<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl Eq for Keys<'_> {}
