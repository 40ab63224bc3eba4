//! A session's connection in memory, for whoever drives a worker without sockets: tests, fuzzers,
//! simulations.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::rc::Rc;

use super::transport::Transport;

/// Both ends of it: the worker has one clone, its driver the other.
#[derive(Clone, Debug, Default)]
pub struct Memory(Rc<RefCell<Wire>>);

#[derive(Debug)]
struct Wire {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
    /// Bytes that the server may still write.
    room: usize,
    client_has_ended: bool,
    server_has_ended: bool,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire {
            to_server: VecDeque::new(),
            to_client: Vec::new(),
            room: usize::MAX,
            client_has_ended: false,
            server_has_ended: false,
        }
    }
}

impl Memory {
    /// The client sends `bytes`; the worker reads them when it is told that it may.
    pub fn send(&self, bytes: &[u8]) {
        self.0.borrow_mut().to_server.extend(bytes);
    }

    /// The client ends its side.
    pub fn hang_up(&self) {
        self.0.borrow_mut().client_has_ended = true;
    }

    /// Takes what the server has written.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().to_client)
    }

    /// Bounds how many bytes more the server may write; without it, any number.
    pub fn set_room(&self, bytes: usize) {
        self.0.borrow_mut().room = bytes;
    }

    /// Whether the server has ended its side.
    pub fn is_finished(&self) -> bool {
        self.0.borrow().server_has_ended
    }

    /// Whether the worker has let go of it.
    pub fn is_dropped(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.to_server.is_empty() && !wire.client_has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // As a socket's does: a short read means that there is no more.
        let mut count = 0;
        while count < buffer.len() && !wire.to_server.is_empty() {
            count += wire.to_server.read(&mut buffer[count..])?;
        }
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let count = bytes.len().min(wire.room);
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.to_client.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Memory {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn finish(&self) {
        self.0.borrow_mut().server_has_ended = true;
    }
}
