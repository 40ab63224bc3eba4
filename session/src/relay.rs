//! A session without a connection of its own: its frames are relayed, by something that may get a connection for it
//! later.

use std::convert::Infallible;
use std::io::{self, Read, Write};

use crate::close_reason::CloseReason;
use crate::connection::Connection;

/// What carries a session: a connection, or a relay.
#[derive(Debug)]
pub enum Carrier<T, R> {
    /// A connection.
    Connection(Connection<T>),
    /// What relays its frames.
    Relay(R),
}

impl<T, R> From<T> for Carrier<T, R> {
    /// A plain connection.
    fn from(transport: T) -> Carrier<T, R> {
        Carrier::Connection(transport.into())
    }
}

impl<T, R> From<Connection<T>> for Carrier<T, R> {
    fn from(connection: Connection<T>) -> Carrier<T, R> {
        Carrier::Connection(connection)
    }
}

/// What relays a session's frames: the worker reads from it what a client would have sent, masked, and writes to it what
/// a client would read.
///
/// # Contract
///
/// * It never blocks. `read` is as [`Transport`](crate::transport::Transport) has it. Nothing is polled: when there is
///   something to read, an end or a connection included, whoever knows sees to it that
///   [`Service::answer`](crate::service::Service::answer) returns [`Then::Read`](crate::service::Then::Read).
/// * `write` takes all bytes, which are whole frames or the rest of one, or fails, which ends the session as a client
///   that does not read does.
pub trait Relay<T>: Read + Write {
    /// The session has ended, and its last frames are written.
    fn finish(&mut self, end: CloseReason);

    /// The session's connection, once there is one. Nothing is read or written here any more.
    fn settled(&mut self) -> Option<Settled<T>>;
}

/// A session gets a connection.
#[derive(Debug)]
pub struct Settled<T> {
    /// The connection.
    pub connection: Connection<T>,
    /// What was read from it that the session has not seen; with TLS, what was in its records.
    pub read_ahead: Vec<u8>,
    /// Frames that are still to be written to it.
    pub unsent: Vec<u8>,
}

/// There is none.
#[derive(Debug)]
pub struct NoRelay(Infallible);

impl Read for NoRelay {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

impl Write for NoRelay {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

impl<T> Relay<T> for NoRelay {
    fn finish(&mut self, _: CloseReason) {
        match self.0 {}
    }

    fn settled(&mut self) -> Option<Settled<T>> {
        match self.0 {}
    }
}
