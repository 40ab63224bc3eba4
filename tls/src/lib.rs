//! TLS for connections that mostly sleep: a handshake by rustls, and then a few hundred bytes a connection. For servers; no
//! IO.
//!
//! - [`certificates`]: what a server shows: chains and keys, checked when they are read.
//! - [`handshake`]: how a connection begins. rustls does it.
//! - [`record_layer`]: what is left of the connection then. This crate opens and seals its records.
//! - `record` (types and lengths), `direction` (keys, and numbers of records) and `cipher` (graviola's AEADs) are what it is
//!   made of.
//! - [`limits`]: all bounds.
//!
//! rustls gives out the keys of a connection, but not what the keys after a key update are made of. Only its log of keys is
//! told of that ([`rustls::KeyLog`]), so each handshake has such a log, which goes nowhere. Before the next keys are made,
//! the secret must have led to the present ones; otherwise the connection ends.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod certificates;
mod cipher;
mod direction;
pub mod handshake;
pub mod limits;
mod record;
pub mod record_layer;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

// Its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use rustls;

pub use self::handshake::{Established, Handshake, HandshakeError, Progress, Server, provider};
pub use self::record_layer::{End, Opened, RecordLayer, SealError};
