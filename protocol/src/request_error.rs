//! What can be wrong with a request, and what memcached answers to it.

use core::error::Error;
use core::fmt;

use crate::key::{ReceivedKey, WordError};
use crate::reply::Reply;

/// Something that is no request: what was wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest<'a> {
    /// What was wrong, hence what to answer.
    pub kind: BadRequestKind<'a>,
    /// The first byte that was wrong, counted from the start of the request; where the end of a value
    /// that was swallowed is wrong, from there.
    pub at: usize,
}

/// What was wrong with a request. Each has memcached's answer: [`BadRequest::reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRequestKind<'a> {
    /// No such command, or one with too few or too many words.
    Unknown,
    /// What a browser would send. memcached closes the connection without a word, so that a web
    /// page can't make one talk to it.
    Http,
    /// A key too long or with a NUL, or a number that is none.
    LineFormat,
    /// `delete` with words it doesn't know.
    DeleteUsage,
    /// The expiry time of a `touch` or `gat`, or the delay of a `flush_all`, is not a number.
    Exptime,
    /// What to add or subtract with `incr` and `decr` is not a number.
    Delta,
    /// The value is not followed by a line end where its length says.
    DataChunk,
    /// The value is over [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
    TooLarge {
        /// Where it was to be stored.
        key: ReceivedKey<'a>,
        /// The key is base64 (flag `b`).
        base64: bool,
        /// Whether memcached removes what was stored here before: for `set` and `ms`, as nothing
        /// is better than something stale.
        removes: bool,
    },
    /// The server has no memory for the value ([`Parser::out_of_memory`](crate::request::Parser::out_of_memory)).
    OutOfMemory {
        /// Where it was to be stored.
        key: ReceivedKey<'a>,
        /// The key is base64 (flag `b`).
        base64: bool,
        /// As in [`BadRequestKind::TooLarge`].
        removes: bool,
    },
    /// No line end within [`Limits::line_bytes_max`](crate::Limits::line_bytes_max), nor, for lines
    /// with many keys, within [`Limits::get_line_bytes_max`](crate::Limits::get_line_bytes_max).
    LineTooLong,
    /// More flags than `mg` takes.
    TooManyGetFlags,
    /// More flags than `ms`, `md` or `ma` takes.
    TooManyFlags,
    /// A flag that no meta command has.
    InvalidFlag,
    /// A flag that is there twice, or one from 0x7f on.
    DuplicateFlag,
    /// Anything wrong with the flags of `md` and `ma`, which don't say what.
    InvalidOrDuplicateFlag,
    /// A flag's number is none.
    FlagToken,
    /// The number of the flag `J` is none.
    InitialValue,
    /// The number of the flag `D` is none.
    DeltaValue,
    /// The token of the flag `M` is not one byte.
    ModeLength,
    /// A mode that `ms` does not have.
    StoreMode,
    /// A mode that `ma` does not have.
    ArithmeticMode,
    /// The token of the flag `O` is longer than [`OPAQUE_BYTES_MAX`](crate::key::OPAQUE_BYTES_MAX).
    OpaqueTooLong,
    /// The flag `b`, and the key is not base64.
    KeyEncoding,
}

impl BadRequest<'_> {
    /// What memcached answers, unless the request said `noreply`; to [`BadRequestKind::Http`] it
    /// answers nothing.
    #[must_use]
    pub fn reply(&self) -> Reply<&'static [u8]> {
        let message = self.kind.message().as_bytes();
        match self.kind {
            BadRequestKind::Unknown | BadRequestKind::Http => Reply::Error(b""),
            BadRequestKind::TooLarge { .. } | BadRequestKind::OutOfMemory { .. } => {
                Reply::ServerError(message)
            }
            _ => Reply::ClientError(message),
        }
    }
}

impl BadRequestKind<'_> {
    /// memcached's words after `CLIENT_ERROR` or `SERVER_ERROR`.
    pub(crate) fn message(&self) -> &'static str {
        match self {
            BadRequestKind::Unknown | BadRequestKind::Http => "",
            BadRequestKind::LineFormat => "bad command line format",
            BadRequestKind::DeleteUsage => {
                "bad command line format.  Usage: delete <key> [noreply]"
            }
            BadRequestKind::Exptime => "invalid exptime argument",
            BadRequestKind::Delta => "invalid numeric delta argument",
            BadRequestKind::DataChunk => "bad data chunk",
            BadRequestKind::TooLarge { .. } => "object too large for cache",
            BadRequestKind::OutOfMemory { .. } => "out of memory storing object",
            BadRequestKind::LineTooLong => "line too long",
            BadRequestKind::TooManyGetFlags => "options flags are too long",
            BadRequestKind::TooManyFlags => "options flags too long",
            BadRequestKind::InvalidFlag => "invalid flag",
            BadRequestKind::DuplicateFlag => "duplicate flag",
            BadRequestKind::InvalidOrDuplicateFlag => "invalid or duplicate flag",
            BadRequestKind::FlagToken => "bad token in command line format",
            BadRequestKind::InitialValue => "invalid numeric initial value",
            BadRequestKind::DeltaValue => "invalid numeric delta value",
            BadRequestKind::ModeLength => "incorrect length for M token",
            BadRequestKind::StoreMode => "invalid mode for ms M token",
            BadRequestKind::ArithmeticMode => "invalid mode for ma M token",
            BadRequestKind::OpaqueTooLong => "opaque token too long",
            BadRequestKind::KeyEncoding => "error decoding key",
        }
    }

    /// What is wrong with an opaque token.
    pub(crate) fn opaque(error: WordError) -> Self {
        match error {
            WordError::TooLong { .. } => BadRequestKind::OpaqueTooLong,
            WordError::Empty | WordError::BadByte { .. } => BadRequestKind::FlagToken,
        }
    }
}

impl fmt::Display for BadRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            BadRequestKind::Unknown => "no such command, or a wrong number of words",
            BadRequestKind::Http => "an HTTP request",
            BadRequestKind::LineFormat => "a bad key or number",
            BadRequestKind::DeleteUsage => "a word that delete does not know",
            BadRequestKind::Exptime => "an expiry time that is not a number",
            BadRequestKind::DataChunk => "a value that is not as long as its line says",
            BadRequestKind::TooLarge { .. } => "a value over the size limit",
            BadRequestKind::OutOfMemory { .. } => "a value that there is no memory for",
            BadRequestKind::LineTooLong => "a line over the length limit",
            _ => self.kind.message(),
        };
        write!(f, "bad memcached request: {what} (at byte {})", self.at)
    }
}

impl Error for BadRequest<'_> {}
