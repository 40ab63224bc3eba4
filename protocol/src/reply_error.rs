//! What can be wrong with what a server sent.

use core::error::Error;
use core::fmt;

/// Why the input is not a memcached reply. The connection is of no more use: where the next reply
/// would begin can't be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyError {
    /// What was wrong.
    pub kind: ReplyErrorKind,
    /// The first byte that was wrong, counted from the start of the reply.
    pub at: usize,
}

/// What was wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyErrorKind {
    /// No line end within [`Limits::line_bytes_max`](crate::Limits::line_bytes_max).
    LineTooLong,
    /// A line that ends in `\n` without `\r`, or with a `\r` inside.
    LineEnd,
    /// A line that begins with no reply known here.
    Unknown,
    /// A `VALUE`, `VA`, `ME` or `STAT` line that lacks a field, or has one that can't be.
    Malformed,
    /// A value longer than [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
    ValueTooLarge {
        /// What its line says.
        bytes: u64,
    },
    /// The value is not followed by `\r\n`.
    ValueEnd,
}

impl ReplyErrorKind {
    pub(crate) fn at(self, at: usize) -> ReplyError {
        ReplyError { kind: self, at }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memcached's reply ")?;
        match self.kind {
            ReplyErrorKind::LineTooLong => write!(f, "has a line that is too long"),
            ReplyErrorKind::LineEnd => write!(f, "has a line that does not end in CR LF"),
            ReplyErrorKind::Unknown => write!(f, "is of no known kind"),
            ReplyErrorKind::Malformed => write!(f, "has a line with a bad field"),
            ReplyErrorKind::ValueTooLarge { bytes } => {
                write!(f, "has a value of {bytes} bytes, over the limit")
            }
            ReplyErrorKind::ValueEnd => write!(f, "has a value that does not end in CR LF"),
        }?;
        write!(f, " (at byte {})", self.at)
    }
}

impl Error for ReplyError {}
