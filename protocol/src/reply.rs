//! Replies: what a server answers, parsed as a client reads it.

use core::fmt;

pub use crate::parse::reply_parser::{Parser, parse, stored_run};
pub use crate::parse::skimmer::{Skimmed, Skimmer};
pub use crate::reply_error::{ReplyError, ReplyErrorKind};
use crate::reply_flag::ReplyFlags;

/// One reply of `protocol.txt`. Its byte strings are slices of the input (`Reply<&[u8]>`,
/// [`Parser::parse`], [`Skimmer::parse`]) or keep it alive (`Reply<Bytes>`, [`Parser::take`]).
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
        flags: ReplyFlags<B>,
    },
    /// `VA <bytes> <flags>*` and the value (*Meta Get*, *Meta Arithmetic*).
    MetaValue {
        /// The value.
        value: B,
        /// What was asked to be told.
        flags: ReplyFlags<B>,
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
#[non_exhaustive]
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
            Reply::Meta { status, flags } => Reply::Meta {
                status,
                flags: ReplyFlags(part(flags.0)),
            },
            Reply::MetaValue { value, flags } => Reply::MetaValue {
                value: part(value),
                flags: ReplyFlags(part(flags.0)),
            },
            Reply::MetaDebug { key, fields } => Reply::MetaDebug {
                key: part(key),
                fields: part(fields),
            },
            Reply::MetaNoop => Reply::MetaNoop,
        }
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
            Reply::Meta { status, flags } => write!(f, "Meta({status:?}, {flags:?})"),
            Reply::MetaValue { value, flags } => {
                write!(f, "MetaValue({}, {flags:?})", text(value))
            }
            Reply::MetaDebug { key, fields } => {
                write!(f, "MetaDebug({}, {})", text(key), text(fields))
            }
            Reply::MetaNoop => write!(f, "MetaNoop"),
        }
    }
}
