//! Replies: what a server answers, parsed as a client reads it.

use core::{fmt, ops::Range};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    limits::Limits,
    meta::Answers,
    reply_line::{self, Head},
    scan::{self, Line},
};

pub use crate::error::{ReplyError, ReplyErrorKind};

/// One reply of `protocol.txt`. Its byte strings are slices of the input (`Reply<&[u8]>`,
/// [`Parser::parse`]) or keep it alive (`Reply<Bytes>`, [`Parser::take`]).
///
/// A `get` is answered by one [`Reply::Value`] for each key that was found, then [`Reply::End`];
/// `stats` by [`Reply::Stat`]s, then [`Reply::End`]; every other command by one reply.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply<B> {
    /// `STORED`: it was stored (*Storage commands*).
    Stored,
    /// `NOT_STORED`: the condition of an `add` or `replace` was not met (*Storage commands*).
    NotStored,
    /// `EXISTS`: a `cas` came too late (*Storage commands*).
    Exists,
    /// `NOT_FOUND`: no such key, for `delete`, `touch`, `incr`, `decr` and `cas`.
    NotFound,
    /// `DELETED` (*Deletion*).
    Deleted,
    /// `TOUCHED` (*Touch*).
    Touched,
    /// `OK`: `flush_all` or `verbosity` was done (*Other commands*).
    Ok,
    /// `RESET`: `stats reset` was done (*Statistics*).
    Reset,
    /// `END`: no more values or statistics.
    End,
    /// `VALUE <key> <flags> <bytes> [<cas>]` and the value (*Retrieval command*).
    Value {
        /// The key, as it was asked for.
        key: B,
        /// What was stored with the value.
        flags: u32,
        /// The value.
        value: B,
        /// The item's CAS number; only `gets` and `gats` are told it.
        cas: Option<u64>,
    },
    /// What an `incr` or `decr` came to (*Increment/Decrement*).
    Number(u64),
    /// `STAT <name> <value>` (*Statistics*).
    Stat {
        /// Its name.
        name: B,
        /// The rest of the line.
        value: B,
    },
    /// `VERSION <text>` (*Other commands*).
    Version(B),
    /// `ERROR [<text>]`: no such command (*Error strings*). Text comes with it where there are too
    /// many connections.
    Error(B),
    /// `CLIENT_ERROR <text>`: the request was malformed (*Error strings*).
    ClientError(B),
    /// `SERVER_ERROR <text>`: the server could not do what was asked (*Error strings*).
    ServerError(B),
    /// `HD`, `EN`, `NF`, `NS`, `EX`, without a value (*Meta Get* to *Meta Arithmetic*).
    Meta {
        /// Which it is.
        status: MetaStatus,
        /// What was asked to be told.
        answers: Answers<B>,
    },
    /// `VA <bytes> <flags>*` and the value (*Meta Get*, *Meta Arithmetic*).
    MetaValue {
        /// The value.
        value: B,
        /// What was asked to be told.
        answers: Answers<B>,
    },
    /// `ME <key> <name>=<value>*` (*Meta Debug*).
    MetaDebug {
        /// The key, in base64 if it is binary.
        key: B,
        /// The rest of the line.
        fields: B,
    },
    /// `MN`: all before it is done (*Meta No-Op*).
    MetaNoop,
}

