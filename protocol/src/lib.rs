//! The memcached text protocol as pure functions over bytes: both directions, no IO, no clock, no
//! task, no global state. The caller reads and writes sockets; this crate says what the bytes mean
//! and which bytes to send. Incomplete input is a value, not an error. Parsing borrows: neither a
//! request nor a reply costs an allocation or a copy, and any cut of the input gives the same
//! result. Whatever the other side sends, nothing here panics, and every length is checked against
//! [`Limits`] before anything waits for it.
//!
//! The reference is `doc/protocol.txt` of memcached; its sections are named where they rule. Where
//! that text is silent, memcached 1.6.18 was asked: `tests/memcached.rs` runs both side by side.
//!
//! # Layout
//!
//! * [`key`]: [`Key`], which can only hold what every memcached reads as one key; [`ReceivedKey`], what
//!   a server takes for one; tokens of meta flags.
//! * [`limits`]: how much the other side may make us hold.
//! * [`request`] and [`reply`]: the types of both, and their parsers.
//! * [`encode`]: writes requests (as a client) and replies (as a server).
//! * `parse`: reads requests (as a server) and replies (as a client).
//! * [`meta`]: the flags of meta commands; [`base64`]: their binary keys.
//! * [`ReplyError`], [`BadRequest`]: what can be wrong with either.
//!
//! # What is there
//!
//! `get gets gat gats set add replace append prepend cas incr decr touch delete flush_all version
//! verbosity stats quit` with `noreply` where it is allowed, `mg ms md ma mn me` with all flags that
//! 1.6.18 knows, and all their replies. To a server everything else is an unknown command (`lru`,
//! `slabs`, `watch`, `cache_memlimit`, `shutdown`, the undocumented `bget`, ...); what `stats
//! cachedump` and `stats detail dump` list, neither of them documented, is no reply to a client.
//!
//! # Where it differs from memcached 1.6.18, on purpose
//!
//! * A client's key has no control byte (`protocol.txt`, *Keys*, forbids it); a server takes it, as
//!   memcached does, in keys but not in tokens. A NUL, where memcached ends the line, is refused in
//!   both.
//! * No byte of a value is ever read as a request; memcached runs the value of many a refused storage
//!   command, and what comes behind one that is longer than its line says. See [`request`].
//! * A storage command may end in `noreply`, and in no other word too many; memcached takes any.
//! * Flags, lengths and levels beyond 32 bits are refused, and expiry times and delays are what they
//!   say; memcached cuts all of them to 32 bits. It adds 2^64 to deltas and the like below -2^63, and
//!   takes numbers with a tab or the like before or behind them; here both are refused.
//! * The bound on a line without a newline does not depend on how the bytes came in, is wider for
//!   `gat` and `gats` too, and a line over it is answered before the connection closes; memcached
//!   closes without a word.
//! * A `get` with a bad key costs only its own answer; in memcached it erases the answers of
//!   commands pipelined before it.
//! * An opaque token that is too long is refused before anything is done; memcached's `ma` has
//!   counted by then.
//!
//! # Features
//!
//! `std` (on): memchr uses what the processor has. Without it the crate is `no_std` and needs
//! `alloc`.
//!
//! # Example
//!
#![doc = include_str!("../README.md")]
#![no_std]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;

pub mod base64;
pub mod encode;
pub mod key;
pub mod limits;
pub mod meta;
pub mod reply;
pub mod request;

mod keys;
mod number;
mod parse;
mod received;
mod reply_error;
mod reply_flag;
mod request_error;
mod scan;

pub use key::{Key, ReceivedKey, WordError};
pub use limits::Limits;
pub use reply::{Reply, ReplyError, ReplyErrorKind};
pub use request::{BadRequest, BadRequestKind, Next, Parsed, Received, Request};
