//! Socket.IO by HTTP long-polling, byte by byte, and the upgrade from there to a WebSocket.

mod bounds;
mod end_of_session;
mod kit;
mod polls;
mod posts;
mod requests;
mod upgrade;