/// How a meta command ended (`protocol.txt`, *Meta Get* to *Meta Arithmetic*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaStatus {
    /// `HD`: it was done.
    Done,
    /// `EN`: `mg` and `me` found nothing.
    Miss,
    /// `NF`: there is no such item.
    NotFound,
    /// `NS`: the condition was not met.
    NotStored,
    /// `EX`: the CAS number did not match.
    Exists,
}

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
    /// The next reply has at least so many bytes.
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
        if input.starts_with(STORED) {
            self.reset();
            return Ok(Some((Reply::Stored, STORED.len())));
        }
        if let Some((reply, consumed)) = reply_line::usual(input, &self.limits) {
            self.reset();
            return Ok(Some((reply, consumed)));
        }
        self.parse_any(input)
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
        Ok(Some(match reply.map(place) {
            // Nothing is kept of these.
            Reply::Stored => {
                input.advance(consumed);
                Reply::Stored
            }
            Reply::End => {
                input.advance(consumed);
                Reply::End
            }
            reply => reply.within(input.split_to(consumed).freeze()),
        }))
    }

    /// Whatever stands there: what is not whole, not right, or not usual.
    #[cold]
    fn parse_any<'a>(&mut self, input: &'a [u8]) -> Parsed<Reply<&'a [u8]>> {
        if input.len() < self.need {
            return Ok(None);
        }
        let line = match scan::first_line(input, self.seen, self.limits.line_bytes_max) {
            Line::Incomplete => {
                (self.seen, self.need) = (input.len(), input.len() + 1);
                return Ok(None);
            }
            Line::TooLong => {
                let at = self.limits.line_bytes_max;
                return Err(ReplyErrorKind::LineTooLong.at(at));
            }
            Line::Whole(line) => line,
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

    #[inline]
    fn reset(&mut self) {
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

impl<B> Reply<B> {
    /// The same with each byte string put through `part`.
    #[inline]
    pub fn map<C>(self, mut part: impl FnMut(B) -> C) -> Reply<C> {
        match self {
            Reply::Stored => Reply::Stored,
            Reply::NotStored => Reply::NotStored,
            Reply::Exists => Reply::Exists,
            Reply::NotFound => Reply::NotFound,
            Reply::Deleted => Reply::Deleted,
            Reply::Touched => Reply::Touched,
            Reply::Ok => Reply::Ok,
            Reply::Reset => Reply::Reset,
            Reply::End => Reply::End,
            Reply::Value {
                key,
                flags,
                value,
                cas,
            } => Reply::Value {
                key: part(key),
                flags,
                value: part(value),
                cas,
            },
            Reply::Number(number) => Reply::Number(number),
            Reply::Stat { name, value } => Reply::Stat {
                name: part(name),
                value: part(value),
            },
            Reply::Version(text) => Reply::Version(part(text)),
            Reply::Error(text) => Reply::Error(part(text)),
            Reply::ClientError(text) => Reply::ClientError(part(text)),
            Reply::ServerError(text) => Reply::ServerError(part(text)),
            Reply::Meta { status, answers } => Reply::Meta {
                status,
                answers: Answers(part(answers.0)),
            },
            Reply::MetaValue { value, answers } => Reply::MetaValue {
                value: part(value),
                answers: Answers(part(answers.0)),
            },
            Reply::MetaDebug { key, fields } => Reply::MetaDebug {
                key: part(key),
                fields: part(fields),
            },
            Reply::MetaNoop => Reply::MetaNoop,
        }
    }
}

impl Reply<Range<usize>> {
    /// The reply whose byte strings stand at these places of `whole`.
    #[inline]
    fn within(self, mut whole: Bytes) -> Reply<Bytes> {
        match self {
            // Two counts of references are three with the general way, and this is what pulls do.
            Reply::Value {
                key,
                flags,
                value,
                cas,
            } => {
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
            reply => reply.map(|place| whole.slice(place)),
        }
    }
}

impl ReplyErrorKind {
    pub(crate) fn at(self, at: usize) -> ReplyError {
        ReplyError { kind: self, at }
    }
}

impl MetaStatus {
    /// Its two letters.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8; 2] {
        match self {
            MetaStatus::Done => b"HD",
            MetaStatus::Miss => b"EN",
            MetaStatus::NotFound => b"NF",
            MetaStatus::NotStored => b"NS",
            MetaStatus::Exists => b"EX",
        }
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for Reply<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &B| alloc::format!("\"{}\"", bytes.as_ref().escape_ascii());
        match self {
            Reply::Stored => write!(f, "Stored"),
            Reply::NotStored => write!(f, "NotStored"),
            Reply::Exists => write!(f, "Exists"),
            Reply::NotFound => write!(f, "NotFound"),
            Reply::Deleted => write!(f, "Deleted"),
            Reply::Touched => write!(f, "Touched"),
            Reply::Ok => write!(f, "Ok"),
            Reply::Reset => write!(f, "Reset"),
            Reply::End => write!(f, "End"),
            Reply::Value {
                key,
                flags,
                value,
                cas,
            } => {
                let (key, value) = (text(key), text(value));
                write!(f, "Value({key}, {flags}, {value}, {cas:?})")
            }
            Reply::Number(number) => write!(f, "Number({number})"),
            Reply::Stat { name, value } => write!(f, "Stat({}, {})", text(name), text(value)),
            Reply::Version(version) => write!(f, "Version({})", text(version)),
            Reply::Error(message) => write!(f, "Error({})", text(message)),
            Reply::ClientError(message) => write!(f, "ClientError({})", text(message)),
            Reply::ServerError(message) => write!(f, "ServerError({})", text(message)),
            Reply::Meta { status, answers } => write!(f, "Meta({status:?}, {answers:?})"),
            Reply::MetaValue { value, answers } => {
                write!(f, "MetaValue({}, {answers:?})", text(value))
            }
            Reply::MetaDebug { key, fields } => {
                write!(f, "MetaDebug({}, {})", text(key), text(fields))
            }
            Reply::MetaNoop => write!(f, "MetaNoop"),
        }
    }
}
