//! The memcached text protocol as pure functions over bytes: both directions, no IO, no clock, no
//! task, no global state. The caller reads and writes sockets; this crate says what the bytes mean
//! and which bytes to send. Incomplete input is a value, not an error. Parsing borrows: neither a
//! request nor a reply costs an allocation or a copy, and any cut of the input gives the same
//! result. Whatever the other side sends, nothing here panics, and every length is checked against
//! [`Limits`] before anything waits for it.
//!
//! The reference is `doc/protocol.txt` of memcached; its sections are named where they rule. Where
//! that text is silent, memcached 1.6.18 was asked, and `tests/requests.rs` notes what it said.
//!
//! # Layout
//!
//! * [`key`]: [`Key`], which can only hold what memcached reads as one key.
//! * [`limits`]: how much the other side may make us hold.
//! * [`encode`]: writes requests (as a client) and replies (as a server).
//! * [`reply`]: parses replies (as a client).
//! * [`request`]: parses requests (as a server).
//! * [`ReplyError`], [`BadRequest`]: what can be wrong with either.
//!
//! # Where it differs from memcached 1.6.18, on purpose
//!
//! * A control byte in a key is refused (`protocol.txt`, *Keys*, forbids it; memcached takes it).
//! * Numbers out of range are refused; memcached cuts flags, expiry times and lengths to 32 bits.
//! * The bound on a line without a newline does not depend on how the bytes came in, and a line
//!   over it is answered before the connection closes; memcached closes without a word.
//! * A `get` with a bad key costs only its own answer; in memcached it erases the answers of
//!   commands pipelined before it.
//!
//! # Example
//!
#![doc = include_str!("../README.md")]

pub mod encode;
pub mod key;
pub mod limits;
pub mod reply;
pub mod request;

mod command;
mod error;
mod line;
mod number;

pub use error::{BadRequest, ReplyError};
pub use key::{Key, KeyError};
pub use limits::Limits;
pub use reply::Reply;
pub use request::{Next, Parsed, Request};
