//! presenced: an edge server that knows who is online now.
//!
//! People hold a WebSocket open; the server pings; each pong marks its user in a lock-free buffer;
//! every few seconds the buffer is flushed to memcached as pipelined `set` commands with a TTL;
//! whoever wants to know pulls. A user who leaves is not refreshed, and the entry expires.
//!
//! # Layout
//!
//! Downward only; a lower part never names a higher one.
//!
//! - [`settings`]: flags and environment, and what they promise.
//! - [`server`]: the one place that knows all parts: start, drain, stop.
//! - [`edge`]: listeners, the handshake, tokens.
//! - [`session`]: connected clients.
//! - [`pull`]: who is online?
//! - [`presence`]: users, pending heartbeats, the flush.
//! - [`memcached`]: the client.
//! - [`store`]: a server of the same protocol, [`embedded`] or ([`store_command`]) alone.
//! - [`admin`]: metrics and health.
//! - [`codec`]: the protocol as codecs of tokio-util.
//! - [`clock`], [`end`], [`limits`], [`listen`], [`log`]: used by all.
//! - [`signals`]: what they do to the process.
//!
//! The protocol itself is the crate `presenced-protocol`.

#![warn(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

pub mod admin;
pub mod cli;
pub mod gateway;
pub mod limits;
pub mod log;
pub mod pull;
pub mod server;
pub mod signals;
