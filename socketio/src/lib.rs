//! Engine.IO 4 and Socket.IO 5 for servers, sans-IO: no socket, no HTTP, no clock, no task. The
//! caller moves bytes and tells the time; this crate says what the bytes mean, which bytes to send,
//! and when a session is over.
//!
//! The references are the protocol documents of Engine.IO 4 and Socket.IO 5, and the JavaScript
//! server (engine.io 6.6.12, socket.io 4.8.4) where they are silent.
//!
//! # Layout
//!
//! * [`engine`]: what carries Socket.IO. Requests ([`engine::Query`], [`engine::Request`]), ids
//!   ([`engine::SidKey`]), packets ([`engine::Packet`], [`engine::Payload`], [`engine::Open`]), and
//!   two machines: [`engine::Transport`] (polling, WebSocket, and the way from one to the other) and
//!   [`engine::Heartbeat`].
//! * [`packet`]: Socket.IO packets: [`packet::Packet`] reads them, [`packet::encode`] writes them.
//! * [`connection`]: [`Connection`], which namespaces a client is connected to, and what each packet
//!   asks for.
//! * [`end`]: why a session ends. [`limits`]: every bound.
//!
//! The three machines do not know each other, so that a caller with a heartbeat of its own, or with
//! WebSockets alone, takes what it needs. Each has a `deadline`, when its `tick` has something to do.
//! All return [`End`] when the session is over; [`engine::Transport::end`] then says how to part.
//!
//! # Where it differs from the reference server, on purpose
//!
//! * Whatever is wrong with a request is said before the 101, in JSON. A plain GET with
//!   `transport=websocket` is refused whatever the session. A second WebSocket never takes a session
//!   over.
//! * An upgrade begins with `2probe` and nothing else. Until it is over, every poll is answered at
//!   once.
//! * Text is UTF-8; base64 is padded; a piece of a payload is not empty. An event has JSON, and an id
//!   is at most 2^53-1. What is not so ends the session.
//! * `1` over a WebSocket ends the session, as it does in polling.
//! * An answer to a poll has at most 16 packets, since python-engineio takes no more.
//! * What is queued when the server closes a session is still delivered, then `1`.
//! * Binary events are read and ignored. Their bytes and their time are bounded.
//!
//! # Example
//!
#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod connection;
pub mod end;
pub mod engine;
pub mod limits;
pub mod packet;

pub use connection::{Connection, Effect, Rules, RulesError};
pub use end::End;
