//! What can be wrong with what the other side sent.

use std::{error::Error, fmt};

use crate::{key::Key, reply::Reply};

/// Why the input is not a memcached reply. The connection is of no more use: where the next reply
/// would begin can't be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// No line end within [`Limits::line_bytes_max`](crate::Limits::line_bytes_max).
    LineTooLong,
    /// A line that ends in `\n` without `\r`, or with a `\r` inside.
    LineEnd,
    /// A line that begins with no reply known here.
    Unknown,
    /// A `VALUE` or `STAT` line that lacks a field, or has one that can't be.
    Malformed,
    /// A `VALUE` longer than [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
    ValueTooLarge {
        /// What its line says.
        bytes: u64,
    },
    /// The value is not followed by `\r\n`.
    ValueEnd,
}

/// What was wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRequest<'a> {
    /// No such command, or one with too few or too many words.
    Unknown,
    /// A key too long or with a control byte, or a number that is none.
    LineFormat,
    /// `delete` with words it doesn't know.
    DeleteUsage,
    /// The expiry time of a `touch`, or the delay of a `flush_all`, is not a number.
    Exptime,
    /// More keys than [`Limits::keys_max`](crate::Limits::keys_max).
    TooManyKeys,
    /// The value is not followed by a line end where its length says.
    DataChunk,
    /// The value is over [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
    TooLarge {
        /// memcached removes what was stored here before: better nothing than something stale.
        key: Key<'a>,
    },
    /// No line end within [`Limits::line_bytes_max`](crate::Limits::line_bytes_max), nor, for `get`
    /// and `gets`, within [`Limits::get_line_bytes_max`](crate::Limits::get_line_bytes_max).
    LineTooLong,
}

impl BadRequest<'_> {
    /// What memcached answers.
    #[must_use]
    pub fn reply(&self) -> Reply<'static> {
        match self {
            BadRequest::Unknown => Reply::Error,
            BadRequest::LineFormat => Reply::ClientError(b"bad command line format"),
            BadRequest::DeleteUsage => {
                Reply::ClientError(b"bad command line format.  Usage: delete <key> [noreply]")
            }
            BadRequest::Exptime => Reply::ClientError(b"invalid exptime argument"),
            BadRequest::TooManyKeys => Reply::ClientError(b"too many keys"),
            BadRequest::DataChunk => Reply::ClientError(b"bad data chunk"),
            BadRequest::TooLarge { .. } => Reply::ServerError(b"object too large for cache"),
            BadRequest::LineTooLong => Reply::ClientError(b"line too long"),
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::LineTooLong => write!(f, "memcached's reply has a line that is too long"),
            ReplyError::LineEnd => {
                write!(f, "memcached's reply has a line that does not end in CR LF")
            }
            ReplyError::Unknown => write!(f, "memcached's reply is of no known kind"),
            ReplyError::Malformed => write!(
                f,
                "memcached's reply has a VALUE or STAT line with bad fields"
            ),
            ReplyError::ValueTooLarge { bytes } => {
                write!(
                    f,
                    "memcached's reply has a value of {bytes} bytes, over the limit"
                )
            }
            ReplyError::ValueEnd => write!(
                f,
                "memcached's reply has a value that does not end in CR LF"
            ),
        }
    }
}

impl Error for ReplyError {}

impl fmt::Display for BadRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRequest::Unknown => write!(f, "no such command, or a wrong number of words"),
            BadRequest::LineFormat => write!(f, "a bad key or number"),
            BadRequest::DeleteUsage => write!(f, "a word that delete does not know"),
            BadRequest::Exptime => write!(f, "an expiry time that is not a number"),
            BadRequest::TooManyKeys => write!(f, "too many keys in one get"),
            BadRequest::DataChunk => write!(f, "a value that is not as long as its line says"),
            BadRequest::TooLarge { .. } => write!(f, "a value over the size limit"),
            BadRequest::LineTooLong => write!(f, "a line over the length limit"),
        }
    }
}

impl Error for BadRequest<'_> {}
