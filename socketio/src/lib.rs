//! Engine.IO 4 and Socket.IO 5 for servers, sans-IO: no socket, no HTTP, no clock, no task. The
//! caller moves bytes and tells the time; this crate says what the bytes mean, which bytes to send,
//! and when a session is over.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod connection;
pub mod end;
pub mod engine;
pub mod limits;
pub mod packet;

pub use connection::{Connection, Effect, Rules, RulesError};
pub use end::End;
