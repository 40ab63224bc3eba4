//! Replies that several commands give.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::Reply;

/// What `version` says: the memcached that it behaves as, and no more, since clients (npm's
/// `memcached`) look for three numbers at the line's end.
pub(super) const VERSION: &str = "1.6.18";

/// What memcached says to a value over its item size, and to arithmetic with what is no number.
pub(super) const TOO_LARGE: Reply<&'static [u8]> =
    Reply::ServerError(b"object too large for cache");
/// What memcached says where something else is in all the memory that could be evicted.
pub(super) const OUT_OF_MEMORY: Reply<&'static [u8]> =
    Reply::ServerError(b"out of memory storing object");
/// The same of arithmetic whose result takes more room.
pub(super) const OUT_OF_MEMORY_COUNTING: Reply<&'static [u8]> =
    Reply::ServerError(b"out of memory");
/// The same of a meta command that makes an item that was not there.
pub(super) const OUT_OF_MEMORY_MAKING: Reply<&'static [u8]> =
    Reply::ServerError(b"Out of memory allocating new item");
/// The same of a line that is not whole; the connection closes.
pub(super) const OUT_OF_MEMORY_READING: Reply<&'static [u8]> =
    Reply::ServerError(b"out of memory reading request");
/// See [`TOO_LARGE`].
pub(super) const NOT_NUMERIC: Reply<&'static [u8]> =
    Reply::ClientError(b"cannot increment or decrement non-numeric value");
