//! Replies: what a server answers, parsed as a client reads it.

use std::fmt;

use crate::{
    key::Key,
    limits::Limits,
    line::{self, Line},
    number,
};

pub use crate::error::ReplyError;

/// One reply of `protocol.txt`, borrowed from the input.
///
/// A `get` is answered by one [`Reply::Value`] for each key that was found, then [`Reply::End`];
/// `stats` by [`Reply::Stat`]s, then [`Reply::End`]; every other command by one reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `STORED`: a `set` was done (*Storage commands*).
    Stored,
    /// `NOT_STORED`: the condition of an `add` or `replace` was not met (*Storage commands*).
    NotStored,
    /// `EXISTS`: a `cas` came too late (*Storage commands*).
    Exists,
    /// `NOT_FOUND`: no such key, for `delete`, `touch` and `cas`.
    NotFound,
    /// `DELETED` (*Deletion*).
    Deleted,
    /// `TOUCHED` (*Touch*).
    Touched,
    /// `OK`: `flush_all` was done (*Other commands*).
    Ok,
    /// `END`: no more values or statistics.
    End,
    /// `VALUE <key> <flags> <bytes> [<cas>]` and the value (*Retrieval command*).
    Value {
        /// The key, as it was asked for.
        key: &'a [u8],
        /// What was stored with the value.
        flags: u32,
        /// The value.
        value: &'a [u8],
        /// The item's CAS number; only `gets` is told it.
        cas: Option<u64>,
    },
    /// `STAT <name> <value>` (*Statistics*).
    Stat {
        /// Its name.
        name: &'a [u8],
        /// The rest of the line.
        value: &'a [u8],
    },
    /// `VERSION <text>` (*Other commands*).
    Version(&'a [u8]),
    /// `ERROR`: no such command (*Error strings*). memcached also says `ERROR Too many open
    /// connections` before it hangs up; that text is dropped.
    Error,
    /// `CLIENT_ERROR <text>`: the request was malformed (*Error strings*).
    ClientError(&'a [u8]),
    /// `SERVER_ERROR <text>`: the server could not do what was asked (*Error strings*).
    ServerError(&'a [u8]),
}

/// The first reply in `input` and how many bytes it takes; `None` while it is not whole.
///
/// Lines must end in `\r\n`. Parsing again after more input costs the length of the reply's first
/// line, never that of a value.
///
/// # Errors
///
/// [`ReplyError`] as soon as no further input can make this a reply within `limits`: a value too
/// large is refused at its line, before any of its data. The caller must close the connection.
pub fn parse<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Reply<'a>, usize)>, ReplyError> {
    if input.starts_with(STORED) {
        return Ok(Some((Reply::Stored, STORED.len())));
    }
    let line = match line::first(input, limits.line_bytes_max) {
        Line::Incomplete => return Ok(None),
        Line::TooLong => return Err(ReplyError::LineTooLong),
        Line::Whole(line) => line,
    };
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return Err(ReplyError::LineEnd);
    };
    if let Some(fields) = text.strip_prefix(b"VALUE ") {
        return value(input, line.len(), fields, limits);
    }
    Ok(Some((one_line(text)?, line.len())))
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

const STORED: &[u8; 8] = b"STORED\r\n";

fn one_line(text: &[u8]) -> Result<Reply<'_>, ReplyError> {
    if text.contains(&b'\r') {
        return Err(ReplyError::LineEnd);
    }
    Ok(match text {
        b"STORED" => Reply::Stored,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Exists,
        b"NOT_FOUND" => Reply::NotFound,
        b"DELETED" => Reply::Deleted,
        b"TOUCHED" => Reply::Touched,
        b"OK" => Reply::Ok,
        b"END" => Reply::End,
        b"ERROR" => Reply::Error,
        _ => return text_line(text),
    })
}

fn text_line(text: &[u8]) -> Result<Reply<'_>, ReplyError> {
    let Some(space) = memchr::memchr(b' ', text) else {
        return Err(ReplyError::Unknown);
    };
    let (word, rest) = (&text[..space], &text[space + 1..]);
    match word {
        b"STAT" => stat(rest),
        b"VERSION" => Ok(Reply::Version(rest)),
        b"ERROR" => Ok(Reply::Error),
        b"CLIENT_ERROR" => Ok(Reply::ClientError(rest)),
        b"SERVER_ERROR" => Ok(Reply::ServerError(rest)),
        _ => Err(ReplyError::Unknown),
    }
}

fn stat(fields: &[u8]) -> Result<Reply<'_>, ReplyError> {
    match memchr::memchr(b' ', fields) {
        None | Some(0) => Err(ReplyError::Malformed),
        Some(space) => Ok(Reply::Stat {
            name: &fields[..space],
            value: &fields[space + 1..],
        }),
    }
}

/// A `VALUE` whose line is whole: `fields` is what follows the word on it.
fn value<'a>(
    input: &'a [u8],
    line_bytes: usize,
    fields: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Reply<'a>, usize)>, ReplyError> {
    let (key, flags, bytes, cas) = value_fields(fields).ok_or(ReplyError::Malformed)?;
    let bytes = match usize::try_from(bytes) {
        Ok(bytes) if bytes <= limits.value_bytes_max => bytes,
        _ => return Err(ReplyError::ValueTooLarge { bytes }),
    };
    let data = &input[line_bytes..];
    let Some(value) = data.get(..bytes) else {
        return Ok(None);
    };
    match data[bytes..] {
        [b'\r', b'\n', ..] => Ok(Some((
            Reply::Value {
                key,
                flags,
                value,
                cas,
            },
            line_bytes + bytes + 2,
        ))),
        [] | [b'\r'] => Ok(None),
        _ => Err(ReplyError::ValueEnd),
    }
}

/// `<key> <flags> <bytes> [<cas>]`
fn value_fields(fields: &[u8]) -> Option<(&[u8], u32, u64, Option<u64>)> {
    let mut words = fields.split(|&byte| byte == b' ');
    let key = Key::new(words.next()?).ok()?;
    let flags = number::written(words.next()?)?;
    let bytes = number::written(words.next()?)?;
    let cas = match words.next() {
        Some(word) => Some(number::written(word)?),
        None => None,
    };
    if words.next().is_some() {
        return None;
    }
    Some((key.as_bytes(), u32::try_from(flags).ok()?, bytes, cas))
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reply::Stored => write!(f, "Stored"),
            Reply::NotStored => write!(f, "NotStored"),
            Reply::Exists => write!(f, "Exists"),
            Reply::NotFound => write!(f, "NotFound"),
            Reply::Deleted => write!(f, "Deleted"),
            Reply::Touched => write!(f, "Touched"),
            Reply::Ok => write!(f, "Ok"),
            Reply::End => write!(f, "End"),
            Reply::Error => write!(f, "Error"),
            Reply::Value {
                key,
                flags,
                value,
                cas,
            } => f
                .debug_struct("Value")
                .field("key", &format_args!("\"{}\"", key.escape_ascii()))
                .field("flags", &flags)
                .field("value", &format_args!("\"{}\"", value.escape_ascii()))
                .field("cas", &cas)
                .finish(),
            Reply::Stat { name, value } => {
                write!(
                    f,
                    "Stat(\"{}\", \"{}\")",
                    name.escape_ascii(),
                    value.escape_ascii()
                )
            }
            Reply::Version(text) => write!(f, "Version(\"{}\")", text.escape_ascii()),
            Reply::ClientError(text) => write!(f, "ClientError(\"{}\")", text.escape_ascii()),
            Reply::ServerError(text) => write!(f, "ServerError(\"{}\")", text.escape_ascii()),
        }
    }
}
