//! Connected clients: thousands that mostly sleep, on one worker.
//!
//! - [`worker`]: the owner of everything session-like on one core, and its loop.
//! - [`service`]: what sessions are for; [`dialect`] (pure): what their frames mean.
//! - [`seats`]: how many there are and may be.
//! - [`connection`]: what carries them, a [`transport`] and TLS; [`relay`]: what does where there is no connection; [`memory`]: a
//!   transport for tests and simulations.
//! - `record_layers`: TLS of those that have it.
//! - `coalesce`: when the worker looks at its sessions.
//! - [`slab`] (pure): where sessions live; `buffers`: what most of them have none of.
//! - [`wheel`] (pure): which sessions are to be pinged, and checked for their pongs.
//! - `first_pings` (pure): when a session is pinged first, where that has a time of its own.
//! - `expiry` (pure): when they end with their time, and are told before.
//! - [`handshake`] (pure): RFC 6455 §4.2.
//! - [`frame_header`] (pure): what RFC 6455 requires of a frame before it is decoded.
//! - [`frame`] (pure): frames are decoded in place, with fastwebsockets.
//! - [`assembly`] (pure): messages out of fragments.
//! - [`rate_limit`] (pure): how much a session may send.

pub mod assembly;
mod awaiting_pong;
mod buffers;
pub mod clock;
pub mod close_reason;
mod coalesce;
pub mod config;
pub mod connection;
pub mod dialect;
mod expiry;
mod first_pings;
pub mod frame;
pub mod frame_header;
pub mod handshake;
pub mod limits;
pub mod memory;
mod message;
pub mod metrics;
pub mod rate_limit;
pub mod readiness;
mod record_layers;
pub mod relay;
pub mod seats;
pub mod service;
pub mod slab;
pub mod transport;
pub mod wheel;
pub mod worker;

pub use self::config::Config;
pub use self::seats::{Seat, Seats};
pub use self::slab::SessionId;
