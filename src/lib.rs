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
//! - [`reload`]: settings that change while the server runs.
//! - [`cli`]: flags and environment, and what they promise.
//! - [`server`]: the one place that knows all parts: start, drain, stop.
//! - [`gateway`]: listeners, the handshake, tokens.
//! - [`pull`]: who is online?
//! - [`admin`]: metrics, health, and what operators do.
//! - [`revocation`]: signing users out, on all edges.
//! - [`log`], [`signals`], [`limits`], [`swap`]: used by all.
//!
//! Below it are crates of their own: `presenced-presence` (users, pending heartbeats, the flush),
//! `presenced-session` (connected clients), `presenced-memcached` (the client), `presenced-store`
//! (a server of the same protocol), `presenced-protocol`, `presenced-net`.

#![warn(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

pub mod admin;
pub mod cli;
pub mod gateway;
pub mod limits;
pub mod log;
pub mod pull;
pub mod reload;
pub mod revocation;
pub mod server;
pub mod signals;
pub mod swap;
pub mod token_buckets;
pub mod tokens;
