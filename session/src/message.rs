//! A whole message, whichever way it goes.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// Anything.
    Binary(&'a [u8]),
}
