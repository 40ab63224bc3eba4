//! Replies that several commands give.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::Reply;

/// What `version` says: the memcached that it behaves as, and no more, since clients (npm's
/// `memcached`) look for three numbers at the line's end.
pub(super) const VERSION: &str = "1.6.18";

/// What memcached says to a value over its item size, and to arithmetic with what is no number.
pub(super) const TOO_LARGE: Reply<&'static [u8]> =
    Reply::ServerError(b"object too large for cache");
/// See [`TOO_LARGE`].
pub(super) const NOT_NUMERIC: Reply<&'static [u8]> =
    Reply::ClientError(b"cannot increment or decrement non-numeric value");
